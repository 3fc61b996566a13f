"""Which layers int8 hurts most, and the few to give back to float so that a cosine gate is met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from .cosine import OUTPUT, CosineReport, cosines, embeddings
from .graph import load_model
from .minmax import Range, ranges_of
from .placement import Placement, place
from .qdq import insert_qdq
from .session import Feed, Runner

GATE = 0.998


@dataclass(frozen=True)
class LayerDamage:
    """Cosine of the embedding when this layer alone is int8."""

    node: str
    op: str
    mean: float
    worst: float


@dataclass(frozen=True)
class SensitivityReport:
    """What quantisation does to an encoder and what was given back."""

    gate: float
    before: CosineReport
    """Every layer of the placement in int8."""
    ranked: tuple[LayerDamage, ...]
    """Most damaging first; empty when the gate was met at once."""
    given_back: tuple[str, ...]
    """Layers returned to float, by node name."""
    after: CosineReport
    """With those layers in float."""

    @property
    def met(self) -> bool:
        return self.after.worst >= self.gate

    def table(self) -> str:
        """The ranking as plain text, one layer a line."""
        lines = [f"all layers int8: {self.before}"]
        width = max((len(layer.node) for layer in self.ranked), default=0)
        for layer in self.ranked:
            mark = "fp32" if layer.node in self.given_back else "int8"
            lines.append(f"{layer.node:<{width}}  {layer.op:<6}  {layer.mean:.6f}  {layer.worst:.6f}  {mark}")
        return "\n".join([*lines, f"as chosen: {self.after}"])


class Probe:
    """Cosine to fp32 of one encoder under any choice of int8 layers, on fixed feeds.

    Q/DQ pairs are computed as written, so the figures do not depend on the machine's integer kernels.
    """

    def __init__(
        self, model: ModelProto, feeds: Sequence[Feed], ranges: Mapping[str, Range], output: str = OUTPUT
    ) -> None:
        self._model, self._feeds, self._ranges, self._output = model, feeds, ranges, output
        self._reference = embeddings(Runner(model), feeds, output)

    def __call__(self, placement: Placement) -> CosineReport:
        runner = Runner(insert_qdq(self._model, placement, self._ranges))
        return cosines(self._reference, embeddings(runner, self._feeds, self._output))


Measure = Callable[[Placement], CosineReport]


def rank_layers(probe: Measure, placement: Placement) -> tuple[LayerDamage, ...]:
    """Every layer of a placement measured alone, most damaging first."""
    found = []
    for site in placement.sites:
        alone = placement.without([name for name in placement.nodes if name != site.node], "measured alone")
        report = probe(alone)
        found.append(LayerDamage(site.node, site.op, report.mean, report.worst))
    return tuple(sorted(found, key=lambda layer: (layer.worst, layer.mean, layer.node)))


def give_back(probe: Measure, placement: Placement, min_cosine: float) -> SensitivityReport:
    """Give the most damaging layers back to float one by one until the worst sample reaches ``min_cosine``.

    Then take back every one that turned out not to be needed.
    """
    before = after = probe(placement)
    if before.worst >= min_cosine:
        return SensitivityReport(min_cosine, before, (), (), before)
    ranked = rank_layers(probe, placement)
    chosen: list[str] = []
    for layer in ranked:
        chosen.append(layer.node)
        after = probe(placement.without(chosen, "given back"))
        if after.worst >= min_cosine:
            break
    for node in reversed(chosen[:-1]):  # the last one crossed the gate, so it is needed
        fewer = [other for other in chosen if other != node]
        report = probe(placement.without(fewer, "given back"))
        if report.worst >= min_cosine:
            chosen, after = fewer, report
    return SensitivityReport(min_cosine, before, ranked, tuple(chosen), after)


def choose_exclusions(
    fp32_path: str | Path,
    feeds: Iterable[Feed],
    min_cosine: float = GATE,
    *,
    exclude: Sequence[str] = (),
    output: str = OUTPUT,
    conv_outputs: bool = False,
) -> SensitivityReport:
    """Measure an encoder and choose the layers to leave in float (``report.given_back``).

    The gate holds for the worst sample of ``feeds``. Raises InputError for bad feeds, BundleError for a graph that
    cannot be read.
    """
    kept = list(feeds)
    model = load_model(fp32_path)
    placement = place(model, exclude, output=output, conv_outputs=conv_outputs)
    ranges = ranges_of(model, kept, placement.tensors)
    return give_back(Probe(model, kept, ranges, output), placement, min_cosine)
