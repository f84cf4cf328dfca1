"""Freed memory is kept where that is asked for, and returned afterwards."""

import platform
import subprocess
import sys

import pytest

# 64 MiB are above the 32 MiB from which glibc maps each block by itself.
PROGRAM = """
import resource
from gpt2lab.base.memory import freed_memory_kept

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        b"1" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

plain, before = faults(4), resident()
with freed_memory_kept():
    faults(1)
    print(plain, faults(4), resident() - before, end=" ")
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed memory is kept with glibc alone")
def test_freed_blocks_are_used_again_and_returned_at_the_end():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    plain, kept, held, after = map(int, done.stdout.split())
    assert kept < plain / 10
    assert held > 2**25 > after
