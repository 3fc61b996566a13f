"""``sayclip export clip``: a published CLIP to image and text encoders of a bundle, both fp32."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sayclip.bundle.manifest import Manifest
from sayclip_export.parts import write_bundle
from sayclip_export.placing import require_place
from sayclip_export.readers.clip import read_clip
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint
from sayclip_export.readers.overrides import Overrides


def export_clip(
    source: str | os.PathLike[str],
    out: Path,
    say: Callable[[str], None] = lambda line: None,
    overrides: Overrides | None = None,
    vocabulary: Path | None = None,
) -> Manifest:
    """Convert the CLIP at ``source`` (folder, file or hub id) to the bundle ``out``, new or added to.

    Returns its manifest. ``say`` is given one line a step; ``overrides`` and ``vocabulary`` are those of ``read_clip``.
    Raises CheckpointError or InputError for a model that cannot be converted or an ``out`` that is no bundle,
    BundleError where a graph is further than 1e-4 from torch or of another space; ``out`` is then as it was.
    """
    require_place(out)
    checkpoint = read_clip(source, overrides, vocabulary)
    say(f"read {checkpoint.weights_format}: {describe(checkpoint)}")
    provenance = {
        "source": checkpoint.name,
        "sha256": checkpoint.weights_sha256,
        "format": checkpoint.layout,
        "files": dict(checkpoint.files),
    }
    context = checkpoint.text_config.context
    return write_bundle(out, checkpoint.name, checkpoint, checkpoint.merges, context, provenance, say)


def describe(checkpoint: ClipCheckpoint) -> str:
    """A checkpoint in a few words, such as ``ViT-B/32 at 224 pixels, quick_gelu, joint width 512``."""
    image = checkpoint.image_config
    size = {(768, 12): "B", (1024, 24): "L", (1280, 32): "H", (1408, 40): "g", (1664, 48): "bigG"}.get(
        (image.width, image.layers)
    )
    name = (
        f"ViT-{size}/{image.patch}" if size else f"ViT {image.width} wide, {image.layers} layers, patch {image.patch}"
    )
    return f"{name} at {image.size} pixels, {image.activation}, joint width {image.embedding}"
