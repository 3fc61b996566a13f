"""Meters of energy: counters and rails as files, and NVML as a small library built on the spot."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from sayclip_benchmarks.host import energy, nvml
from sayclip_benchmarks.host.energy import open_meter, why_none

RAPL = "sys/class/powercap"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def domain(folder: str, name: str, microjoules: int) -> dict[str, str]:
    return {
        f"{RAPL}/{folder}/name": f"{name}\n",
        f"{RAPL}/{folder}/energy_uj": f"{microjoules}\n",
        f"{RAPL}/{folder}/max_energy_range_uj": "9999999\n",
    }


SERVER = {
    **domain("intel-rapl:0", "package-0", 1_000_000),
    **domain("intel-rapl:0:0", "core", 500_000),
    **domain("intel-rapl:0:1", "dram", 500_000),
    **domain("intel-rapl:1", "package-1", 9_000_000),
    **domain("intel-rapl:2", "psys", 1_000_000),
    **domain("intel-rapl-mmio:0", "package-0", 1_000_000),
}


def spend(root: Path, folder: str, microjoules: int) -> None:
    (root / RAPL / folder / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_counted_once_and_counters_wrap(tmp_path: Path) -> None:
    meter = open_meter(tree(tmp_path, SERVER))
    assert meter is not None
    assert (meter.name, meter.covers) == ("rapl", "2 processor packages")
    assert why_none(tmp_path) == ""
    with meter.measure() as joules:
        assert joules() is None
        spend(tmp_path, "intel-rapl:0", 3_500_000)
        spend(tmp_path, "intel-rapl:1", 500_000)  # from 9.0 over 9.999999 to 0.5: 1.5 J
        for folder in ("intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2", "intel-rapl-mmio:0"):
            spend(tmp_path, folder, 9_000_000)
    assert joules() == pytest.approx(2.5 + 1.5)


def test_a_meter_measures_again_and_apart(tmp_path: Path) -> None:
    meter = open_meter(tree(tmp_path, domain("intel-rapl:0", "package-0", 0)))
    assert meter is not None
    seen = []
    for end in (2_000_000, 3_000_000):
        with meter.measure() as joules:
            spend(tmp_path, "intel-rapl:0", end)
        seen.append(joules())
    assert seen == [2.0, 1.0]


def test_a_counter_that_goes_away_gives_nothing(tmp_path: Path) -> None:
    meter = open_meter(tree(tmp_path, domain("intel-rapl:0", "package-0", 0)))
    assert meter is not None
    with meter.measure() as joules:
        shutil.rmtree(tmp_path / "sys")
    assert joules() is None


def test_what_fails_inside_is_not_hidden_and_is_measured(tmp_path: Path) -> None:
    meter = open_meter(tree(tmp_path, domain("intel-rapl:0", "package-0", 0)))
    assert meter is not None
    with pytest.raises(KeyError), meter.measure() as joules:  # noqa: PT012
        spend(tmp_path, "intel-rapl:0", 4_000_000)
        raise KeyError
    assert joules() == 4.0


def test_why_there_is_none(tmp_path: Path) -> None:
    assert open_meter(tmp_path) is None
    assert "no RAPL" in why_none(tmp_path)
    assert "NVML" in why_none(tmp_path, "cuda")
    unreadable = domain("intel-rapl:0", "package-0", 0) | {f"{RAPL}/intel-rapl:0/energy_uj": "denied"}
    assert open_meter(tree(tmp_path, unreadable)) is None
    assert "may not read RAPL" in why_none(tmp_path)


def rail(channel: int, label: str, millivolts: int, milliamperes: int, at: str = "1-0040") -> dict[str, str]:
    folder = f"sys/bus/i2c/drivers/ina3221/{at}/hwmon/hwmon3"
    return {
        f"{folder}/in{channel}_label": f"{label}\n",
        f"{folder}/in{channel}_input": f"{millivolts}\n",
        f"{folder}/curr{channel}_input": f"{milliamperes}\n",
    }


def seconds_of(root: Path, wait: float) -> tuple[float, float]:
    """Joules of ``wait`` seconds, and the seconds they really were."""
    meter = open_meter(root)
    assert meter is not None
    assert meter.name == "ina3221"
    started = time.monotonic()
    with meter.measure() as joules:
        time.sleep(wait)
    taken = joules()
    assert taken is not None
    return taken, time.monotonic() - started


def test_the_input_rail_of_a_jetson_is_all_of_it(tmp_path: Path) -> None:
    tree(tmp_path, {**rail(1, "VDD_IN", 5000, 1200), **rail(2, "VDD_CPU_GPU_CV", 5000, 800), **rail(3, "NC", 0, 0)})
    taken, lasted = seconds_of(tmp_path, 0.15)
    assert taken == pytest.approx(6.0 * lasted, rel=0.1)


def test_rails_are_summed_where_there_is_no_input(tmp_path: Path) -> None:
    first = {**rail(1, "VDD_GPU_SOC", 10_000, 100), **rail(2, "VDD_CPU_CV", 10_000, 200)}
    tree(tmp_path, {**first, **rail(3, "VIN_SYS_5V0", 5000, 400), **rail(2, "VDDQ_VDD2_1V8AO", 5000, 9000, "1-0041")})
    taken, lasted = seconds_of(tmp_path, 0.1)
    assert taken == pytest.approx(5.0 * lasted, rel=0.1)


def test_power_is_followed_while_it_changes(tmp_path: Path) -> None:
    tree(tmp_path, rail(1, "VDD_IN", 5000, 0))
    current = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input"
    threads = threading.active_count()
    meter = open_meter(tmp_path)
    assert meter is not None
    with meter.measure() as joules:
        time.sleep(0.1)
        current.write_text("2000\n")  # 10 W
        time.sleep(0.3)
        current.write_text("0\n")
        time.sleep(0.1)
    taken = joules()
    assert taken is not None
    assert taken == pytest.approx(3.0, rel=0.25)
    assert threading.active_count() == threads


def test_rails_of_unknown_names_are_no_meter(tmp_path: Path) -> None:
    assert open_meter(tree(tmp_path, rail(1, "VDD_SOMETHING", 5000, 100))) is None


LIBRARY = r"""
#include <stdio.h>
#include <string.h>
typedef unsigned long long u64;
static u64 millijoules = 1000;
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.1"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &millijoules; return index; }
int nvmlDeviceGetName(void *gpu, char *text, unsigned size) { snprintf(text, size, "Imagined GPU"); return 0; }
int nvmlDeviceGetClockInfo(void *gpu, int kind, unsigned *mhz) { *mhz = 1000 + kind; return 0; }
int nvmlDeviceGetMaxClockInfo(void *gpu, int kind, unsigned *mhz) { return 3; }
int nvmlDeviceGetTemperature(void *gpu, int kind, unsigned *celsius) { *celsius = 55; return 0; }
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *milliwatts) { *milliwatts = 250000; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *gpu, u64 *reasons) { *reasons = 0x1 | 0x4 | 0x40; return 0; }
int nvmlDeviceGetViolationStatus(void *gpu, int policy, u64 *times) {
  times[0] = 1; times[1] = 2500000000ULL; return policy ? 3 : 0;
}
#ifdef COUNTS
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, u64 *energy) { *energy = (*(u64 *)gpu += 1500); return 0; }
#endif
"""


def built(folder: Path, *flags: str) -> str:
    """A library with some of NVML's functions."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, target = folder / "nvml.c", folder / f"libnvml{len(flags)}.so"
    source.write_text(LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-w", *flags, str(source), "-o", str(target)], check=True)
    return str(target)


def test_a_gpu_tells_its_state(tmp_path: Path) -> None:
    library = built(tmp_path)
    [gpu] = nvml.gpus(library)
    assert nvml.driver(library) == "580.1"
    assert gpu.state() == {
        "name": "Imagined GPU",
        "mhz": 1000,
        "max_mhz": None,
        "memory_mhz": 1002,
        "celsius": 55,
        "watts": 250.0,
        "slowed_by": ["power limit", "temperature (hardware)"],
        "slowed_s": {"power": 2.5},
    }
    assert gpu.joules() is None


def test_a_gpu_that_counts_energy_is_read_twice(tmp_path: Path) -> None:
    meter = energy._nvml(nvml.gpus(built(tmp_path, "-DCOUNTS")))
    assert meter is not None
    assert (meter.name, meter.covers) == ("nvml", "the GPU (Imagined GPU)")
    with meter.measure() as joules:
        pass
    assert joules() == pytest.approx(1.5)


def test_a_gpu_that_counts_none_is_sampled(tmp_path: Path) -> None:
    meter = energy._nvml(nvml.gpus(built(tmp_path)))
    assert meter is not None
    assert "samples" in meter.covers
    started = time.monotonic()
    with meter.measure() as joules:
        time.sleep(0.1)
    taken = joules()
    assert taken is not None
    assert taken == pytest.approx(250.0 * (time.monotonic() - started), rel=0.1)


def test_no_driver_is_no_gpu() -> None:
    assert nvml.gpus("libthere-is-no-such-library.so.1") == []
    assert nvml.driver("libthere-is-no-such-library.so.1") is None
