"""Kernels compiled once and kept on disk, but never older than the files that they are made of.

numba compiles a function anew when its own file has changed, but not when a file that it imports from has.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.registry import cpu_target

# Numba's first function loads all that it can compile. Where another thread compiles meanwhile, that one fails (numba
# 0.68: a KeyError, in 11 of 20 starts); so it is loaded here, by whoever imports the first kernel.
cpu_target.target_context.refresh()


def compiled(function: Callable[..., Any]) -> Any:
    """Numba's compiler, with Python's lock let go while it runs and the machine code kept on disk."""
    dispatcher = numba.njit(cache=True, nogil=True)(function)
    _forget_stale(Path(dispatcher.stats.cache_path), Path(function.__code__.co_filename))
    return dispatcher


def _forget_stale(cache: Path, source: Path) -> None:
    newest = max(path.stat().st_mtime_ns for path in source.parent.glob("*.py"))
    for index in cache.glob(f"{source.stem}.*.nbi"):
        with suppress(OSError):  # another process was faster, or it is not ours to mend
            if index.stat().st_mtime_ns < newest:
                index.unlink()
