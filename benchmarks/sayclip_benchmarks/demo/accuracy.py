"""What the demo bundle finds: every way of asking against all pictures."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sayclip
from sayclip.errors import MissingDependencyError
from sayclip.phonemes.distance import distances, metric_coordinates
from sayclip.phonemes.g2p import EspeakG2P
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip_benchmarks.demo.data import Demo

VOICE = "slt"  # flite's voice that training never hears
Scores = NDArray[np.float32]


def measure(demo: Demo, precision: str, cache: Path) -> dict[str, float]:
    """Recall (shares of 1) at one precision (``fp32``, ``int8-u8``), every kind of query against all pictures."""
    with sayclip.load(demo.folder / "bundle", precision=precision) as encoder:
        pictures = encoder.image(list(demo.pictures))
        trained, held = demo.trained_names, sorted(demo.held_out_names)
        everything = trained + held
        waves = recordings([demo.names[i] for i in everything], cache)
        spoken = encoder.speech(waves) @ pictures.T
        typed = encoder.text([demo.names[i] for i in everything]) @ pictures.T
        ipa = EspeakG2P()([demo.names[i] for i in everything])
        heard = encoder.pronunciation(ipa) @ pictures.T
        compound = [row for row in range(len(trained)) if len(demo.names[trained[row]].split()) > 1]
        swapped = encoder.pronunciation(one_swap([ipa[row] for row in compound], demo)) @ pictures.T
        words = demo.trained_keywords
        keyword = encoder.text(words) @ pictures.T
        pairs = sorted(demo.held_out_pairs)
        held_words = encoder.text([word for _, word in pairs]) @ pictures.T
    cut = len(trained)
    own = [[i] for i in everything]
    return {
        "speech_r1": hit(spoken[:cut], own[:cut], 1),
        "speech_r10": hit(spoken[:cut], own[:cut], 10),
        "text_r1": hit(typed[:cut], own[:cut], 1),
        "ipa_r1": hit(heard[:cut], own[:cut], 1),
        "ipa_compound_r1": hit(heard[compound], [own[row] for row in compound], 1),
        "ipa_swapped_r1": hit(swapped, [own[row] for row in compound], 1),
        "keyword_r5": hit(keyword, [demo.bearers(word) for word in words], 5),
        "held_speech_r1": hit(spoken[cut:], own[cut:], 1),
        "held_speech_r10": hit(spoken[cut:], own[cut:], 10),
        "held_text_r1": hit(typed[cut:], own[cut:], 1),
        "held_text_r10": hit(typed[cut:], own[cut:], 10),
        "held_ipa_r1": hit(heard[cut:], own[cut:], 1),
        "held_pair_r5": hit(held_words, [[i] for i, _ in pairs], 5),
        "held_pair_r50": hit(held_words, [[i] for i, _ in pairs], 50),
        "names": float(cut),
        "held_names": float(len(held)),
        "keywords": float(len(words)),
        "held_pairs": float(len(pairs)),
    }


def hit(scores: Scores, right: Sequence[Sequence[int]], k: int) -> float:
    """Share of rows of ``scores`` [N,P] with one of their ``right`` columns among the best ``k``."""
    if not len(scores):
        return float("nan")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float(np.mean([bool(set(row) & set(wanted)) for row, wanted in zip(best.tolist(), right, strict=True)]))


def one_swap(transcripts: Sequence[str], demo: Demo, seed: int = 0) -> list[str]:
    """Each transcript with one random segment replaced by its nearest neighbour on the chart that the bundle knows."""
    path = demo.folder / "bundle" / "phonemes.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    inventory = PhonemeInventory.from_file(path)
    known = [entry for entry in content["symbols"] if entry["id"] is not None]
    points = metric_coordinates(np.array([entry["vector"] for entry in known], np.float32), content["attributes"])
    nearest: dict[str, str] = {}
    for row, entry in enumerate(known):
        gaps = distances(points[row], points)
        gaps[row] = np.inf
        nearest[entry["symbol"]] = known[int(np.argmin(gaps))]["symbol"]
    rng = np.random.default_rng(seed)
    swapped = []
    for ipa in transcripts:
        segments = inventory.segments(ipa)
        places = [i for i, segment in enumerate(segments) if segment in nearest]
        at = int(rng.choice(places))
        segments[at] = nearest[segments[at]]
        swapped.append("".join(segments))
    return swapped


def recordings(texts: Sequence[str], folder: Path, voices: Sequence[str] = (VOICE,)) -> list[Path]:
    """``texts`` said by flite's ``voices`` in turn, by default the held-out one, as WAV files kept in ``folder``."""
    command = shutil.which("flite")
    if command is None:
        raise MissingDependencyError("the held-out voice needs flite", "apt-get install flite")
    folder.mkdir(parents=True, exist_ok=True)

    def say(text: str, voice: str) -> Path:
        target = folder / (re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] + f".{voice}.wav")
        if not target.exists():
            part = target.with_suffix(".part")
            subprocess.run([command, "-voice", voice, "-t", text, "-o", str(part)], check=True, capture_output=True)
            part.replace(target)
        return target

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(say, texts, itertools.cycle(voices)))


def identity(demo: Demo) -> dict[str, Any]:
    """Space and fp32 graph hashes: which bundle a report is of."""
    with sayclip.load(demo.folder / "bundle") as encoder:
        entries = {name: encoder.manifest.entry(name) for name in encoder.names}
        return {
            "space": encoder.space,
            "graphs": {name: entry.graphs["fp32"].sha256 for name, entry in entries.items()},
        }


def against_torch(demo: Demo) -> dict[str, dict[str, Any]]:
    """What the export measured of every graph against torch on ten random shapes, from the manifest."""
    with sayclip.load(demo.folder / "bundle") as encoder:
        return {name: dict(encoder.manifest.entry(name).measured) for name in encoder.names}
