"""The encoders of a bundle, one by one: calibrated, judged, told of in a report, and put into the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sayclip.bundle.files import describe_file, verify_files
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError, InputError, MissingDependencyError, SayclipError

from .addition import (
    MARGIN,
    Addition,
    add_graphs,
    reference_cosine,
    require_writable,
    tolerance_of,
    workshop,
)
from .crosscheck import crosscheck, interpreter
from .data import OPTIONS, Given, Inputs, choose, find_sources
from .gates import Gate, Limits
from .markdown import markdown
from .plots import draw
from .report import REPORT, Calibrated, Outcome, describe_precision, earlier, for_manifest, graph_bytes, to_json, whole
from .searches import IMAGE, Searches

PRECISIONS = ("int8", "fp16")
SAMPLES = {"speech": 64, "audio": 64}
"""A recording tells much; pictures and texts are quick, and rare channels show in few of them."""
Say = Callable[[str], None]
Progress = Callable[[str, int, "int | None"], None]
Feed = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What is to be done; the fields are the command's options."""

    bundle: Path
    given: Given
    out: Path | None = None
    encoders: tuple[str, ...] = ()
    precisions: tuple[str, ...] = PRECISIONS
    samples: int | None = None
    """Inputs to calibrate with; None for as many as ``SAMPLES`` says."""
    seed: int = 0
    scales: str = "search"
    smooth: bool = True
    exclude: tuple[str, ...] = ()
    limits: Mapping[str, float | None] = field(default_factory=dict)
    """Gates that are not the encoder's default ones, by the names of ``Limits``."""
    force: bool = False
    threads: int = 0
    crosscheck: bool = False

    def samples_of(self, encoder: str) -> int:
        return self.samples if self.samples is not None else SAMPLES.get(encoder, 256)


class Core(Protocol):
    """What turns one fp32 graph into others: see ``recipe.calibrate_encoder`` and ``recipe.halve_encoder``."""

    def int8(
        self,
        fp32: Path,
        out: Path,
        name: str,
        calibration: Sequence[Feed],
        judged: Sequence[Feed],
        gate: Gate,
        request: Request,
        progress: Progress,
    ) -> Calibrated:
        """Write ``<name>.int8.onnx``, ``<name>.int8-u8.onnx`` and ``<name>.int8.data`` into ``out``."""

    def fp16(
        self, fp32: Path, out: Path, name: str, judged: Sequence[Feed], gate: Gate, progress: Progress
    ) -> Calibrated:
        """Write ``<name>.fp16.onnx``, and its weights to ``<name>.fp16.data`` if need be, into ``out``."""


@dataclass
class Result:
    """What was done: reports by encoder, and what went otherwise than asked."""

    bundle: Path
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """A line for each graph that could not be made, or missed its gates and is not in the bundle."""


def calibrate_bundle(request: Request, core: Core, say: Say, progress: Progress) -> Result:
    """Add graphs of lower precision to a bundle, an encoder at a time: what is interrupted keeps those that were done.

    ``say`` takes lines as they come up, ``progress`` a label, how much is done and of how much. Raises SayclipError
    where nothing can be done at all.
    """
    bundle = request.bundle.resolve()
    out = bundle if request.out is None else request.out.absolute()
    manifest = Manifest.read(bundle)
    for name in request.encoders:
        manifest.entry(name)  # refuses what the bundle does not have
    Limits.of(IMAGE, **request.limits)  # refuses what no figure can have
    require_writable(bundle, out)
    verify_files(manifest, progress=lambda done, total: progress("hashing", done, total))
    python = interpreter() if request.crosscheck else None
    result = Result(out)
    inputs = _inputs(manifest, request, result, say, progress)
    searches = Searches(manifest, inputs, request.threads or None, progress)
    for name in _chosen(manifest, request, inputs, result, say):
        limits = Limits.of(name, **request.limits)
        names = tuple(sample.name for sample in inputs[name].judged)
        work = _Work(manifest, name, inputs[name], Gate(limits, searches.retrieval(name), names), request, core, python)
        with workshop(out) as folder:
            addition, report = work.done(folder, result, say, progress)
            result.reports[name] = report
            if addition is not None:
                manifest = add_graphs(addition, folder, manifest.path(""), out)
                say(f"{name}: {', '.join(addition.graphs)} written into {out}")
        searches.manifest = manifest
    return result


def _inputs(manifest: Manifest, request: Request, result: Result, say: Say, progress: Progress) -> dict[str, Inputs]:
    """Inputs of the encoders to calibrate, and of those that search them or are searched by them."""
    found, result.skipped, failed = find_sources(manifest, request.given, request.seed)
    result.left_out += failed
    inputs: dict[str, Inputs] = {}
    asked = {*request.encoders, IMAGE} if request.encoders else set(found)
    for name, sources in found.items():
        if IMAGE not in request.encoders and name not in asked:
            continue
        if "fp32" not in manifest.entry(name).graphs:
            result.skipped[name] = "has no fp32 graph to start from"
            continue

        def reading(done: int, total: int | None, name: str = name) -> None:
            progress(f"reading {name}", done, total)

        option = _option(name, request.given)
        try:
            inputs[name] = choose(name, sources, option, request.samples_of(name), request.seed, reading)
        except InputError as error:
            # Captions are given for another encoder; that their IPA is of no use here is no reason to stop.
            if name != "pronunciation" or request.given.ipa is not None:
                raise
            result.skipped[name] = f"needs {OPTIONS[name]} ({error.problem})"
            continue
        result.left_out += inputs[name].left_out
    for name, reason in result.left_out:
        say(reason if name in reason else f"{name}: {reason}")
    return inputs


def _option(encoder: str, given: Given) -> str:
    """The option that an encoder's inputs came from."""
    return "--text" if encoder == "pronunciation" and given.ipa is None else OPTIONS[encoder].split()[0]


def _chosen(manifest: Manifest, request: Request, inputs: Mapping[str, Inputs], result: Result, say: Say) -> list[str]:
    """The encoders to calibrate, in the bundle's order. Raises BundleError, InputError."""
    for name in request.encoders:
        if name not in inputs:
            raise InputError(f"{name} cannot be calibrated: it {result.skipped[name]}", "give that, or leave it out")
    if not inputs:
        reasons = "; ".join(f"{name} {reason}" for name, reason in result.skipped.items())
        raise InputError(f"nothing in {manifest.name} can be calibrated: {reasons}", "give inputs for an encoder")
    if request.encoders:
        return [name for name in manifest.encoders if name in request.encoders]
    for name, reason in result.skipped.items():
        say(f"{name} is left as it is: it {reason}")
    return list(inputs)


@dataclass(frozen=True)
class _Work:
    """One encoder."""

    manifest: Manifest
    name: str
    inputs: Inputs
    gate: Gate
    request: Request
    core: Core
    python: str | None

    def done(
        self, folder: Path, result: Result, say: Say, progress: Progress
    ) -> tuple[Addition | None, dict[str, Any]]:
        """What the bundle gains, None for nothing, and the report on all that was tried. Files are in ``folder``."""
        graphs: dict[str, tuple[str, ...]] = {}
        tolerance: dict[str, float] = {}
        gates: dict[str, Mapping[str, Any]] = {}
        described: dict[str, dict[str, Any]] = {}
        for precision in self.request.precisions:
            try:
                report = self._calibrate(precision, folder, progress)
                files = _files(self.name, precision, folder)
                outcome = self._outcome(report, files, folder)
                beside = self._crosscheck(folder, result, progress) if precision == "int8" else None
            except SayclipError as error:
                result.failed.append(f"{self.name} {precision}: {error}")
                continue
            described[precision] = self._describe(report, outcome, beside)
            if outcome.written:
                graphs |= files
                tolerance |= dict.fromkeys(files, outcome.tolerance)
                gates[precision] = for_manifest(report.judgement, outcome)
            else:
                missed = "; ".join(outcome.missed)
                remedy = "give more and other inputs, or write it all the same with --force"
                result.failed.append(
                    f"{self.name} {precision} misses its gates and is not written ({missed}): {remedy}"
                )
        document = whole(self.manifest, self.name, described, {})
        if not graphs:
            return None, document
        new = {precision: found for precision, found in described.items() if found["written"]}
        reports = self._reports(whole(self.manifest, self.name, new, earlier(self.manifest, self.name)), folder, say)
        fp32 = self.manifest.entry(self.name).graphs["fp32"].sha256
        return Addition(self.name, fp32, graphs, tolerance, gates, reports), document

    def _calibrate(self, precision: str, folder: Path, progress: Progress) -> Calibrated:
        fp32 = self.manifest.path(self.manifest.entry(self.name).graphs["fp32"].file)
        judged = [sample.feed for sample in self.inputs.judged]
        if precision == "fp16":
            return self.core.fp16(fp32, folder, self.name, judged, self.gate, progress)
        feeds = [sample.feed for sample in self.inputs.calibration]
        return self.core.int8(fp32, folder, self.name, feeds, judged, self.gate, self.request, progress)

    def _outcome(self, report: Calibrated, files: Mapping[str, tuple[str, ...]], folder: Path) -> Outcome:
        """Whether the graphs go into the bundle. The reference inputs have a say: without them no session would run."""
        judgement, wanted = report.judgement, self.gate.limits.worst
        cosines = {
            precision: reference_cosine(self.manifest, self.name, folder / names[0], self.request.threads)
            for precision, names in files.items()
        }
        lowest = min(cosines.values())
        tolerance = tolerance_of(min(judgement.raw_worst, lowest), wanted, passed=True)
        missed = list(judgement.failed)
        if lowest < tolerance:
            missed.append(
                f"worst cosine of the bundle's reference inputs is {lowest:.4f}, wanted at least {wanted - MARGIN:.4g}"
            )
        passed = judgement.passed and not missed
        if not passed:
            tolerance = tolerance_of(min(judgement.raw_worst, lowest), wanted, passed=False)
        written = passed or self.request.force
        entries = tuple(describe_file(folder, name) for name in dict.fromkeys(sum(files.values(), ())))
        return Outcome(written, passed, written and not passed, tuple(missed), entries, lowest, tolerance)

    def _crosscheck(self, folder: Path, result: Result, progress: Progress) -> dict[str, Any] | None:
        if self.python is None:
            return None
        progress(f"{self.name}: cross-check", 0, None)
        fp32 = self.manifest.entry(self.name).graphs["fp32"]
        weights = [self.manifest.path(file.file) for file in fp32.data]
        inputs, threads = self.inputs, self.request.threads
        path = self.manifest.path(fp32.file)
        try:
            return crosscheck(self.python, path, weights, inputs.calibration, inputs.judged, self.gate, threads, folder)
        except SayclipError as error:
            result.failed.append(f"{self.name} cross-check: {error}")
            return None

    def _describe(self, report: Calibrated, outcome: Outcome, beside: Mapping[str, Any] | None) -> dict[str, Any]:
        request = self.request
        options = {
            "seed": request.seed,
            "samples": request.samples_of(self.name),
            "scales": request.scales,
            "smooth": request.smooth,
            "exclude": list(request.exclude),
            "limits": asdict(self.gate.limits),
        }
        size = graph_bytes(self.manifest.entry(self.name).graphs["fp32"])
        option = _option(self.name, request.given)
        return describe_precision(report, outcome, self.gate, self.inputs, option, size, options, beside)

    def _reports(self, document: Mapping[str, Any], folder: Path, say: Say) -> tuple[str, ...]:
        """Write the report; without matplotlib there is no picture."""
        page, data, picture = (f"{self.name}.{REPORT}.{suffix}" for suffix in ("md", "json", "png"))
        written = [page, data]
        try:
            try:
                draw(document, folder / picture)
                written.append(picture)
            except MissingDependencyError as error:
                say(str(error))
            (folder / data).write_text(to_json(document), encoding="utf-8")
            text = markdown(document, picture if picture in written else None)
            (folder / page).write_text(text, encoding="utf-8")
        except OSError as error:
            raise BundleError(f"the report on {self.name} cannot be written ({error.strerror})", "make room") from None
        return tuple(written)


def _files(name: str, precision: str, folder: Path) -> dict[str, tuple[str, ...]]:
    """The files that the core wrote, by the precision that a session asks for. Raises BundleError."""
    data = f"{name}.{precision}.data"
    weights = (data,) if (folder / data).is_file() else ()
    forms = ("int8", "int8-u8") if precision == "int8" else (precision,)
    files = {form: (f"{name}.{form}.onnx", *weights) for form in forms}
    for graph, *_ in files.values():
        if not (folder / graph).is_file():
            raise BundleError(f"{graph} was not written", "this is a bug of calibration, please report it")
    return files
