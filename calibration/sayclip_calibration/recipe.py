"""From an fp32 encoder and real inputs to int8 or fp16 graphs that meet their gates, with a report on how.

``calibrate_encoder``: patches as products, smoothing, scales, sensitivity, layers given back, both int8 forms.
``halve_encoder``: fp16.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import rowscaled
from .agreement import join
from .batching import BATCH, BATCH_OF, padded
from .gates import Gate, Judgement
from .graph import load_model
from .half import to_half, write_half
from .prepare import Options, prepare
from .probe import Probe
from .qdq import write_placed
from .search import SEARCHED, Point, give_back, rank
from .sensitivity import LayerDamage
from .session import Feed, Runner

__all__ = ["EncoderReport", "Options", "calibrate_encoder", "halve_encoder"]

# Batches on which layers are tried alone: what every layer goes through takes most of the time.
RANKED = 2
RANKED_OF = {"speech": 2, "audio": 2}

Progress = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class EncoderReport:
    """What became of one encoder at one precision, and what it costs on the judged samples."""

    name: str
    precision: str
    sites: tuple[str, ...]
    """Layers at this precision, by node name."""
    skipped: Mapping[str, str]
    """The other layers and the reason they stay in float."""
    scales: Mapping[str, tuple[str, float, float]]
    """Tensor to method, largest magnitude seen, largest magnitude represented; ``row``: each row has its own."""
    smoothed: Mapping[str, float]
    """Norm, value projection or activation to SmoothQuant's exponent; 0 where its channels are only moved."""
    ranked: tuple[LayerDamage, ...]
    given_back: tuple[str, ...]
    judgement: Judgement
    seconds: float
    points: tuple[Point, ...] = ()
    """Every choice of layers that was judged: what accuracy costs in layers."""
    int8_share: float = 1.0
    """Share of the layers' multiplications that int8 does, of those that it could do."""


def calibrate_encoder(
    fp32: Path,
    out: Path,
    name: str,
    calibration: Sequence[Feed],
    judged: Sequence[Feed],
    gate: Gate,
    options: Options,
    progress: Progress,
) -> EncoderReport:
    """Write ``<name>.int8.onnx``, ``<name>.int8-u8.onnx`` and the ``<name>.int8.data`` of both into ``out``.

    ``calibration`` and ``judged``: feeds of one unpadded sample each, as ``minmax.collect_ranges`` describes them;
    ranges come from the former, ``gate`` judges the latter. Where the gate cannot be met the graphs are written all the
    same; ``report.judgement`` says so. The same arguments give the same files to the bit.

    Raises InputError for bad feeds, BundleError for a graph that cannot be read, written, or has nothing to quantise.
    """
    started = time.monotonic()
    original = load_model(fp32)
    way, rounded = prepare(original, name, calibration, options, progress)
    ranges = way.ranges
    batches = padded(judged, BATCH_OF.get(name, BATCH))
    probe = Probe(original, way.model, way.placement, ranges, rounded, batches, threads=options.threads)
    del original

    def labelled(what: str, done: int, total: int | None) -> None:
        progress(f"{name}: {what}", done, total)

    ranked = rank(probe, RANKED_OF.get(name, RANKED), labelled)
    feeds = -(-SEARCHED // BATCH_OF.get(name, BATCH))
    found = give_back(probe, gate, ranked, way.work, feeds, labelled)
    del probe
    final = way.placement.without(found.given_back, "given back to fp32 by the gates")
    write_placed(rowscaled.undone(way.model, found.given_back), out, name, final, ranges, rounded)
    return EncoderReport(
        name,
        "int8",
        final.nodes,
        final.skipped,
        {tensor: way.scales[tensor] for tensor in final.tensors},
        {smoothing.label: smoothing.alpha for smoothing in way.smoothings if smoothing.alpha or smoothing.moved},
        ranked,
        found.given_back,
        found.judgement,
        time.monotonic() - started,
        found.points,
        found.int8_share,
    )


def halve_encoder(
    fp32: Path, out: Path, name: str, judged: Sequence[Feed], gate: Gate, progress: Progress
) -> EncoderReport:
    """Write ``<name>.fp16.onnx``, its weights in ``<name>.fp16.data`` beside it, into ``out``, and judge it.

    ``judged`` and errors as in ``calibrate_encoder``. What overflows or decides stays in fp32, see ``half.to_half``.
    """
    started = time.monotonic()
    model = load_model(fp32)
    judged = padded(judged, BATCH_OF.get(name, BATCH))
    plain = Runner(model)
    reference = join([plain.run_all(feed) for feed in plain.checked(judged)])
    del plain
    half, conversion = to_half(model, judged)
    runner = Runner(half)
    runs = []
    for done, feed in enumerate(judged, start=1):
        runs.append(runner.run_all(feed))
        progress(f"{name}: judging fp16", done, len(judged))
    judgement = gate.judge(reference, join(runs))
    write_half(half, out, name)
    return EncoderReport(
        name,
        "fp16",
        conversion.halves,
        conversion.kept,
        {},
        {},
        (),
        (),
        judgement,
        time.monotonic() - started,
    )
