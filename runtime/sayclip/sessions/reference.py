"""Checking a session against the reference outputs that came with the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sayclip.bundle.fields import refuse
from sayclip.bundle.manifest import Manifest
from sayclip.sessions.base import Array, Session

OUTPUT = "embedding"


@dataclass(frozen=True)
class Verdict:
    """How near a session came to the reference: for fp32 the largest absolute difference (smaller is better), for any
    other precision the smallest cosine (larger is better), beside the tolerance it was held against."""

    measure: str
    value: float
    tolerance: float
    cosine: float = float("nan")
    """The smallest cosine, whatever the measure is, so that precisions can be compared."""

    @property
    def passed(self) -> bool:
        """NaN never passes."""
        if self.measure == "max abs difference":
            return self.value <= self.tolerance
        return self.value >= self.tolerance

    def __str__(self) -> str:
        bound = "at most" if self.measure == "max abs difference" else "at least"
        return f"{self.measure} to the reference {self.value:.6g}, wanted {bound} {self.tolerance:g}"


def read_reference(manifest: Manifest, encoder: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """The reference inputs and the fp32 embeddings [n, d] that belong to them, by name. Raises BundleError."""
    import zipfile  # when a choice was made before, nothing is read here

    path: Path = manifest.path(manifest.entry(encoder).reference.file)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise refuse(f"{path} is not a usable .npz of plain arrays ({error})") from None
    inputs = {name[len("input.") :]: array for name, array in arrays.items() if name.startswith("input.")}
    outputs = {name[len("output.") :]: array for name, array in arrays.items() if name.startswith("output.")}
    wanted = {name: array for name, array in outputs.items() if name.endswith(OUTPUT)}
    width = manifest.width
    shapes = {array.shape for array in wanted.values()}
    rows = wanted[OUTPUT].shape[:1] if OUTPUT in wanted else (0,)
    if not inputs or not all(rows) or shapes != {(*rows, width)}:
        raise refuse(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}, wanted input.* and output.{OUTPUT} [n, {width}]"
        )
    return inputs, wanted


def compare(seen: Array, wanted: Array, precision: str, tolerance: float) -> Verdict:
    """The verdict on embeddings ``seen`` against the reference's, both [n, d]."""
    difference = cosine = float("nan")
    if seen.shape == wanted.shape:
        a, b = seen.astype(np.float64), wanted.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            cosines = np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
            difference, cosine = float(np.max(np.abs(a - b))), float(np.min(cosines))
    if precision == "fp32":
        return Verdict("max abs difference", difference, tolerance, cosine)
    return Verdict("min cosine", cosine, tolerance, cosine)


def check(session: Session, manifest: Manifest, encoder: str, precision: str) -> Verdict:
    """Run the reference inputs through ``session`` and compare every embedding. Raises BundleError, BackendError."""
    inputs, wanted = read_reference(manifest, encoder)
    outputs: Mapping[str, Array] = session.run(inputs)
    missing = sorted(wanted.keys() - outputs.keys())
    if missing:
        has = ", ".join(outputs)
        raise refuse(f"the {precision} graph of {encoder} has the outputs {has}, wanted {', '.join(missing)}")
    seen = np.concatenate([outputs[name] for name in wanted])
    known = np.concatenate(list(wanted.values()))
    return compare(seen, known, precision, manifest.entry(encoder).reference.tolerance[precision])
