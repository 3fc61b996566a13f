"""The state of a machine before and after a run, from all of its cores and sensors to a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .wording import flat

_SUMMED = ("cores", "load", "temperatures", "throttle_counts", "gpus", "available_bytes")
_NAMES = {"nvpmodel": "power mode"}
_THROTTLED = {True: "it throttled", False: "it did not throttle", None: "whether it throttled is not known"}


def described(state: Mapping[str, Any]) -> list[str]:
    """Phrases on ``state`` of a results document; what changed has an arrow, what is unknown is left out.

    Snapshots may lack anything, and hold what this version does not know.
    """
    start, end = _words(state["start"]), _words(state["end"])
    phrases = [_THROTTLED[state["throttled"]]]
    for name in {**start, **end}:
        before, after = start.get(name, ""), end.get(name, "")
        moved = before and after and before != after
        phrases.append(f"{name} {before} → {after}" if moved else f"{name} {before or after}")
    return phrases


def _words(snapshot: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    cores = snapshot.get("cores")
    members = [core for core in cores.values() if isinstance(core, Mapping)] if isinstance(cores, Mapping) else []
    governors = dict.fromkeys(str(core["governor"]) for core in members if core.get("governor"))
    if governors:
        found["governor"] = " and ".join(governors)
    clocks = _numbers(core.get("mhz") for core in members)
    if clocks:
        low, high = f"{min(clocks):.0f}", f"{max(clocks):.0f}"
        found["clock"] = f"{low} MHz" if low == high else f"{low} to {high} MHz"
    load = _numbers(snapshot["load"]) if isinstance(snapshot.get("load"), list) else []
    if load:
        found["load average"] = f"{load[0]:.2f}"
    zones = snapshot.get("temperatures")
    degrees = _numbers(zones.values()) if isinstance(zones, Mapping) else []
    if degrees:
        found["hottest sensor"] = f"{max(degrees):.0f} °C"
    plain = {name: value for name, value in snapshot.items() if name not in _SUMMED and value not in (None, "", [], {})}
    found |= {_NAMES.get(name, name): value for name, value in flat(plain).items()}
    gpus: Any = snapshot.get("gpus")
    gpus = gpus if isinstance(gpus, list) else []
    for place, gpu in enumerate(gpus):
        if isinstance(gpu, Mapping):
            found |= _gpu(gpu, f"GPU {place}" if len(gpus) > 1 else "GPU")
    return found


def _gpu(gpu: Mapping[str, Any], title: str) -> dict[str, str]:
    known = {"clock": ("mhz", "MHz"), "temperature": ("celsius", "°C"), "power": ("watts", "W")}
    seen = {words: (_numbers([gpu.get(field)]), unit) for words, (field, unit) in known.items()}
    return {f"{title} {words}": f"{values[0]:.0f} {unit}" for words, (values, unit) in seen.items() if values}


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
