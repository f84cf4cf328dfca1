"""What a figure needs beside it: the machine, the versions, the peak memory."""

import importlib.metadata
import os
import platform
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import psutil

REPORTED_PACKAGES = ("gpt2lab", "torch", "numpy", "tiktoken", "tokenizers", "pyarrow", "trafilatura", "resiliparse")


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, memory in bytes, system and Python of this machine."""
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def describe_versions(packages: tuple[str, ...] = REPORTED_PACKAGES) -> dict[str, str]:
    """Installed versions of `packages`; absent ones are left out."""
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def report_foot(
    machine: Mapping[str, str | int] | None = None, versions: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Date, machine and versions (these ones unless others are given), as (label, value) pairs for a report's foot."""
    machine = describe_machine() if machine is None else machine
    versions = describe_versions() if versions is None else versions
    memory = f"{int(machine['memory_bytes']) / 2**30:.0f} GiB"
    return [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("machine", f"{machine['processor']}, {machine['cores']} cores, {memory}"),
        ("system", f"{machine['system']}, Python {machine['python']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


class PeakMemory:
    """Watches the resident memory of this process and its children in a thread; use as a context manager.

    `peak` is in bytes: the largest sum over the process tree seen at any look, ten looks a second. Pages that
    processes share are counted once for each, so the figure errs upwards.
    """

    def __init__(self, every_seconds: float = 0.1) -> None:
        self.peak = 0
        self._every = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while True:
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            if self._stop.wait(self._every):
                return
