"""The report on one encoder: what was done to it with which data, what that costs, and who would have it otherwise.

JSON, schema 1. ``schema``, ``encoder``, ``bundle``, ``space``, ``fp32`` (``file``, ``sha256``, ``bytes``) and
``precisions``: by precision (``int8``, which has both forms, or ``fp16``) an object of

- ``written``, ``passed``, ``forced``: whether it is in the bundle, met its gates, is there although it did not;
- ``files``: ``file``, ``sha256``, ``bytes`` of each; ``bytes`` of one form with its weights, ``smaller``: of fp32's;
- ``data``: ``option``, ``calibration`` and ``judged`` (counts), ``seed``, ``sha256`` over the inputs in their order,
  ``left_out`` (``name``, ``reason``), ``repeated``; and ``search``: ``role``, ``truth`` and ``against`` (a count);
- ``gates``: ``gate``, ``seen``, ``wanted``, ``met`` of each; ``missed``: sentences; ``score``; ``mean_cosine``,
  ``worst_cosine``, ``worst_sample`` (a name), ``centred``, ``raw_mean_cosine``, ``raw_worst_cosine``, ``recall`` (its
  change by k), ``keywords``, ``boundaries``, ``boundary_seconds``, ``cosines`` (of every judged sample);
- ``reference_cosine``: the worst of the bundle's reference inputs, and ``tolerance``, what a session is held to;
- ``layers`` (nodes at this precision), ``in_float`` (node to reason), ``given_back`` (``node``, ``to``);
- ``sensitivity``: ``node``, ``op``, ``mean``, ``worst`` with that layer alone at this precision, most damaging first;
- ``int8_share``: of the layers' multiplications, those at this precision; ``points``: every choice of layers that was
  judged on the way: ``given_back`` (a count), ``int8_share``, ``mean``, ``worst``, ``passed``;
- ``scales``: tensor to ``method``, ``absmax_seen``, ``absmax_used``, ``scale``, where the method ``row`` means that
  each row was divided by its largest magnitude; ``smoothed``: norm, projection or activation to alpha;
- ``crosscheck``: None, or the figures of another tool's graph over the same inputs;
- ``options``, ``seconds``, ``peak_memory_bytes`` (of the process, up to then), ``versions``, ``processor``.

A figure that is not a finite number is null.
"""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from sayclip.bundle.entries import FileEntry, GraphEntry
from sayclip.bundle.manifest import Manifest
from sayclip.sessions import cpu

from .data import Inputs
from .gates import Gate, Judgement

SCHEMA = 1
REPORT = "calibration"
"""Reports lie in a bundle as ``<encoder>.calibration.*``."""
LEVELS = 127


class Damage(Protocol):
    """What one layer costs by itself."""

    @property
    def node(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def mean(self) -> float: ...
    @property
    def worst(self) -> float: ...


class Choice(Protocol):
    """A choice of layers that was judged."""

    @property
    def given_back(self) -> int: ...
    @property
    def int8_share(self) -> float: ...
    @property
    def mean(self) -> float: ...
    @property
    def worst(self) -> float: ...
    @property
    def passed(self) -> bool: ...


class Calibrated(Protocol):
    """What calibrating an encoder gives, as far as the report tells it."""

    @property
    def precision(self) -> str: ...
    @property
    def sites(self) -> Sequence[str]: ...
    @property
    def skipped(self) -> Mapping[str, str]: ...
    @property
    def scales(self) -> Mapping[str, tuple[str, float, float]]: ...
    @property
    def smoothed(self) -> Mapping[str, float]: ...
    @property
    def ranked(self) -> Sequence[Damage]: ...
    @property
    def given_back(self) -> Sequence[str]: ...
    @property
    def judgement(self) -> Judgement: ...
    @property
    def seconds(self) -> float: ...
    @property
    def points(self) -> Sequence[Choice]: ...
    @property
    def int8_share(self) -> float: ...


@dataclass(frozen=True)
class Outcome:
    """What became of a calibrated encoder."""

    written: bool
    passed: bool
    """All gates, and that of the reference inputs."""
    forced: bool
    missed: tuple[str, ...]
    files: tuple[FileEntry, ...]
    reference_cosine: float
    tolerance: float


def describe_precision(
    report: Calibrated,
    outcome: Outcome,
    gate: Gate,
    inputs: Inputs,
    option: str,
    fp32_bytes: int,
    options: Mapping[str, Any],
    crosscheck: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One entry of ``precisions``; ``options`` are the command's, with the seed among them."""
    judgement, search = report.judgement, gate.retrieval
    others = None if search is None or search.others is None else len(search.others)
    weights = [file for file in outcome.files if not file.file.endswith(".onnx")]
    graphs = [file for file in outcome.files if file.file.endswith(".onnx")]
    # The two int8 forms share their weights, and a device loads one of them.
    size = max((file.bytes for file in graphs), default=0) + sum(file.bytes for file in weights)
    document: dict[str, Any] = {
        "written": outcome.written,
        "passed": outcome.passed,
        "forced": outcome.forced,
        "files": [file.to_dict() for file in outcome.files],
        "bytes": size,
        "smaller": size / fp32_bytes if fp32_bytes else None,
        "data": {
            "option": option,
            "calibration": len(inputs.calibration),
            "judged": len(inputs.judged),
            "seed": options.get("seed"),
            "sha256": inputs.sha256,
            "left_out": [{"name": name, "reason": reason} for name, reason in inputs.left_out],
            "repeated": inputs.repeated,
            "search": None if search is None else {"role": search.role, "truth": search.truth, "against": others},
        },
        "gates": [
            {"gate": check.gate, "seen": check.seen, "wanted": check.wanted, "met": check.met}
            for check in judgement.checks
        ],
        "missed": list(outcome.missed),
        **judged(judgement, gate),
        "cosines": list(judgement.cosines),
        "reference_cosine": outcome.reference_cosine,
        "tolerance": outcome.tolerance,
        "layers": list(report.sites),
        "in_float": dict(report.skipped),
        "given_back": [{"node": node, "to": report.skipped.get(node, "float")} for node in report.given_back],
        "sensitivity": [
            {"node": layer.node, "op": layer.op, "mean": layer.mean, "worst": layer.worst} for layer in report.ranked
        ],
        "int8_share": report.int8_share,
        "points": [
            {name: getattr(point, name) for name in ("given_back", "int8_share", "mean", "worst", "passed")}
            for point in report.points
        ],
        "scales": {
            tensor: {"method": method, "absmax_seen": seen, "absmax_used": used, "scale": used / LEVELS}
            for tensor, (method, seen, used) in report.scales.items()
        },
        "smoothed": dict(report.smoothed),
        "crosscheck": None if crosscheck is None else dict(crosscheck),
        "options": dict(options),
        "seconds": report.seconds,
        "peak_memory_bytes": peak_memory(),
        "versions": versions(),
        "processor": cpu.model(),
    }
    plain: dict[str, Any] = finite(document)
    return plain


def judged(judgement: Judgement, gate: Gate) -> dict[str, Any]:
    """The figures of a judgement by name."""
    return {
        "score": judgement.score,
        "mean_cosine": judgement.mean,
        "worst_cosine": judgement.worst,
        "worst_sample": gate.name_of(judgement.worst_sample),
        "centred": judgement.centred,
        "raw_mean_cosine": judgement.raw_mean,
        "raw_worst_cosine": judgement.raw_worst,
        "recall": dict(judgement.recall),
        "keywords": judgement.keywords,
        "boundaries": judgement.boundaries,
        "boundary_seconds": judgement.boundary_seconds,
    }


def for_manifest(judgement: Judgement, outcome: Outcome) -> dict[str, Any]:
    """What the manifest says of the gates: ``measured["gates"][precision]``."""
    found = {
        "passed": outcome.passed,
        "forced": outcome.forced,
        "samples": len(judgement.cosines),
        "centred": judgement.centred,
        "mean_cosine": judgement.mean,
        "worst_cosine": judgement.worst,
        **judgement.recall,
    }
    found |= {} if judgement.keywords is None else {"keywords": judgement.keywords}
    found |= {} if judgement.boundaries is None else {"boundaries": judgement.boundaries}
    plain: dict[str, Any] = finite(found)
    return plain


def whole(manifest: Manifest, encoder: str, precisions: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The report; precisions of the report ``before`` stay, where they are of the same fp32 graph."""
    about = _about(manifest, encoder)
    same = before["precisions"] if before.get("fp32") == about else {}
    fields = [set(each) for each in precisions.values()][:1]
    kept = {name: each for name, each in same.items() if [set(each)] == fields}  # another version's may lack some
    return {
        "schema": SCHEMA,
        "encoder": encoder,
        "bundle": manifest.name,
        "space": manifest.space,
        "fp32": about,
        "precisions": {**kept, **precisions},
    }


def earlier(manifest: Manifest, encoder: str) -> dict[str, Any]:
    """The report that lies in the bundle, of the graphs that it still has; nothing where none can be read."""
    try:
        found = json.loads(manifest.path(f"{encoder}.{REPORT}.json").read_bytes())
        kept = {name: each for name, each in found["precisions"].items() if name in manifest.entry(encoder).graphs}
        if found["schema"] != SCHEMA or not all(_tells_of(each, manifest, encoder) for each in kept.values()):
            return {}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}
    return {**found, "precisions": kept}


def _about(manifest: Manifest, encoder: str) -> dict[str, Any]:
    fp32 = manifest.entry(encoder).graphs["fp32"]
    return {"file": fp32.file, "sha256": fp32.sha256, "bytes": graph_bytes(fp32)}


def _tells_of(found: Mapping[str, Any], manifest: Manifest, encoder: str) -> bool:
    """Whether a part of an earlier report is on graphs that are there now, and not on others of their names."""
    known = {file.file: file.sha256 for file in manifest.entry(encoder).files()}
    return all(known.get(file["file"]) == file["sha256"] for file in found["files"])


def graph_bytes(graph: GraphEntry) -> int:
    """Size of a graph with its weights."""
    return graph.bytes + sum(file.bytes for file in graph.data)


def finite(value: Any) -> Any:
    """Plain data for JSON, with None for what is no finite number."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def peak_memory() -> int | None:
    """The most memory this process has had, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Of everything that computes."""
    found = {"python": platform.python_version()}
    for name in ("sayclip", "sayclip-toolkit", "numpy", "onnx", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def to_json(document: Mapping[str, Any]) -> str:
    """The report as it stands in the file."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
