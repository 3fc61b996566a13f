"""Full-size models with random weights: exported, held against torch, built by TensorRT-RTX. Time and memory of each.

What the weights are matters to neither. Every model is exported in a process of its own; an encoder's peak memory is
that of the process so far, and a CLIP's text encoder comes after its image encoder.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sayclip.bundle.entries import PicturePreprocessing
from sayclip_export import graphs, rtx
from sayclip_export.models.clip import ClipImage, ClipText
from sayclip_export.models.hubert import HubertConfig
from sayclip_export.models.speechclip import BranchConfig, SpeechClip, SpeechClipConfig
from sayclip_export.parts import TOKENIZER, Part, image_part, text_part, write_parts
from sayclip_export.readers.architectures import ARCHITECTURES
from sayclip_export.readers.clip_vocabulary import clip_vocabulary
from sayclip_export.readers.picture_settings import MEAN, STD
from sayclip_export.speechclip_export import speech_part

BASE = HubertConfig()
LARGE = HubertConfig(1024, 24, 16, 4096, large=True, conv_bias=True, normalise=True)
WORDS = 8112  # rows of the vocabulary that Flickr8k's captions leave


def clip(name: str, folder: Path) -> dict[str, Part]:
    """Image and text encoders of the architecture ``name``."""
    image, text = ARCHITECTURES[name]
    clip_vocabulary(None, text.vocabulary, text.context).write(folder / TOKENIZER)
    picture = PicturePreprocessing(image.size, MEAN, STD)
    return {
        "image": image_part(fill(ClipImage(image)), image, picture),
        "text": text_part(fill(ClipText(text)), folder, text.context),
    }


def speech(hubert: HubertConfig, clip_name: str, keywords: int, _: Path) -> dict[str, Part]:
    """A SpeechCLIP's speech encoder: parallel, or cascaded where there are ``keywords``."""
    text = replace(ARCHITECTURES[clip_name][1], vocabulary=WORDS)
    heard = {"tokens": 1, "hidden": 4 * hubert.width, "parallel": True}
    read = {"tokens": keywords, "keywords": keywords, "norms": keywords, "text": text}
    branch = BranchConfig(hubert.width, 8 if not keywords else 1, text.embedding, **(read if keywords else heard))
    model = fill(SpeechClip(SpeechClipConfig(hubert, hubert.large, (branch,))))
    if keywords:
        for head in model.branches:
            found = head.keywords
            found.directions, found.barred = found.search_tables(found.text.token_embedding.weight.detach())
            found.clip_ids = torch.arange(WORDS, dtype=torch.int32)
    return {"speech": speech_part(model, None)}


MODELS: dict[str, tuple[Callable[..., dict[str, Part]], tuple[Any, ...]]] = {
    "CLIP ViT-B/32": (clip, ("ViT-B-32-quickgelu",)),
    "CLIP ViT-L/14": (clip, ("ViT-L-14-quickgelu",)),
    "SpeechCLIP base, parallel": (speech, (BASE, "ViT-B-32-quickgelu", 0)),
    "SpeechCLIP large, parallel": (speech, (LARGE, "ViT-L-14-quickgelu", 0)),
    "SpeechCLIP large, cascaded": (speech, (LARGE, "ViT-L-14-quickgelu", 8)),
}


def fill(module: nn.Module) -> Any:
    """Random weights of a trained model's order of size: products of variance 1, norms that change nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim > 1:
                value.normal_(0, value[0].numel() ** -0.5 if "embedding" not in name else 0.02)
            else:
                value.fill_(1.0 if name.endswith("weight") else 0.0)
    return module.eval()


def measure(name: str) -> list[dict[str, Any]]:
    """Export, hold against torch and build every encoder of ``MODELS[name]``; one row an encoder."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            rows = pool.apply(_export, (name, Path(folder)))
        for row in rows:
            row["engine"] = asdict(rtx.build(Path(folder) / row["graph"])) if rtx.installed() else None
    return rows


def _export(name: str, folder: Path) -> list[dict[str, Any]]:
    make, arguments = MODELS[name]
    parts = make(*arguments, folder)
    rows = []
    for encoder, part in parts.items():
        started = time.monotonic()
        width = graphs.width(part.module, part.reference)
        manifest = write_parts(folder, name, "random", width, {encoder: part}, {"source": name}, lambda _: None)
        entry = manifest.entry(encoder)
        graph = entry.graphs["fp32"]
        rows.append(
            {
                "model": name,
                "encoder": encoder,
                "graph": graph.file,
                "bytes": sum(file.bytes for file in (graph, *graph.data)),
                "seconds": time.monotonic() - started,
                "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                **dict(entry.measured),
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        "| model | encoder | parameters, M | graph, MB | exported and held against torch, s | peak memory, GB | "
        "largest difference | TensorRT-RTX engine, s | its peak memory, GB | engine, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        engine = row["engine"]
        built = [engine["seconds"], engine["peak_memory"] / 1e9, engine["bytes"] / 1e6] if engine else None
        cells = [row["model"], row["encoder"], f"{row['parameters'] / 1e6:.0f}", f"{row['bytes'] / 1e6:.0f}"]
        cells += [f"{row['seconds']:.0f}", f"{row['peak_memory'] / 1e9:.1f}", f"{row['torch_max_abs_difference']:.1e}"]
        cells += [f"{built[0]:.0f}", f"{built[1]:.1f}", f"{built[2]:.0f}"] if built else ["not installed", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
