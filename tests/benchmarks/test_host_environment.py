"""What is said of the machine: from trees of Linux files as machines have them, and of this one."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

from sayclip_benchmarks.demo import speed
from sayclip_benchmarks.host import environment as host
from sayclip_benchmarks.host.packages import install_bytes, versions

ROOT = Path(__file__).resolve().parents[2]
DESKTOP = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD Ryzen 9\n\nprocessor\t: 1\nmodel name\t: AMD Ryzen 9\n",
    "proc/meminfo": "MemTotal:       32768000 kB\nMemFree: 1 kB\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"\n',
    "proc/self/cgroup": "0::/a\n",
    "sys/fs/cgroup/a/cpu.max": "150000 100000",
}
JETSON = {
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
}


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def test_a_desktop(tmp_path: Path) -> None:
    found = host.environment(tree(tmp_path, DESKTOP))
    assert found["cpu"] == "AMD Ryzen 9"
    assert found["memory_bytes"] == 32768000 * 1024
    assert found["distribution"] == "Debian GNU/Linux 12"
    assert found["quota"] == 1.5
    assert not found.keys() & {"jetson", "l4t", "gpu"}


def test_a_jetson(tmp_path: Path) -> None:
    found = host.environment(tree(tmp_path, JETSON))
    assert found["jetson"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["l4t"] == "36.4.3"
    assert found["cpu"] == "NVIDIA Jetson Orin Nano Developer Kit, CPU implementer 0x41, CPU part 0xd42"


def test_another_board_is_no_jetson(tmp_path: Path) -> None:
    found = host.environment(tree(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5\0"}))
    assert "jetson" not in found
    assert found["cpu"] == "Raspberry Pi 5"


def test_nothing_readable_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "proc/cpuinfo").mkdir(parents=True)  # a folder cannot be read as a file
    found = host.environment(tmp_path)
    assert found["cpu"]
    assert "memory_bytes" not in found


def test_this_machine_is_told_flat_and_as_json() -> None:
    found = host.environment()
    assert json.loads(json.dumps(found)) == found
    assert all(isinstance(value, (str, int, float, bool)) for value in found.values())
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert 1 <= found["threads"] <= found["physical_cores"] <= found["cores"]
    assert found["python"] == platform.python_version()
    assert found["numpy"] == metadata.version("numpy")


@pytest.mark.parametrize(("numbers", "wanted"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 9], "0,2-3,9"), ([], "")])
def test_processors_are_listed_as_linux_does(numbers: list[int], wanted: str) -> None:
    assert host._ranges(numbers) == wanted


def test_the_demo_names_what_it_always_named() -> None:
    told = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text(encoding="utf-8"))["environment"]
    seen = speed.environment()
    assert list(seen) == list(told)
    assert {key: type(value) for key, value in seen.items()} == {key: type(value) for key, value in told.items()}


def distribution(site: Path, name: str, size: int, requires: str = "", more: Mapping[str, str] | None = None) -> None:
    """An installed distribution with one module of ``size`` bytes beside its metadata."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (site / f"{name}.py").write_bytes(b"#" * size)
    metadata_text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}"
    (info / "METADATA").write_text(metadata_text, encoding="utf-8")
    for file, content in (more or {}).items():
        (info / file).write_text(content, encoding="utf-8")
    (info / "RECORD").write_text(f"{name}.py,,\ngone.py,,\n", encoding="utf-8")


def test_bytes_follow_requirements_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = (
        'Requires-Dist: bench-two>=1; python_version >= "3"\nRequires-Dist: not-here; sys_platform == "win32"\n'
        'Requires-Dist: Bench.Three (<2); extra == "fast"\n'
    )
    distribution(tmp_path, "bench_one", 1000, needs)
    distribution(tmp_path, "bench_two", 200, "Requires-Dist: bench_one\nRequires-Dist: bench_one[fast]\n")
    distribution(tmp_path, "bench_three", 30, "Requires-Dist: bench_two\n")
    distribution(tmp_path, "bench_four", 4, "Requires-Dist: bench_three; extra == 'x'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert install_bytes(["bench_four"]) == {"bench_four": 4}
    assert install_bytes(["bench_four[x]", "bench-one"]) == {"bench_four[x]": 1234, "bench-one": 1230}
    assert versions(["bench_one", "not-here"]) == {"bench_one": "1.0"}


def test_what_is_missing_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "bench_five", 5, 'Requires-Dist: not-here-at-all; extra == "y"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert install_bytes(["bench_five[y]", "not-here-at-all", "", "bench_five"]) == {"bench_five": 5}


def test_what_is_installed_in_place_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source" / "bench_six"
    source.mkdir(parents=True)
    (source / "__init__.py").write_bytes(b"#" * 600)
    (source / "data.bin").write_bytes(b"#" * 60)
    site = tmp_path / "site"
    site.mkdir()
    more = {"direct_url.json": '{"url": "file:///", "dir_info": {"editable": true}}', "top_level.txt": "bench_six\n"}
    distribution(site, "bench_six", 6, more=more)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(source.parent))
    assert install_bytes(["bench-six"]) == {"bench-six": 666}


def test_sayclip_takes_more_with_a_backend() -> None:
    found = install_bytes(["sayclip", "sayclip[cpu]"])
    assert 10_000_000 < found["sayclip"] < found["sayclip[cpu]"] < 1_000_000_000
