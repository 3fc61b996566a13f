"""``sayclip export dino``: a DINO to the image encoder of a bundle, fp32, of a space of its own.

No text lies in that space, so nothing that is typed can be looked for with such a bundle; a speech encoder whose head
was trained for it can be added, see ``head_export``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sayclip.bundle.manifest import Manifest
from sayclip_export.parts import image_part, space_id, write_parts
from sayclip_export.placing import place, require_place
from sayclip_export.readers.dino import read_dino

KIND = "dino"  # of the space


def export_dino(folder: Path, out: Path, say: Callable[[str], None] = lambda line: None) -> Manifest:
    """Convert the DINO in ``folder`` to the image encoder of the bundle ``out``, new or of its space; its manifest.

    ``say`` is given one line a step. Raises CheckpointError for a model that cannot be converted or an ``out`` that is
    no bundle, BundleError where the graph is further than 1e-4 from torch or ``out`` of another space; ``out`` is then
    as it was.
    """
    require_place(out)
    checkpoint = read_dino(folder)
    sizes = checkpoint.image_config
    prepared = f"pictures as {checkpoint.prepared} says" if checkpoint.prepared else "pictures as DINO's own"
    what = f"ViT {sizes.width} wide, patch {sizes.patch} at {sizes.size} pixels"
    say(f"read {checkpoint.weights_format}: {what}, {prepared}")
    provenance = {
        "source": checkpoint.name,
        "sha256": checkpoint.weights_sha256,
        "format": f"Hugging Face ViTModel, {checkpoint.weights_format}",
        "files": dict(checkpoint.files),
    }
    parts = {"image": image_part(checkpoint.image, sizes, checkpoint.picture)}
    out = out if out.name else out.absolute()  # "." is another folder afterwards
    with place(out) as (fresh, before):
        space = space_id(checkpoint, KIND)
        write_parts(fresh, checkpoint.name, space, sizes.embedding, parts, provenance, say, before)
    return Manifest.read(out)
