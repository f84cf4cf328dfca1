"""What the verbs print in common."""

import json
import shlex
import sys
from dataclasses import asdict, is_dataclass
from typing import Any


def print_json(value: Any) -> None:
    """Print a dataclass or plain value for a program to read."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    print(json.dumps(plain, indent=2, allow_nan=False))


def next_command(command: str) -> str:
    """The line that tells what to run next."""
    return f"next: {command}"


def command_line() -> str:
    """The command as it was typed, for the foot of reports."""
    return shlex.join(["gpt2lab", *sys.argv[1:]])
