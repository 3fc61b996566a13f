"""CLIP4VLA's key names: which tensors make which tower, and which are left behind by a named rule.

The towers have the names of OpenAI's CLIP, under ``clip.`` and ``audio.``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sayclip_export.readers.openai_layout import BLOCK, STACKED, TEXT, VISION

_VISION = {**VISION, "type_embedding": "control_embedding"}

_ENDS = r"(weight|bias)"
_RESBLOCK = rf"\d+\.(attn\.in_proj_{_ENDS}|(attn\.out_proj|ln_[12]|mlp\.c_fc|mlp\.c_proj)\.{_ENDS})"
_CROSS = {
    "CLIP-like": rf"cross\.(positional_embedding|token_type_embeddings\.weight|transformer\.resblocks\.{_RESBLOCK})",
    "BERT-like": (
        r"cross\.(embeddings\.((position|token_type|word)_embeddings\.weight|LayerNorm\.(weight|bias|gamma|beta))"
        rf"|encoder\.layer\.\d+\.(attention\.self\.(query|key|value)|attention\.output\.dense"
        rf"|intermediate\.dense|output\.dense)\.{_ENDS}"
        r"|encoder\.layer\.\d+\.(attention\.)?output\.LayerNorm\.(weight|bias|gamma|beta)"
        rf"|pooler\.dense\.{_ENDS})"
    ),
}
_HEADS = {
    "the temperature of training": r"clip\.logit_scale",
    "the score of a pair": rf"similarity_dense\.{_ENDS}",
    "captioning": (
        rf"cls\.predictions\.(bias|transform\.dense\.{_ENDS}|transform\.LayerNorm\.(weight|bias|gamma|beta)"
        r"|decoder\.weight)"
    ),
    "classification": rf"cls_linear\.[01]\.{_ENDS}",
}
DROPPED = {**{f"{layout} fusion": pattern for layout, pattern in _CROSS.items()}, **_HEADS}
"""What is left behind, by name, and the keys it covers: it scores pairs or writes captions, and encodes nothing."""


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from: their key, which third of its rows, and whether it is transposed."""

    key: str
    third: int | None = None
    transposed: bool = False

    def shape(self, ours: Tensor) -> list[int]:
        """The shape that their tensor must have for ``ours``."""
        shape = list(reversed(ours.shape)) if self.transposed else list(ours.shape)
        return shape if self.third is None else [3 * shape[0], *shape[1:]]

    def cut(self, theirs: Tensor) -> Tensor:
        """Our tensor, a view of theirs."""
        part = theirs if self.third is None else theirs.chunk(3)[self.third]
        return part.T if self.transposed else part


def vision_sources(tower: nn.Module, prefix: str) -> dict[str, Source]:
    """Our key to its source, for an image or audio tower under ``prefix``, such as ``clip.visual.``."""
    return dict(_sources(tower, _VISION, prefix))


def text_sources(tower: nn.Module, prefix: str) -> dict[str, Source]:
    """Our key to its source, for a text tower under ``prefix``, such as ``clip.``."""
    return dict(_sources(tower, TEXT, prefix))


def sort_left_over(keys: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Keys that no tower took: those to drop, by rule, and those that no rule knows."""
    dropped: dict[str, list[str]] = {}
    unknown: list[str] = []
    for key in sorted(keys):
        rule = next((rule for rule, pattern in DROPPED.items() if re.fullmatch(pattern, key)), None)
        if rule is None:
            unknown.append(key)
        else:
            dropped.setdefault(rule, []).append(key)
    return dropped, unknown


def cross_layouts(dropped: Mapping[str, object]) -> list[str]:
    """The layouts of the fusion transformer among the rules of ``sort_left_over``; a sound file has one or none."""
    return [layout for layout in _CROSS if f"{layout} fusion" in dropped]


def _sources(tower: nn.Module, names: Mapping[str, str], prefix: str) -> Iterator[tuple[str, Source]]:
    for key in tower.state_dict():
        if key in names:
            # Theirs multiply from the right: [width, joint].
            yield key, Source(prefix + names[key], transposed=key == "projection.weight")
            continue
        _, number, rest = key.split(".", 2)
        part, _, last = rest.rpartition(".")
        block = f"{prefix}transformer.resblocks.{number}."
        kind = part.rpartition(".")[2]
        if kind in STACKED:
            yield key, Source(f"{block}attn.in_proj_{last}", third=STACKED.index(kind))
        else:
            yield key, Source(f"{block}{BLOCK[part]}.{last}")
