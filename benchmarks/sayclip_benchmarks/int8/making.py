"""Inputs and bundles that the figures are taken on, made by sayclip's own commands in processes of their own."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip.sessions.cpu import is_x86
from sayclip_benchmarks.demo.accuracy import recordings
from sayclip_benchmarks.demo.data import Demo

ITEMS = 1000  # that are searched among; calibration sees none of them
_CALIBRATION = 200
POINTS = {"speech": (-1.0, 0.998)}  # mean cosines that a bundle is calibrated for too, beside the default
VOICES = ("slt", "awb", "rms", "kal16", "kal")  # flite's: many people ask one device


@dataclass(frozen=True)
class Inputs:
    """Items to embed, and folders and a file to calibrate with that hold others."""

    pictures: tuple[Path, ...]
    texts: tuple[str, ...]
    recordings: tuple[Path, ...]
    options: dict[str, list[str]]
    """Options of ``sayclip calibrate`` by bundle."""


def inputs(demo: Demo, work: Path, items: int) -> Inputs:
    """The demo's pictures, captions put together of their names, and flite's voices saying such captions in turn."""
    drawn = random.Random(0)
    pictures = list(demo.pictures)
    drawn.shuffle(pictures)
    captions = list(dict.fromkeys(" and ".join(drawn.sample(demo.names, 1 + i % 3)) for i in range(items + 600)))
    spoken = recordings(captions[: items + _CALIBRATION], work / "recordings", VOICES)
    folders = {"images": pictures[items:], "speech": spoken[items:]}
    for name, files in folders.items():
        folder = work / "calibration" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            link = folder / file.name
            if not link.exists():
                link.symlink_to(file.resolve())
    text = work / "calibration" / "captions.txt"
    text.write_text("\n".join(captions[items:]) + "\n", encoding="utf-8")
    options = {
        "clip": ["--images", str(work / "calibration" / "images"), "--text", str(text)],
        "speech": ["--speech", str(work / "calibration" / "speech")],
    }
    return Inputs(tuple(pictures[:items]), tuple(captions[:items]), tuple(spoken[:items]), options)


def bundles(
    work: Path, given: Inputs, samples: int | None = None, gate_mean: float | None = None, *, points: bool = True
) -> dict[str, dict[str, Any]]:
    """``work/clip`` and ``work/speech`` with their int8 graphs, made where they are not there yet; what it took.

    ``samples`` and ``gate_mean`` as the options of ``sayclip calibrate``, whose defaults None stands for. ``points``:
    also what ``others`` gives.
    """
    if not all((work / name / "bundle.json").exists() for name in given.options):
        _run(["export", "full-size", "--hard", str(work)])
    for name, options in given.options.items():
        for gate in POINTS.get(name, ()) if points else ():
            other = _other(work, name, gate)
            if not other.exists():
                shutil.copytree(work / name, other)  # before int8 is in it
            _calibrate(other, options, samples, gate)
        _calibrate(work / name, options, samples, gate_mean)
    return {encoder: report for name in given.options for encoder, report in _reports(work / name).items()}


def others(work: Path, name: str) -> dict[Path, dict[str, Any]]:
    """What ``bundles`` made beside ``work/name``, calibrated for the mean cosines of ``POINTS``, with its report."""
    found = [_other(work, name, gate) for gate in POINTS.get(name, ())]
    return {folder: report for folder in found for report in _reports(folder).values()}


def described(bundle: Path, name: str, report: dict[str, Any]) -> dict[str, Any]:
    """Which int8 graph ``bundle`` has of an encoder, and what its calibration said."""
    int8 = report["precisions"]["int8"]
    return {
        "sha256": Manifest.read(bundle).entry(name).graphs[precision_here()].sha256,
        "calibration": {
            "seconds": int8["seconds"],
            "peak_memory_bytes": int8["peak_memory_bytes"],
            "samples": int8["data"]["calibration"],
            "passed": int8["passed"],
            "missed": int8["missed"],
        },
        "points": int8["points"],
        "given_back": [layer["node"] for layer in int8["given_back"]],
        "int8_share": int8["int8_share"],
    }


def precision_here() -> str:
    """The int8 form that ONNX Runtime is quick with on this processor."""
    return "int8-u8" if is_x86() else "int8"


def _other(work: Path, name: str, gate: float) -> Path:
    return work / f"{name}@{gate:g}"


def _reports(bundle: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(bundle.glob("*.calibration.json"))
    return {path.name.split(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def _calibrate(bundle: Path, options: list[str], samples: int | None, gate_mean: float | None) -> None:
    graphs = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["encoders"]
    if all("int8" in entry["graphs"] for entry in graphs.values()):
        return
    chosen = {"--samples": samples, "--gate-mean": gate_mean}
    more = [f"{option}={value}" for option, value in chosen.items() if value is not None]
    # The mean cosine is what is asked for here. What misses its gate is measured too: its figures say so.
    _run(["calibrate", str(bundle), "--force", "--gate-worst=-1", "--gate-recall", "1", *more, *options])


def build(work: Path, names: Iterable[str]) -> None:
    """Engines of every bundle for the GPU that is here, where there is a library that builds them; else it is said."""
    for name in names:
        try:
            _run(["build", str(work / name), "--profile", "query"])
        except BundleError as error:
            print(error, file=sys.stderr)


def engines(bundle: Path, encoder: str, precision: str, target: str = "sm_86") -> int | None:
    """Bytes of TensorRT-RTX's engine for one input at a time; None where the library is not installed."""
    from sayclip.sessions.tensorrt.library import installed

    if not installed("tensorrt_rtx"):
        return None
    options = ["--encoder", encoder, "--precision", precision, "--profile", "query", "--target", target]
    out = bundle.parent / "engines" / f"{bundle.name}.{encoder}.{precision}"
    document = json.loads(_run(["build", str(bundle), *options, "--out", str(out), "--json"]))
    return int(document["engines"][0]["bytes"])


def _run(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "sayclip", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BundleError(f"`sayclip {' '.join(arguments[:3])} …` ended with {done.returncode}", "see above")
    return done.stdout
