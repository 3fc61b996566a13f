"""New graphs into a bundle, as a whole: it gains them, or it stays as it was."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sayclip.bundle.entries import EncoderEntry, GraphEntry, Reference
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.placing import made_beside
from sayclip.errors import BundleError
from sayclip.sessions.reference import compare, read_reference

from .report import REPORT
from .session import run_as_written

MARGIN = 0.005
"""A tolerance lies this far under the cosine seen here: kernels of other machines round otherwise."""
_DTYPES = {1: "float32", 6: "int32", 7: "int64", 10: "float16"}  # onnx.TensorProto's numbers
_WRITABLE = "name another place with --out"


@dataclass(frozen=True)
class Addition:
    """What one encoder of a bundle gains. All files lie in one folder, under the names they get in the bundle."""

    encoder: str
    fp32_sha256: str
    """Of the graph that the new ones were made from."""
    graphs: Mapping[str, tuple[str, ...]]
    """By precision, such as ``int8-u8``: the graph's file, then the files of its weights."""
    tolerance: Mapping[str, float]
    """By precision, the smallest cosine to the reference outputs, see ``tolerance_of``."""
    gates: Mapping[str, Mapping[str, Any]]
    """By precision, what the gates said of it: goes to ``measured["gates"]`` of the manifest."""
    reports: tuple[str, ...] = ()
    """Files that lie beside; the manifest's ``measured["report"]`` names the first."""


def tolerance_of(seen: float, wanted: float, *, passed: bool) -> float:
    """The smallest cosine that a session may reach on the reference inputs of a bundle.

    ``seen`` is the worst that was seen here, of the judged samples and of the reference inputs, ``wanted`` the gate on
    the worst sample. A graph that passed is held to at least the gate; one that was forced to what it reaches. Both
    with ``MARGIN``, rounded down to four digits.
    """
    held = max(seen, wanted) if passed else seen
    return min(max(math.floor((held - MARGIN) * 1e4) / 1e4, 0.0), 1.0)


def reference_cosine(manifest: Manifest, encoder: str, graph: Path, threads: int = 0) -> float:
    """The smallest cosine of what ``graph`` makes of the bundle's reference inputs to the outputs that belong to them.

    What every session is checked by before it runs on a device. Raises BundleError, BackendError.
    """
    inputs, wanted = read_reference(manifest, encoder)
    [outputs] = run_as_written(graph, [inputs], threads)
    missing = sorted(wanted.keys() - outputs.keys())
    if missing:
        raise BundleError(f"{graph.name} gives {', '.join(outputs)}, wanted {', '.join(missing)}", "report this graph")
    seen, known = (np.concatenate([found[name] for name in wanted]) for found in (outputs, wanted))
    value = compare(seen, known, "int8", 0.0).value
    return value if math.isfinite(value) else -1.0


def require_writable(bundle: Path, out: Path) -> None:
    """Refuse, before hours of work, what could not be written at its end. ``out`` is ``bundle`` to change it in place.

    Raises BundleError.
    """
    if out == bundle:
        if out.is_mount() or not (os.access(out, os.W_OK) and os.access(out.parent, os.W_OK)):
            raise BundleError(f"{out} or the folder it lies in cannot be written", _WRITABLE)
        return
    if os.path.lexists(out):
        raise BundleError(f"{out} exists already", "name a folder that is not there, or leave --out out")
    if out.resolve().is_relative_to(bundle.resolve()):
        raise BundleError(f"{out} lies inside the bundle {bundle}", "name a folder outside of it")


@contextlib.contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A folder beside ``out``, on the same disk, for files on their way; gone at the end. Raises BundleError."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.making.", dir=out.parent))
    except OSError as error:
        raise _cannot(out, error) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_graphs(addition: Addition, folder: Path, bundle: Path, out: Path) -> Manifest:
    """The bundle with ``addition``, whose files are moved out of ``folder``, in the place of ``out``.

    ``out`` is ``bundle`` itself, or the place of a copy. Everything else of the bundle stays, but for the files of
    graphs that are replaced. Returns the manifest as it was written and read again. Raises BundleError where it cannot
    be written or the bundle is no longer the one that was calibrated, and nothing has changed then.
    """
    before = Manifest.read(bundle)
    entry = before.entry(addition.encoder)
    if entry.graphs["fp32"].sha256 != addition.fp32_sha256:
        raise BundleError(f"the fp32 graph of {addition.encoder} in {bundle} changed meanwhile", "calibrate it again")
    try:
        with made_beside(out) as fresh:
            copy = _link if out == bundle else shutil.copy2
            shutil.copytree(bundle, fresh, symlinks=True, copy_function=copy, dirs_exist_ok=True)
            for name in _orphans(before, addition) | {
                path.name for path in fresh.glob(f"{addition.encoder}.{REPORT}.*")
            }:
                (fresh / name).unlink(missing_ok=True)
            for name in dict.fromkeys(
                [*(name for files in addition.graphs.values() for name in files), *addition.reports]
            ):
                _settle(folder / name)
                os.replace(folder / name, fresh / name)
            after = replace(before, encoders={**before.encoders, addition.encoder: _entry(entry, addition, fresh)})
            after.write(fresh)
            Manifest.read(fresh)
    except OSError as error:
        raise _cannot(out, error) from error
    return Manifest.read(out)


def _link(source: str, target: str) -> object:
    """The same file under another name where the file system can, so that a large bundle costs no room twice."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return shutil.copy2(source, target)
    return target


def _settle(path: Path) -> None:
    """Let the content reach the disk before its name does."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _orphans(before: Manifest, addition: Addition) -> set[str]:
    """Files of the graphs that are replaced which nothing else of the bundle needs."""
    old: set[str] = set()
    kept: set[str] = set()
    for name, entry in before.encoders.items():
        for precision, graph in entry.graphs.items():
            replaced = name == addition.encoder and precision in addition.graphs
            (old if replaced else kept).update({graph.file, *(file.file for file in graph.data)})
    others = {file.file for file in before.files()} - old
    return old - kept - others


def _entry(entry: EncoderEntry, addition: Addition, folder: Path) -> EncoderEntry:
    fp32 = entry.graphs["fp32"]
    graphs = {precision: _describe(folder, files, fp32) for precision, files in addition.graphs.items()}
    stale = {f"{precision}_min_cosine" for precision in graphs}  # measured on the graphs that were there before
    measured = {key: value for key, value in entry.measured.items() if key not in stale}
    gates = measured.get("gates")
    measured["gates"] = {**(gates if isinstance(gates, dict) else {}), **addition.gates}
    if addition.reports:
        measured["report"] = addition.reports[0]
    reference = entry.reference
    tolerance = {**reference.tolerance, **addition.tolerance}
    return replace(
        entry,
        graphs={**entry.graphs, **graphs},
        reference=Reference(reference.file, reference.sha256, reference.bytes, tolerance),
        measured=measured,
    )


def _describe(folder: Path, files: tuple[str, ...], fp32: GraphEntry) -> GraphEntry:
    """The entry of a graph, which takes and gives the same as ``fp32``. Raises BundleError where it does not."""
    own = describe_file(folder, files[0])
    graph = onnx.load(str(folder / files[0]), load_external_data=False).graph
    for what, seen, wanted in (("inputs", graph.input, fp32.inputs), ("outputs", graph.output, fp32.outputs)):
        if _names(seen) != {(spec.name, spec.dtype) for spec in wanted}:
            raise BundleError(
                f"{files[0]} has the {what} {sorted(_names(seen))}, wanted those of fp32", "report this graph"
            )
    data = tuple(describe_file(folder, name) for name in files[1:])
    return GraphEntry(own.file, own.sha256, own.bytes, data, fp32.inputs, fp32.outputs)


def _names(values: Any) -> set[tuple[str, str]]:
    return {(value.name, _DTYPES.get(value.type.tensor_type.elem_type, "?")) for value in values}


def _cannot(out: Path, error: OSError) -> BundleError:
    return BundleError(f"{out} cannot be written ({error.strerror or error})", f"make room, or {_WRITABLE}")
