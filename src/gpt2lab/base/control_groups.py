"""What the control groups of Linux, such as a container's, leave to this process."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")


def control_groups(controller: str, cgroups: Path = CGROUPS, proc: Path = PROC) -> Iterator[tuple[Path, int]]:
    """The folder and the version (1 or 2) of each group whose `controller` is over this process, innermost first."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, version = cgroups, 2
        elif controller in controllers.split(","):
            top, version = cgroups / controller, 1
        else:
            continue
        group = top / path.lstrip("/")
        while True:
            # In a container the path may be the host's, and the group then be mounted as the top one.
            yield group, version
            if group == top:
                break
            group = group.parent


def usable_processors(cgroups: Path = CGROUPS, proc: Path = PROC) -> int:
    """How many processors this process may keep busy: those it may run on, or fewer where a group limits its time."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group, version in control_groups("cpu", cgroups, proc):
        try:
            if version == 2:
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = ((group / f"cpu.cfs_{what}_us").read_text().strip() for what in ("quota", "period"))
        except (OSError, ValueError):
            continue
        if quota.isdigit() and int(period):  # "max" and -1 are no limit
            usable = min(usable, max(1, int(quota) // int(period)))
    return usable
