"""How much memory this process had at most, for what tests run in processes of their own."""

import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """The largest resident set. Linux's getrusage would hand on the parent's, where that was larger."""
    if sys.platform.startswith("linux"):
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
