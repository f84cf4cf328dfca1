import os

import pytest

from gpt2lab.base.control_groups import usable_processors

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("limits", "usable"),
    [({"run": "max 100000"}, ALL), ({"run": "100000 100000"}, 1), ({"run": "50000 100000"}, 1),
     ({"run/inner": "900000000 100000"}, ALL), ({"run/inner": "max 100000", ".": "150000 100000"}, 1),
     ({"run": "nonsense"}, ALL)],
)  # fmt: skip
def test_time_that_any_group_gives_limits_the_processors(tmp_path, limits, usable):
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/run/inner\n")
    (tmp_path / "run/inner").mkdir(parents=True)
    for group, limit in limits.items():
        (tmp_path / group / "cpu.max").write_text(limit + "\n")
    assert usable_processors(tmp_path, tmp_path) == usable


def test_groups_of_the_first_version_count_too(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "self/cgroup").write_text("5:memory:/x\n4:cpuacct,cpu:/of/the/host\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert usable_processors(tmp_path, tmp_path) == ALL
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("120000\n")
    assert usable_processors(tmp_path, tmp_path) == 1


def test_without_groups_it_is_the_processors_it_may_run_on(tmp_path):
    assert usable_processors(tmp_path, tmp_path) == ALL
