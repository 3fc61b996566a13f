"""What this process may use of the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sayclip.sessions import cpu

GROUPS = {
    "version 2": (
        "0::/a/b\n",
        {"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "150000 100000"},
        1.5,
    ),
    "version 2, no limit": ("0::/a\n", {"sys/fs/cgroup/a/cpu.max": "max 100000"}, None),
    "version 2 in a container": ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
    "version 1": (
        "5:memory:/x\n4:cpu,cpuacct:/x\n",
        {
            "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
        },
        3.0,
    ),
    "version 1, no limit": (
        "4:cpu:/x\n",
        {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"},
        None,
    ),
    "version 1, path of the host": (
        "4:cpu:/docker/1234\n",
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        2.0,
    ),
    "rubbish": ("x\n::::\n0::/../..\n", {"sys/fs/cgroup/cpu.max": "a b c"}, None),
    "none": (None, {}, None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_quotas_of_control_groups(case: str, tmp_path: Path) -> None:
    groups, files, wanted = GROUPS[case]
    if groups is not None:
        files = {"proc/self/cgroup": groups, **files}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu.cgroup_quota(tmp_path) == wanted


@pytest.mark.parametrize(("quota", "cores", "wanted"), [(None, 4, 4), (0.5, 4, 1), (2.9, 4, 2), (16.0, 4, 4)])
def test_threads_stay_within_the_quota(
    quota: float | None, cores: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "cgroup_quota", lambda: quota)
    monkeypatch.setattr(cpu, "usable_cores", lambda: cores)
    assert cpu.default_threads() == wanted


def test_cores_follow_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    read: dict[str, Callable[[str], str]] = {"siblings": lambda n: {"0": "0,2", "2": "0,2"}.get(n, "")}
    monkeypatch.setattr(cpu, "read", lambda path: read["siblings"](path.parts[-3].removeprefix("cpu")))
    assert cpu.usable_cores() == 3  # 0 and 2 are one core, 1 and 3 say nothing about themselves


def test_processors_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    x86 = {"model name": "Some CPU", "model": "17", "flags": "sse2 avx2 avx512_vnni"}
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: x86)
    assert cpu.has_vnni()
    assert cpu.model() == "Some CPU 17 avx2 avx512_vnni"
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: {"Features": "fp asimd asimddp i8mm", "CPU part": "0xd42"})
    assert not cpu.has_vnni()
    assert cpu.features() == ("asimd", "asimddp", "i8mm")
    assert "0xd42" in cpu.model()
