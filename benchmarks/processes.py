"""A contestant in a process of its own: what it prints, its seconds, its peak memory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """A process that ended well: its standard output, its seconds, its largest resident set in bytes."""

    output: str
    seconds: float
    peak_memory_bytes: int


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end; the benchmark ends with its errors where it fails.

    On Linux a child's peak is at least what its parent had taken when it was started: a parent has to stay smaller.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"error: {' '.join(command)} ended with {process.returncode}:\n{errors.read()[-3000:]}")
        unit = 1 if sys.platform == "darwin" else 1024
        return Ended(output.read(), seconds, usage.ru_maxrss * unit)
