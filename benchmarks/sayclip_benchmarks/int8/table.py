"""The int8 figures as a table, each beside what is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WANTED = {
    "image": {"cosine": 0.995, "engine": 0.30, "openvino": 6.0, "onnxruntime": 3.7},
    "text": {"cosine": 0.995, "engine": 0.45, "openvino": 3.8, "onnxruntime": 2.2},
    "speech": {"cosine": 0.99, "engine": 0.30, "openvino": 3.5, "onnxruntime": 1.9},
}
OVERLAP = 0.9


def beside(path: Path, report: dict[str, Any]) -> dict[str, Any]:
    """``report`` with the encoders that it lacks from an earlier one at ``path``, of the same machine and items."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return report
    if any(earlier.get(key) != report[key] for key in ("items", "environment")):
        return report
    found = {**earlier["encoders"], **report["encoders"]}
    return {**report, "encoders": {name: found[name] for name in WANTED if name in found}}


def markdown(report: Mapping[str, Any]) -> str:
    """One row a figure; then where the processor and the versions were, and the choices that were judged."""
    lines = ["| figure | wanted | seen | |", "|---|---|---|---|"]

    def row(figure: str, wanted: str, seen: str, holds: bool) -> None:
        lines.append(f"| {figure} | {wanted} | {seen} | {'holds' if holds else 'missed'} |")

    for name, found in report["encoders"].items():
        limit, share = WANTED[name], f"{found['int8_share']:.0%} of products in int8"
        for backend, exact in found["agreement"].items():
            if " " in backend:  # no int8, see the Pareto points
                continue
            mean, same = exact["mean_cosine"], exact["top10_overlap"]
            figures = found["speed"].get(f"{backend} int8")
            if figures:
                gain, wanted = figures["speedup"], limit[backend.partition("-")[0]]
                seen = f"{gain:.2f} × ({figures['p50_ms']:.1f} ms, p90 {figures['p90_ms']:.1f})"
                row(f"{name}, {backend} against PyTorch eager ({share})", f"≥ {wanted:g} ×", seen, gain >= wanted)
            seen = f"{mean:.4f} ({exact['worst_cosine']:.4f})"
            title = f"{name}, {backend}, centred cosine, mean (worst)"
            row(title, f"≥ {limit['cosine']:g}", seen, mean >= limit["cosine"])
            title = f"{name}, {backend}, same of the ten nearest of {report['items']:,}"
            row(title, f"≥ {OVERLAP:g}", f"{same:.3f}", same >= OVERLAP)
        engine = found["engine_bytes"]
        if engine["int8"]:
            share = engine["int8"] / engine["fp32"]
            title = f"{name}, bytes of TensorRT-RTX's int8 engine to fp32's"
            row(title, f"≤ {limit['engine']:g}", f"{share:.3f}", share <= limit["engine"])
        cost = found["calibration"]
        seconds, memory = cost["seconds"], cost["peak_memory_bytes"] / 1e9
        if name == "speech":
            title = f"{name}, calibrated on {cost['samples']} inputs"
            row(title, "≤ 600 s, ≤ 8 GB", f"{seconds:.0f} s, {memory:.1f} GB", seconds <= 600 and memory <= 8)
    lines += [
        "",
        "| encoder | candidate | p50, ms | p90, ms | against PyTorch eager | cosine |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in report["encoders"].items():
        for label, figures in found["speed"].items():
            cosine = f"{figures['cosine']:.4f}" if "cosine" in figures else ""
            times = f"{figures['p50_ms']:.1f} | {figures['p90_ms']:.1f} | {figures['speedup']:.2f} ×"
            lines.append(f"| {name} | {label} | {times} | {cosine} |")
    lines += ["", "| encoder | given back | products in int8 | mean centred cosine | worst |", "|---|---|---|---|---|"]
    for name, found in report["encoders"].items():
        for point in found["points"]:
            share = f"{point['int8_share']:.1%}"
            lines.append(f"| {name} | {point['given_back']} | {share} | {point['mean']:.4f} | {point['worst']:.4f} |")
    lines += _pareto(report["encoders"])
    environment = ", ".join(f"{key} {value}" for key, value in report["environment"].items())
    hashes = ", ".join(f"{name} {found['sha256'][:12]}" for name, found in report["encoders"].items())
    return "\n".join([*lines, "", f"Measured by `sayclip bench int8` on {environment}. int8 graphs: {hashes}.", ""])


def _pareto(encoders: Mapping[str, Any]) -> list[str]:
    """Speed and accuracy of the same files, a row each, of what was calibrated for several mean cosines."""
    lines: list[str] = []
    for name, found in encoders.items():
        points = sorted([found, *found.get("others", [])], key=lambda point: point["int8_share"], reverse=True)
        for point in points if len(points) > 1 else []:
            engine = point["engine_bytes"]
            size = f"{engine['int8'] / engine['fp32']:.3f}" if engine.get("int8") else ""
            for label, speed in point["speed"].items():
                backend = label.removesuffix(" int8")
                if backend == label and (label != "openvino-bf16 fp16" or point is not found):
                    continue
                exact = point["agreement"].get(backend)
                cosine = f"{exact['mean_cosine']:.4f} ({exact['worst_cosine']:.4f})" if exact else "refused"
                same = f"{exact['top10_overlap']:.3f}" if exact else ""
                share = "none" if backend == label else f"{point['int8_share']:.0%} ({point['sha256'][:12]})"
                gain = f"{speed['speedup']:.2f} × ({speed['p50_ms']:.1f} ms)"
                lines.append(f"| {name} | {share} | {label} | {gain} | {cosine} | {same} | {size} |")
    if not lines:
        return []
    head = (
        "| encoder | products in int8 (graph) | candidate | against PyTorch eager "
        "| centred cosine, mean (worst) | same of the ten nearest | TensorRT-RTX's engine to fp32's |"
    )
    return ["", head, "|---|---|---|---|---|---|---|", *lines]
