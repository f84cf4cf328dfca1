"""gpt2lab: GPT-2, whole. The Python API reads like the command line; see `docs/architecture.md` for the house."""

from gpt2lab.base import errors as errors
