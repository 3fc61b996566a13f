"""From trained encoders to the demo bundle: ONNX graphs held against torch, int8 forms, references, manifest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sayclip
from sayclip.bundle.entries import (
    G2P,
    AudioPreprocessing,
    EncoderEntry,
    PhonemePreprocessing,
    PicturePreprocessing,
    Preprocessing,
    TextPreprocessing,
)
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.placing import swap
from sayclip.errors import BundleError
from sayclip_calibration.calibrate import quantise_encoder
from sayclip_export import graphs
from sayclip_export.bundling import describe_encoder, describe_graph, write_reference
from sayclip_export.graphs import Feeds
from sayclip_export.halves import round_to_halves, store_halves
from sayclip_training.demo_data import renders

NOTICE = (
    "This demo bundle knows emoji only; for real photographs export a CLIP: "
    "pip install ./runtime[cpu] . in sayclip's source folder, then sayclip export clip FOLDER --out BUNDLE"
)
MAX_SECONDS = 15.0
MIN_SECONDS = 0.1
WRONG = 1e-3  # difference to torch that stops the recipe; the figures want a tenth of it
LEAST = 0.995  # cosine to torch of the worst input that calibration did not see
GATE = 0.998  # cosine to fp32 of the worst calibration sample; layers go back to float until it holds


@dataclass(frozen=True)
class Trained:
    """One trained encoder: the torch module to export, inputs that calibrate it, others that check it, its history."""

    module: nn.Module
    feeds: Sequence[Feeds]
    reference: Feeds
    checks: Sequence[Feeds]
    history: str


def preprocessing(folder: Path, size: int, context: int, g2p_version: str) -> dict[str, Preprocessing]:
    """What the runtime does before each graph, for the manifest; tokenizer and inventory lie in ``folder``."""
    return {
        "image": PicturePreprocessing(size, renders.MEAN, renders.STD, "bicubic", "shortest"),
        "text": TextPreprocessing(describe_file(folder, "tokenizer.txt"), context),
        "pronunciation": PhonemePreprocessing(
            describe_file(folder, "phonemes.json"), G2P("espeak-ng", g2p_version, "en-us"), context
        ),
        "speech": AudioPreprocessing(16000, "none", MIN_SECONDS, MAX_SECONDS, "log-mel", trim=True),
    }


def write(
    folder: Path,
    work: Path,
    trained: Mapping[str, Trained],
    size: int,
    g2p_version: str,
    say: Callable[[str], None],
) -> Manifest:
    """Write the bundle to ``folder``, which is replaced as a whole only when everything in it is verified."""
    fresh = work / "bundle"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for file in ("tokenizer.txt", "phonemes.json"):
        shutil.copyfile(work / file, fresh / file)
    prepared = preprocessing(fresh, size, 77, g2p_version)
    space = f"emoji-{weights_sha256(trained['image'].module)[:12]}"
    width = graphs.width(trained["image"].module, trained["image"].reference)
    encoders = {name: _encoder(fresh, name, item, space, width, prepared[name], say) for name, item in trained.items()}
    manifest = Manifest(
        name="sayclip-demo-emoji",
        space=space,
        width=width,
        encoders=encoders,
        notice=NOTICE,
        created_by=f"sayclip-toolkit {sayclip.__version__}",
        license="Apache-2.0",
    )
    manifest.write(fresh)
    Manifest.read(fresh)
    _replace(folder, fresh)
    return Manifest.read(folder)


def _replace(folder: Path, fresh: Path) -> None:
    """Put a copy of ``fresh`` where ``folder`` is; the old one stays until the new one lies whole beside it."""
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(fresh, new)
    swap(new, folder)


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _encoder(
    folder: Path, name: str, item: Trained, space: str, width: int, prepared: Preprocessing, say: Callable[[str], None]
) -> EncoderEntry:
    fp32 = folder / f"{name}.fp32.onnx"
    round_to_halves(item.module)  # so that the fp32 graph can be stored in half the bytes, without loss
    graphs.export_graph(name, item.module, [torch.from_numpy(v[:2]) for v in item.reference.values()], fp32)
    store_halves(fp32)
    agreement = graphs.verify(fp32, item.module, item.checks)
    graphs.require(agreement, fp32, WRONG)
    report = quantise_encoder(fp32, folder, name, item.feeds, gate=GATE, conv_outputs=name == "image")
    files = report.files
    int8 = {
        precision: graphs.verify(path, item.module, item.checks)
        for precision, path in (("int8", files.master), ("int8-u8", files.unsigned))
    }
    say(f"{name}: fp32 differs from torch by {agreement.largest:.1e}; {report}; unseen inputs {int8}")
    worst = min(value.cosine for value in int8.values())
    if worst < LEAST:
        raise BundleError(
            f"{name} in int8 has the cosine {worst:.4f} to torch on unseen inputs, wanted {LEAST}", "raise GATE"
        )
    measured: dict[str, Any] = {
        "torch_max_abs_difference": agreement.largest,
        "torch_shapes": agreement.shapes,
        **{f"{precision}_min_cosine": value.cosine for precision, value in int8.items()},
    }
    described = {
        "fp32": describe_graph(folder, fp32.name),
        "int8": describe_graph(folder, files.master.name, [files.data.name]),
        "int8-u8": describe_graph(folder, files.unsigned.name, [files.data.name]),
    }
    provenance = {
        "source": "sayclip train demo",
        "sha256": weights_sha256(item.module),
        "format": "torch state dict",
        "converter": f"sayclip-toolkit {sayclip.__version__}, torch {torch.__version__.split('+')[0]}",
        "training": item.history,
    }
    reference = write_reference(folder, name, item.reference)
    return describe_encoder(folder, name, space, width, described, prepared, reference, provenance, measured)
