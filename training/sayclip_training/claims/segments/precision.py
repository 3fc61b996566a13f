"""What fp16 and int8 cost: the trained encoder in a bundle of its own, calibrated, and asked through the runtime.

``fp16`` is the fp16 graph on a processor: weights and results of operations are rounded to fp16, sums are not.
Decisions on boundaries are computed in fp32 at every precision, see ``sayclip_calibration.half`` and the gate.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sayclip
from sayclip_calibration.agreement import row_cosines
from sayclip_calibration.cli import OwnCore
from sayclip_calibration.data import Given
from sayclip_calibration.encoders import Request, calibrate_bundle
from sayclip_export.head_export import export_head
from sayclip_training import hashed
from sayclip_training.claims.segments.units import CLOSE, boundaries
from sayclip_training.distillation.teacher import named_folder
from sayclip_training.heads.measures import Agreement, compare
from sayclip_training.heads.pairs import TRAIN
from sayclip_training.heads.recipe import Material

PRECISIONS = ("fp32", "fp16", "int8")
ASKED = 320  # utterances
CALIBRATION = 160  # recordings that training saw: 64 to calibrate with, 64 to judge by, and some to spare
BOUNDARIES = 0.99  # of calibration's gate: the share of boundaries within 20 ms
_ENCODER = "speech"


@dataclass(frozen=True)
class _Heard:
    """Embeddings f32 [N,D], and of each utterance the edges of its units in seconds."""

    embeddings: NDArray[np.float32]
    edges: list[list[float]]


def scores(trained: Path, clip: str, material: Material, rows: Sequence[int]) -> dict[str, Any]:
    """What the head in the file ``trained`` makes of utterances ``rows`` at each precision, from their waves.

    ``f1`` of boundaries against words, ``f1_20_to_fp32`` against those of fp32, ``cosine`` and ``lowest``: to the
    embeddings of fp32, mean and least, ``r1`` and ``r10`` among all pictures. ``problems``: what calibration says of
    graphs that miss its gates. ``clip``: as ``gather`` takes it; its bundle gets the encoder.
    """
    paths = {row: material.pairs.folder / material.pairs.rows[row].speech for row in rows}
    with tempfile.TemporaryDirectory() as made:
        bundle, out, speech = (Path(made, name) for name in ("bundle", "calibrated", "speech"))
        shutil.copytree(named_folder(clip), bundle)
        export_head(trained, bundle)
        speech.mkdir()
        for place, row in enumerate(chosen(material, material.rows(TRAIN), CALIBRATION)):
            source = material.pairs.folder / material.pairs.rows[row].speech
            shutil.copyfile(source, speech / f"{place}{source.suffix}")
        request = Request(
            bundle, Given(speech=speech), out=out, encoders=(_ENCODER,), precisions=("int8", "fp16"),
            limits={"boundaries": BOUNDARIES}, force=True, threads=1,
        )  # fmt: skip
        result = calibrate_bundle(request, OwnCore(), lambda line: None, lambda label, done, total: None)
        heard = {precision: _hear(out, precision, list(paths.values())) for precision in PRECISIONS}
    found: dict[str, Any] = {"n": len(rows), "problems": list(result.failed)}
    return found | {name: _scores(one, heard["fp32"], material, rows) for name, one in heard.items()}


def chosen(material: Material, rows: Sequence[int], count: int) -> list[int]:
    """Up to ``count`` utterances of ``rows``, the same every time, in the order of the table."""
    pairs = material.pairs.rows
    return sorted(sorted(rows, key=lambda row: hashed.number(f"precision\t{pairs[row].speech}"))[:count])


def _hear(bundle: Path, precision: str, paths: Sequence[Path]) -> _Heard:
    with sayclip.load(bundle, backend="onnxruntime", precision=precision, threads=1) as encoder:
        heard = encoder.explain(list(paths))
    edges = [[*(unit.start_s or 0.0 for unit in one.units), one.units[-1].end_s or 0.0] for one in heard]
    return _Heard(np.stack([one.embedding for one in heard]), edges)


def _scores(heard: _Heard, plain: _Heard, material: Material, rows: Sequence[int]) -> dict[str, float]:
    exam = material.exam
    cosines = row_cosines(plain.embeddings, heard.embeddings)
    moved = sum((compare(a[1:-1], b[1:-1], CLOSE) for a, b in zip(heard.edges, plain.edges, strict=True)), Agreement())
    found = exam.recalled(heard.embeddings, rows)
    found |= {"f1": boundaries(heard.edges, [material.pairs.rows[row] for row in rows]).get("f1", 0.0)}
    found |= {"f1_20_to_fp32": moved.f1, "cosine": float(cosines.mean()), "lowest": float(cosines.min())}
    return {name: round(value, 7) for name, value in found.items()}
