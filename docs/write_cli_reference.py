"""Write docs/cli.md from the help texts of the command line; with --check, only say whether it is up to date."""

import os
import subprocess
import sys
from pathlib import Path

from gpt2lab.cli import VERBS

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """# The command line

Every verb reads a plain folder and leaves one that the next verb reads. This page is made from the help texts by
`make docs`.
"""


def help_of(*arguments: str) -> str:
    """What the command prints, 100 columns wide and without colours."""
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "gpt2lab", *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, f"```\n{help_of()}\n```\n"]
    parts += [f"## gpt2lab {verb}\n\n```\n{help_of(*verb.split())}\n```\n" for verb in VERBS]
    return "\n".join(parts)


def main() -> None:
    """Write the page, or compare it."""
    wanted = page()
    if "--check" not in sys.argv:
        PAGE.write_text(wanted, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit("error: docs/cli.md is not what the help texts say; run: make docs")


if __name__ == "__main__":
    main()
