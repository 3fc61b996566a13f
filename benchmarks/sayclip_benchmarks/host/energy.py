"""Joules that something takes, by the meters that machines have: RAPL, NVML, and the INA3221 of Jetsons.

A counter of energy is read before and after. A meter of power is sampled meanwhile by a thread of its own, and the
energy is the area under the samples (trapezia).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sayclip.sessions.cgroups import read
from sayclip_benchmarks.host import nvml
from sayclip_benchmarks.host.readings import ROOT, found, number, real, whole

SAMPLE_S = 0.02
SHORTEST_S = 0.05
"""Counters step as seldom as this, and meters of power are read twice in it: what is shorter is not measured."""
IDLE_S = 1.0
_INPUTS = (("VDD_IN",), ("POM_5V_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
"""Rails that are all of a module's power: of Orin NX and Nano, of the first Nano, and the sum of AGX Orin's."""
Joules = Callable[[], "float | None"]


class Meter:
    """``name`` (rapl, nvml or ina3221) and ``covers``, what it measures in words.

        with meter.measure() as joules:
            work()
        print(joules())

    What else the machine did meanwhile is in the figure, too.
    """

    def __init__(self, name: str, covers: str, begin: Callable[[], Joules]) -> None:
        self.name, self.covers = name, covers
        self._begin = begin

    @contextmanager
    def measure(self) -> Iterator[Joules]:
        """Gives a function that tells the joules of the block once it has ended, None where the meter failed."""
        end = self._begin()
        taken: list[float | None] = []
        try:
            yield lambda: taken[0] if taken else None
        finally:
            taken.append(end())


def open_meter(root: Path = ROOT, device: str = "cpu") -> Meter | None:
    """A meter for work on ``device``, cpu or cuda; None where there is none, and ``why_none`` says why.

    A GPU's own meter is no measure of the processor's work, and the other way round; a Jetson's is for both. ``root``
    other than ``/`` is for tests: no GPU is asked then.
    """
    meter = _ina3221(root)
    if meter is None:
        meter = _nvml(nvml.gpus() if real(root) else []) if device == "cuda" else _rapl(root)
    return meter


def open_meters(root: Path = ROOT) -> dict[str, Meter]:
    """The meters there are by what they are for, ``cpu`` and ``cuda``."""
    opened = {device: open_meter(root, device) for device in ("cpu", "cuda")}
    return {device: meter for device, meter in opened.items() if meter is not None}


def idle_watts(meter: Meter, seconds: float = IDLE_S) -> float | None:
    """What the meter shows on average while this process waits for ``seconds``, in watts; None where it fails."""
    started = time.monotonic()
    with meter.measure() as joules:
        time.sleep(seconds)
    taken = joules()
    return None if taken is None else taken / (time.monotonic() - started)


def described(meters: Mapping[str, Meter], why: str = "") -> dict[str, Any]:
    """``energy`` as results have it: ``meter``, ``note`` and ``idle_watts`` by meter, which takes ``IDLE_S`` each.

    ``why``: what the note says where there is no meter.
    """
    by_name = {meter.name: meter for meter in meters.values()}
    idle = {name: idle_watts(meter) for name, meter in by_name.items()}
    parts = []
    for name, meter in by_name.items():
        watts = idle[name]
        waited = "" if watts is None else f", {watts:.1f} W before the run, when nothing was timed"
        whose = " for what runs there" if name == "nvml" else ""
        parts.append(f"{meter.covers}{whose}, with whatever else it did{waited}")
    return {"meter": ", ".join(by_name) or None, "note": "; ".join(parts) or why, "idle_watts": idle}


def why_none(root: Path = ROOT, device: str = "cpu") -> str:
    """Why energy is not measurable here, in one line; nothing where ``open_meter`` gives a meter."""
    if open_meter(root, device) is not None:
        return ""
    if device == "cuda":
        return "the GPU's driver (NVML) tells neither energy nor power"
    if any(domain.path.exists() for domain in _domains(root)):
        return "this user may not read RAPL's counters (/sys/class/powercap), root may"
    return "the system shows no meter of the processor's energy (no RAPL, no INA3221)"


@dataclass(frozen=True)
class _Domain:
    """One counter of RAPL in microjoules, which starts again at 0 after ``limit``."""

    path: Path
    limit: int | None

    def since(self, before: int, after: int) -> int:
        if after >= before:
            return after - before
        return after - before + (self.limit or 0) + 1


def _domains(root: Path) -> list[_Domain]:
    """The packages: parts of them (intel-rapl:0:0), and the platform around them, would be counted twice."""
    made = []
    for folder in found(root / "sys/class/powercap", "intel-rapl:*"):
        if folder.name.count(":") == 1 and read(folder / "name").startswith("package"):
            made.append(_Domain(folder / "energy_uj", whole(folder / "max_energy_range_uj")))
    return made


def _rapl(root: Path) -> Meter | None:
    domains = _domains(root)
    if not domains or any(whole(domain.path) is None for domain in domains):
        return None

    def begin() -> Joules:
        before = [whole(domain.path) for domain in domains]

        def end() -> float | None:
            total = 0
            for domain, one in zip(domains, before, strict=True):
                two = whole(domain.path)
                if one is None or two is None:
                    return None
                total += domain.since(one, two)
            return total / 1e6

        return end

    count = len(domains)
    return Meter("rapl", f"{count} processor package{'s' if count > 1 else ''}", begin)


def _nvml(gpus: Sequence[nvml.Gpu]) -> Meter | None:
    """Of the first GPU, which is the one that candidates run on."""
    if not gpus:
        return None
    gpu = gpus[0]
    covers = f"the GPU ({gpu.name() or 'unnamed'})"
    if gpu.joules() is None:
        return Meter("nvml", f"{covers}, by samples of its power", _sampled(gpu.watts)) if gpu.watts() else None

    def begin() -> Joules:
        before = gpu.joules()

        def end() -> float | None:
            after = gpu.joules()
            return None if before is None or after is None else after - before

        return end

    return Meter("nvml", covers, begin)


def _ina3221(root: Path) -> Meter | None:
    rails: dict[str, tuple[Path, Path]] = {}
    for label in found(root / "sys/bus/i2c/drivers", "ina3221*/*/hwmon/hwmon*/in*_label"):
        channel = label.name.removeprefix("in").removesuffix("_label")
        rails[read(label)] = label.with_name(f"in{channel}_input"), label.with_name(f"curr{channel}_input")
    chosen = next((names for names in _INPUTS if all(name in rails for name in names)), None)
    if chosen is None:
        return None

    def watts() -> float | None:
        total = 0.0
        for name in chosen:
            millivolts, milliamperes = (number(path) for path in rails[name])
            if millivolts is None or milliamperes is None:
                return None
            total += millivolts * milliamperes / 1e6
        return total

    if watts() is None:
        return None
    return Meter("ina3221", f"the module ({' + '.join(chosen)}), by samples of its power", _sampled(watts))


def _sampled(watts: Callable[[], float | None]) -> Callable[[], Joules]:
    """What begins a measurement by samples of power every ``SAMPLE_S``, the first and the last at its very ends."""

    def begin() -> Joules:
        samples: list[tuple[float, float]] = []
        stop = threading.Event()

        def sample() -> None:
            value = watts()
            if value is not None:
                samples.append((time.monotonic(), value))

        def follow() -> None:
            while not stop.wait(SAMPLE_S):
                sample()

        sample()
        thread = threading.Thread(target=follow, name="sayclip-power", daemon=True)
        thread.start()

        def end() -> float | None:
            stop.set()
            thread.join()
            sample()
            areas = [(after - before) * (one + two) / 2 for (before, one), (after, two) in pairwise(samples)]
            return sum(areas) if areas else None

        return end

    return begin
