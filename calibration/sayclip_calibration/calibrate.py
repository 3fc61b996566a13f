"""From an fp32 encoder and a few real inputs to its two int8 graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sayclip.errors import InputError

from .cosine import OUTPUT, CosineReport, compare
from .graph import load_model
from .minmax import Range, ranges_of
from .placement import Placement, place
from .qdq import Int8Files, write_placed
from .sensitivity import GATE, Probe, SensitivityReport, give_back
from .session import Feed


@dataclass(frozen=True)
class Int8Report:
    """What became int8, and what it costs."""

    files: Int8Files
    placement: Placement
    """Layers in int8 (``sites``), all others with their reason (``skipped``)."""
    ranges: dict[str, Range]
    sensitivity: SensitivityReport | None
    """None when no gate was asked for."""
    master: CosineReport
    """Signed master against fp32 on the calibration feeds, in ONNX Runtime on this machine."""
    unsigned: CosineReport
    """The same for the x86 form; on x86 without VNNI its products may saturate."""

    @property
    def given_back(self) -> tuple[str, ...]:
        return self.sensitivity.given_back if self.sensitivity else ()

    def __str__(self) -> str:
        counts = f"{len(self.placement.sites)} layers int8, {len(self.placement.skipped)} in float"
        return f"{counts} ({len(self.given_back)} given back); master {self.master}; unsigned {self.unsigned}"


def quantise_encoder(
    fp32_path: str | Path,
    out_dir: str | Path,
    name: str,
    feeds: Iterable[Feed],
    *,
    exclude: Sequence[str] = (),
    gate: float | None = GATE,
    output: str = OUTPUT,
    conv_outputs: bool = False,
) -> Int8Report:
    """Calibrate by min-max, give layers back to float until ``gate`` holds, write both int8 graphs, measure them.

    ``feeds``: see ``collect_ranges``; they are kept in memory. ``gate`` is the cosine to fp32 that the worst sample
    must reach, None for no gate. ``exclude`` and ``conv_outputs``: see ``place``.

    Raises InputError for bad feeds, a gate outside [-1, 1] or a malformed ``exclude``; BundleError for a graph that
    cannot be read, written, or has nothing to quantise.
    """
    if gate is not None and not -1.0 <= gate <= 1.0:
        raise InputError(f"gate is {gate}, wanted a cosine from -1 to 1", "give for example 0.998, or None")
    kept = list(feeds)
    model = load_model(fp32_path)
    placement = place(model, exclude, output=output, conv_outputs=conv_outputs)
    ranges = ranges_of(model, kept, placement.tensors)
    sensitivity = None
    if gate is not None and placement.sites:
        sensitivity = give_back(Probe(model, kept, ranges, output), placement, gate)
        placement = placement.without(sensitivity.given_back, f"given back: cosine gate {gate}")
    files = write_placed(model, out_dir, name, placement, ranges)
    master = compare(fp32_path, files.master, kept, output=output)
    unsigned = compare(fp32_path, files.unsigned, kept, output=output)
    return Int8Report(files, placement, ranges, sensitivity, master, unsigned)
