"""A head beside the bundle's own speech encoder: the frozen encoder of all arms, read by what it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

import sayclip
from sayclip_training.distillation.teacher import named_folder
from sayclip_training.heads.recipe import Material
from sayclip_training.testbed.captions import SCENES

NAMES = "names"


def scores(clip: str, material: Material, head: nn.Module, asked: Sequence[int]) -> dict[str, Any]:
    """R@1 and R@10 among all pictures by ``own`` encoder and by ``head``, of utterances of ``names`` and of ``scenes``.

    ``n``: how many were ``asked`` of each. ``clip``: as ``gather`` takes it; its bundle has the encoder.
    """
    pairs, found = material.pairs.rows, dict[str, Any]()
    scene = [pairs[row].picture.startswith(f"{SCENES}/") for row in asked]
    with sayclip.load(named_folder(clip), backend="onnxruntime", precision="fp32", threads=1) as encoder:
        for what, wanted in ((NAMES, False), (SCENES, True)):
            rows = [row for row, one in zip(asked, scene, strict=True) if one is wanted]
            if not rows:
                continue
            heard = material.exam.hear(head, rows).embeddings
            by = {"own": encoder.speech([material.pairs.folder / pairs[row].speech for row in rows])} | heard
            found[what] = {"n": len(rows)} | {name: _recalled(material, by[name], rows) for name in by}
    return found


def _recalled(material: Material, embedding: Any, rows: Sequence[int]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in material.exam.recalled(embedding, rows).items()}
