"""`python -m gpt2lab` is `gpt2lab`."""

from gpt2lab.cli import main

main()
