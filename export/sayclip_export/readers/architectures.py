"""CLIP's vision transformers by open_clip's names, and what a state dict leaves open about them.

Neither the number of heads nor the activation shows in weights; both follow from the name. Sizes are those of
open_clip 3.3's model configurations; a name that ends in ``-quickgelu`` is the same model with QuickGELU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from sayclip_export.models.clip import ACTIVATIONS, ClipImageConfig, ClipTextConfig
from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.overrides import Overrides

Sizes = tuple[ClipImageConfig, ClipTextConfig]
QUICK = "-quickgelu"


def _architecture(
    size: int, patch: int, image: tuple[int, int, int], text: tuple[int, int, int], joint: int, hidden: int = 0
) -> Sizes:
    """``image`` and ``text`` are width, layers, heads; ``hidden`` is the image's feed-forward width, else 4 x width."""
    width, layers, heads = image
    of_image = ClipImageConfig(size, patch, width, layers, heads, hidden or 4 * width, joint, "gelu")
    width, layers, heads = text
    return of_image, ClipTextConfig(49408, 77, width, layers, heads, 4 * width, joint, "gelu")


_BASE, _LARGE, _HUGE = (768, 12, 12), (1024, 24, 16), (1280, 32, 16)
_GELU = {
    "ViT-S-32": _architecture(224, 32, (384, 12, 6), (384, 12, 6), 384),
    "ViT-S-16": _architecture(224, 16, (384, 12, 6), (384, 12, 6), 384),
    "ViT-M-32": _architecture(224, 32, (512, 12, 8), (512, 12, 8), 512),
    "ViT-M-16": _architecture(224, 16, (512, 12, 8), (512, 12, 8), 512),
    "ViT-B-32": _architecture(224, 32, _BASE, (512, 12, 8), 512),
    "ViT-B-32-256": _architecture(256, 32, _BASE, (512, 12, 8), 512),
    "ViT-B-16": _architecture(224, 16, _BASE, (512, 12, 8), 512),
    "ViT-B-16-plus-240": _architecture(240, 16, (896, 12, 14), (640, 12, 10), 640),
    "ViT-L-14": _architecture(224, 14, _LARGE, (768, 12, 12), 768),
    "ViT-L-14-280": _architecture(280, 14, _LARGE, (768, 12, 12), 768),
    "ViT-L-14-336": _architecture(336, 14, _LARGE, (768, 12, 12), 768),
    "ViT-L-16": _architecture(224, 16, _LARGE, (768, 12, 12), 768),
    "ViT-H-14": _architecture(224, 14, _HUGE, (1024, 24, 16), 1024),
    "ViT-H-14-378": _architecture(378, 14, _HUGE, (1024, 24, 16), 1024),
    "ViT-g-14": _architecture(224, 14, (1408, 40, 16), (1024, 24, 16), 1024, 6144),
    "ViT-bigG-14": _architecture(224, 14, (1664, 48, 16), (1280, 32, 20), 1280, 8192),
}


def _quick(sizes: Sizes) -> Sizes:
    return replace(sizes[0], activation="quick_gelu"), replace(sizes[1], activation="quick_gelu")


ARCHITECTURES: dict[str, Sizes] = {
    **_GELU,
    **{f"{name}{QUICK}": _quick(sizes) for name, sizes in _GELU.items()},
}


def resolve(seen: Sizes, openai: bool, overrides: Overrides, where: str) -> tuple[Sizes, str]:
    """``seen`` with heads and activation, and the architecture's name, empty where it has none.

    ``openai``: the checkpoint is OpenAI's own, which settles both: a head is 64 wide, and QuickGELU. Otherwise they
    come from ``architecture``, or from the sizes and ``activation``, ``image.heads``, ``text.heads``.
    Raises CheckpointError, naming the keys to set, where something stays open or contradicts the weights.
    """
    named = overrides.text("architecture", choices=tuple(ARCHITECTURES))
    activation = overrides.text("activation", choices=tuple(ACTIVATIONS))
    heads = overrides.integer("image.heads"), overrides.integer("text.heads")
    if named is not None:
        _check_named(seen, named, (activation, *heads), openai, where)
        return ARCHITECTURES[named], named
    if activation is None and openai:
        activation = "quick_gelu"
    fitting = [name for name, sizes in ARCHITECTURES.items() if _difference(seen, sizes) is None]
    if activation is None:
        raise _open(seen, fitting, heads, where)
    if fitting:
        name = next(name for name in fitting if ARCHITECTURES[name][0].activation == activation)
        known = ARCHITECTURES[name][0].heads, ARCHITECTURES[name][1].heads
    elif openai or None not in heads:
        name, known = "", (seen[0].width // 64, seen[1].width // 64)
    else:
        raise _open(seen, fitting, heads, where)
    chosen = heads[0] or known[0], heads[1] or known[1]
    widths = seen[0].width, seen[1].width
    for key, width, count in zip(("image.heads", "text.heads"), widths, chosen, strict=True):
        if not count or width % count:
            raise refuse(
                f"{where}: {key} is {count}, wanted a divisor of the width, {width}", f"say --set {key}=NUMBER"
            )
    image, text = seen
    sizes = (
        replace(image, heads=chosen[0], activation=activation),
        replace(text, heads=chosen[1], activation=activation),
    )
    return sizes, name if ARCHITECTURES.get(name) == sizes else ""


def _check_named(
    seen: Sizes, named: str, given: tuple[str | None, int | None, int | None], openai: bool, where: str
) -> None:
    """Refuse a name that the weights or another option contradict."""
    image, text = ARCHITECTURES[named]
    if difference := _difference(seen, (image, text)):
        raise refuse(f"{where} is no {named}: {difference}", "name the architecture of these weights, or none")
    if openai and image.activation != "quick_gelu":
        raise refuse(
            f"{where} is OpenAI's own checkpoint, which computes QuickGELU, and {named} computes GELU",
            f"say --set architecture={named}{QUICK}, or none",
        )
    known = {"activation": image.activation, "image.heads": image.heads, "text.heads": text.heads}
    for (key, value), wanted in zip(known.items(), given, strict=True):
        if wanted is not None and wanted != value:
            raise refuse(f"--set {key}={wanted} contradicts {named}, which has {value}", "give one of the two")


def _open(seen: Sizes, fitting: list[str], heads: tuple[int | None, int | None], where: str) -> CheckpointError:
    """The error for what neither the weights nor the options tell."""
    if fitting:
        plain, quick = fitting[0], fitting[-1]
        return refuse(
            f"{where} is a {plain} by its sizes, and weights do not tell whether it computes GELU or QuickGELU",
            f"say --set architecture={plain} for GELU (LAION-2B, DataComp) or {quick} for QuickGELU (OpenAI, MetaCLIP, "
            "DFN)",
        )
    keys = [f"--set {key}=NUMBER" for key, count in zip(("image.heads", "text.heads"), heads, strict=True) if not count]
    return refuse(
        f"{where} is of no known architecture (image {seen[0].width} wide, {seen[0].layers} layers; text "
        f"{seen[1].width} wide, {seen[1].layers} layers), and weights tell neither heads nor activation",
        " ".join(["say", *keys, "--set activation=quick_gelu (or gelu)"]),
    )


def _difference(seen: Sizes, wanted: Sizes) -> str | None:
    """The first size in which two CLIPs differ, in words; heads and activation aside."""
    return next(_differences(seen, wanted), None)


def _differences(seen: Sizes, wanted: Sizes) -> Iterator[str]:
    towers = ("image", asdict(seen[0]), asdict(wanted[0])), ("text", asdict(seen[1]), asdict(wanted[1]))
    for tower, ours, theirs in towers:
        for key, value in ours.items():
            if key not in ("heads", "activation", "eps") and value != theirs[key]:
                yield f"its {tower} tower has {key} {value}, wanted {theirs[key]}"
