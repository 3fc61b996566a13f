"""Who is timed against whom: the candidates for each encoder of a bundle, and for search."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sayclip.bundle.manifest import Manifest
from sayclip.sessions import backends
from sayclip.sessions.cpu import is_x86
from sayclip_benchmarks.host import nvml
from sayclip_benchmarks.suite.fastembed_side import ENCODERS as FASTEMBED_ENCODERS
from sayclip_benchmarks.suite.openers import SEARCHES, plain

EAGER = "torch fp32"
OPTIMUM = "SAYCLIP_OPTIMUM_PYTHON"
FASTEMBED = "SAYCLIP_FASTEMBED_PYTHON"


@dataclass(frozen=True)
class Entrant:
    """A candidate to be opened: its row's name and kind, what its process is told, and which cases it can do."""

    label: str
    kind: str
    spec: Mapping[str, Any]
    whats: frozenset[str] = frozenset({"session"})
    missing: str = ""
    """Why it cannot even be tried here."""
    python: str = field(default="")


def entrants(manifest: Manifest, encoder: str, shared: Mapping[str, Any], *, compiled: bool) -> list[Entrant]:
    """Every candidate for ``encoder``; ``shared``: what all their processes are told."""
    told = {**shared, "bundle": str(manifest.folder), "encoder": encoder}
    graphs = manifest.entry(encoder).graphs
    everything = frozenset({"session", "preprocessing", "encoder", "query"})
    found = [_torch(told, "fp32", False, everything), _torch(told, "bf16", False, frozenset({"session", "query"}))]
    if torch_device() == "cuda":
        found.append(_torch(told, "fp16", False, frozenset({"session", "query"})))
    if compiled:
        found.append(_torch(told, "fp32", True, frozenset({"session"})))
    found.append(Entrant("auto", "sayclip", {**told, "kind": "sayclip"}, everything))
    for backend in backends.BACKENDS:
        wanted, _ = backends.precisions(backend)
        for precision in wanted:
            label = f"{backend} {plain(precision)}"
            spec = {**told, "kind": "sayclip", "backend": backend, "precision": precision}
            missing = "" if precision in graphs else f"the bundle has no {precision} graph"
            if not missing:
                missing = backends.unavailable(backend)
            if not missing and not backends.has_engine(manifest, encoder, precision, backend):
                missing = "no engine was built here: `sayclip build` makes one"
            found.append(Entrant(label, "sayclip", spec, missing=missing))
    for library, precision in _direct():
        if precision in graphs:
            spec = {**told, "kind": "direct", "library_name": library, "precision": precision}
            missing = "" if _there(library) else f"{library} is not installed"
            found.append(Entrant(f"direct {library} {plain(precision)}", "direct", spec, missing=missing))
    return [*found, _optimum(told, encoder), *_fastembed(told, encoder), *_absent(encoder)]


def searches(shared: Mapping[str, Any]) -> list[Entrant]:
    """Every way to search vectors."""
    modules = {"usearch exact fp16": "usearch", "faiss flat": "faiss"}
    found = []
    for method in SEARCHES:
        module = modules.get(method, "")
        missing = f"{module} is not installed" if module and not _there(module) else ""
        kind = "sayclip" if method == "sayclip" else "peer"
        spec = {**shared, "kind": "search", "method": method}
        found.append(Entrant(method, kind, spec, frozenset({"search"}), missing))
    return found


def _torch(told: Mapping[str, Any], precision: str, compiled: bool, whats: frozenset[str]) -> Entrant:
    label = f"torch {precision}{', compiled' if compiled else ''}"
    spec = {**told, "kind": "torch", "precision": precision, "compiled": compiled, "device": torch_device()}
    return Entrant(label, "torch", spec, whats, "" if _there("torch") else "PyTorch is not installed")


@functools.lru_cache(maxsize=1)
def torch_device() -> str:
    """``cuda`` where PyTorch can use an NVIDIA GPU, found out in a process of its own; else ``cpu``."""
    if not nvml.gpus() or not _there("torch"):
        return "cpu"
    command = [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return "cuda" if said.stdout.strip() == "True" else "cpu"


def _direct() -> list[tuple[str, str]]:
    ours = "int8-u8" if is_x86() else "int8"
    return [("onnxruntime", "fp32"), ("onnxruntime", ours), ("openvino", "fp32"), ("openvino", "int8")]


def _optimum(told: Mapping[str, Any], encoder: str) -> Entrant:
    """optimum's ORTModel needs an older transformers than the toolkit's tests, so it has an environment of its own."""
    python, missing = environment(OPTIMUM, "")
    return Entrant("optimum fp32", "peer", {**told, "kind": "optimum"}, missing=missing, python=python)


def _fastembed(told: Mapping[str, Any], encoder: str) -> list[Entrant]:
    """fastembed's CLIP code, from this environment or one of its own."""
    if encoder not in FASTEMBED_ENCODERS:
        return []
    python, missing = environment(FASTEMBED, "fastembed")
    whats = frozenset({"session", "preprocessing", "encoder"})
    return [Entrant("fastembed fp32", "peer", {**told, "kind": "fastembed"}, whats, missing=missing, python=python)]


def environment(variable: str, module: str) -> tuple[str, str]:
    """The python that ``variable`` names, nothing for this one where it has ``module``; and else why there is none."""
    python = os.environ.get(variable, "")
    if python:
        return python, "" if Path(python).exists() else f"${variable} is {python}, which is not there"
    here = bool(module) and _there(module)
    return "", "" if here else f"not installed here: ${variable} names the python of an environment that has it"


def _absent(encoder: str) -> list[Entrant]:
    """Peers that a user would look for, which cannot run these encoders, and why."""
    if encoder == "speech":
        why = "sherpa-onnx has no HuBERT or SpeechCLIP encoder, so there is nothing to time beside this one"
        return [Entrant("sherpa-onnx", "peer", {}, missing=why)]
    return []


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
