"""Memory that was freed and will be needed again."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers and defaults of glibc's malloc.h; mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_THRESHOLD, MMAP_MAX = 128 * 1024, 65_536
NEVER = 2**31 - 1


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within, glibc keeps the memory of freed blocks for the next ones; at the end it returns what is free.

    By default each block above 32 MiB goes back to the system as soon as it is freed, and the next one is mapped and
    zeroed again, a page of 4 KiB at a time. A training step on the processor spends several percent of its time there.
    Holds for the whole process; with another C library nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
        libc.malloc_trim(0)
