"""The state of a machine, read from trees of Linux files, and what is made of two of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sayclip_benchmarks.host.state import judge, snapshot

CPU = "sys/devices/system/cpu"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def cores(governor: str, khz: int, throttled: int, count: int = 2) -> dict[str, str]:
    files = {}
    for number in range(count):
        folder = f"{CPU}/cpu{number}"
        files |= {
            f"{folder}/cpufreq/scaling_governor": f"{governor}\n",
            f"{folder}/cpufreq/scaling_cur_freq": f"{khz}\n",
            f"{folder}/cpufreq/scaling_min_freq": "800000\n",
            f"{folder}/cpufreq/scaling_max_freq": "4000000\n",
            f"{folder}/thermal_throttle/core_throttle_count": f"{throttled}\n",
            f"{folder}/thermal_throttle/package_throttle_count": f"{throttled}\n",
        }
    return files


LAPTOP = {
    **cores("performance", 3_900_000, 7),
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    "proc/loadavg": "0.10 0.20 0.30 1/100 1234\n",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone0/temp": "61000\n",
    "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone1/temp": "-274000\n",
    "sys/class/power_supply/AC/type": "Mains\n",
    "sys/class/power_supply/AC/online": "1\n",
    "sys/class/power_supply/mouse/type": "Battery\n",
    "sys/class/power_supply/mouse/scope": "Device\n",
    "sys/class/power_supply/mouse/status": "Discharging\n",
}


def test_a_laptop(tmp_path: Path) -> None:
    seen = snapshot(tree(tmp_path, LAPTOP))
    assert json.loads(json.dumps(seen)) == seen
    assert list(seen["cores"]) == ["cpu0", "cpu1"]
    assert seen["cores"]["cpu1"] == {"governor": "performance", "mhz": 3900.0, "min_mhz": 800.0, "max_mhz": 4000.0}
    assert seen["boost"] is True
    assert seen["load"] == [0.1, 0.2, 0.3]
    assert seen["temperatures"] == {"x86_pkg_temp": 61.0}
    assert seen["throttle_counts"]["cpu0 core"] == 7
    assert seen["power"] == "mains"
    assert seen["jetson_clocks"] is None
    assert judge(seen, seen) == (False, [])


def test_a_virtual_machine_tells_little(tmp_path: Path) -> None:
    cpuinfo = "processor : 0\ncpu MHz\t\t: 2596.122\n\nprocessor : 1\ncpu MHz\t\t: 2596.122\n"
    seen = snapshot(tree(tmp_path, {"proc/cpuinfo": cpuinfo}))
    assert seen["cores"]["cpu1"]["mhz"] == 2596.122
    assert seen["boost"] is None
    assert seen["power"] is None
    assert judge(seen, seen) == (None, [])


def test_nothing_readable_is_no_error(tmp_path: Path) -> None:
    rubbish = {
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "<unknown>\n",
        f"{CPU}/cpufreq/boost": "\n",
        "proc/loadavg": "a b c\n",
        "sys/class/thermal/thermal_zone0/temp": "\n",
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "many",
    }
    for root in (tmp_path / "none", tree(tmp_path / "rubbish", rubbish)):
        seen = snapshot(root)
        assert seen["cores"] == seen["temperatures"] == seen["throttle_counts"] == {}
        assert seen["load"] == []
        assert judge(seen, seen) == (None, [])
    assert judge({}, {}) == (None, [])


def test_more_than_ten_cores_stay_in_their_order(tmp_path: Path) -> None:
    seen = snapshot(tree(tmp_path, cores("schedutil", 2_000_000, 0, count=12)))
    assert list(seen["cores"]) == [f"cpu{number}" for number in range(12)]


def test_a_jetson_with_pinned_clocks(tmp_path: Path) -> None:
    files = {**cores("schedutil", 4_000_000, 0), "proc/device-tree/model": "NVIDIA Jetson AGX Orin\0"}
    assert snapshot(tree(tmp_path, files))["jetson_clocks"] is False
    for number in range(2):
        (tmp_path / f"{CPU}/cpu{number}/cpufreq/scaling_min_freq").write_text("4000000\n")
    assert snapshot(tmp_path)["jetson_clocks"] is True


CHANGES: dict[str, tuple[dict[str, str], bool, str]] = {
    "throttle counter": (
        {f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "10\n"},
        True,
        "the processor slowed down for its temperature 3 times during the run",
    ),
    "temperature": (
        {"sys/class/thermal/thermal_zone0/temp": "96500\n"},
        True,
        "x86_pkg_temp was at 96 °C, over 95",
    ),
    "clock": (
        {f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "3000000\n"},
        True,
        "cpu0 fell from 3900 to 3000 MHz under the performance governor",
    ),
    "clock by a little": ({f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "3200000\n"}, False, ""),
    "battery": (
        {"sys/class/power_supply/BAT0/type": "Battery\n", "sys/class/power_supply/BAT0/status": "Discharging\n"},
        False,
        "on battery",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_happened_between_is_said(change: str, tmp_path: Path) -> None:
    files, throttled, note = CHANGES[change]
    before = snapshot(tree(tmp_path, LAPTOP))
    after = snapshot(tree(tmp_path, files))
    assert judge(before, after) == (throttled, [note] if note else [])


def test_a_clock_that_may_change_proves_nothing(tmp_path: Path) -> None:
    before = snapshot(tree(tmp_path, {**cores("powersave", 3_900_000, 0)}))
    after = snapshot(tree(tmp_path, {**cores("powersave", 800_000, 0)}))
    assert judge(before, after) == (False, ["clocks were free to change (governor powersave)"])


def test_other_work_at_the_start_is_said(tmp_path: Path) -> None:
    before = snapshot(tree(tmp_path, {**LAPTOP, "proc/loadavg": "1.50 0.2 0.3 1/1 1\n"}))
    quiet = {**before, "load": [0.2, 0.2, 0.2]}
    assert judge(before, quiet) == (False, ["other work was running at the start (load average 1.50)"])
    assert judge(quiet, before) == (False, [])


def gpu(**more: Any) -> dict[str, Any]:
    return {"gpus": [{"name": "GPU", "slowed_by": [], "slowed_s": {"power": 5.0, "thermal": 0.0}, **more}]}


def test_a_gpu_that_slowed_down_is_said() -> None:
    assert judge(gpu(), gpu()) == (False, [])
    assert judge(gpu(), gpu(slowed_by=["power limit"])) == (True, ["GPU ran slower: power limit"])
    more = gpu(slowed_s={"power": 7.5, "thermal": 0.0})
    assert judge(gpu(), more) == (True, ["GPU ran slower for 2.5 s of the run (power)"])
    silent = gpu(slowed_by=None, slowed_s={})
    assert judge(silent, silent) == (None, [])


def test_another_power_mode_is_said() -> None:
    assert judge({"nvpmodel": "MAXN"}, {"nvpmodel": "15W"}) == (None, ["the power mode changed from MAXN to 15W"])


def test_this_machine_can_be_asked() -> None:
    seen = snapshot()
    assert json.loads(json.dumps(seen)) == seen
    assert len(seen["load"]) == 3
    throttled, notes = judge(seen, snapshot())
    assert throttled in (True, False, None)
    assert all(isinstance(note, str) and "\n" not in note for note in notes)
