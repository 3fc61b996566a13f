"""Cold starts beside optimum's ORTModel: from the start of a process to the first embedding of a recording.

For bundles whose speech encoder is of the size that optimum exports, HuBERT-base. sayclip starts twice: as it comes,
and held to the fp32 graph, which is like for like. optimum is given the samples as its graph takes them, so that
neither its processor nor a library that reads files is among what it imports.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError
from sayclip.sessions.backends import graph_bytes
from sayclip.sessions.choose import AUTO
from sayclip_benchmarks.cold import starting
from sayclip_benchmarks.cold.starting import Starter
from sayclip_benchmarks.demo.data import Demo
from sayclip_benchmarks.suite.figures_optimum import COLD, OPTIMUM
from sayclip_benchmarks.suite.plan import OPTIMUM as VARIABLE
from sayclip_benchmarks.suite.plan import environment

LIMIT_S = 300.0
EXPORTING_S = 900.0
_HUBERT_BASE = (350e6, 450e6)
"""Bytes of an fp32 graph that is HuBERT-base, with or without a head of its own."""


def beside_optimum(bundles: Sequence[Path], demo: Demo, work: Path, runs: int = 5) -> list[dict[str, Any]]:
    """Records as ``report.document`` has them of the first bundle of that size; none where there is no such bundle.

    The recording is the demo's first, 16-bit PCM at 16 kHz. What optimum exported is kept under ``work``.
    """
    bundle = next((folder for folder in bundles if _is_hubert_base(Manifest.read(folder))), None)
    if bundle is None:
        return []
    recording = min((demo.folder / "queries").glob("*.wav"), default=None)
    if recording is None:
        raise InputError(f"{demo.folder} holds no queries/*.wav", "name the folder of the demo package")
    with tempfile.TemporaryDirectory(prefix="sayclip-cold-") as scratch:
        everyone: list[Starter] = [_Ours(bundle, recording, precision, Path(scratch)) for precision in (AUTO, "fp32")]
        everyone.append(_Optimum(recording, work, Path(scratch)))
        return starting.in_turns(everyone, runs)


def _is_hubert_base(manifest: Manifest) -> bool:
    graphs = manifest.entry("speech").graphs if "speech" in manifest.encoders else {}
    return "fp32" in graphs and _HUBERT_BASE[0] <= graph_bytes(graphs["fp32"]) <= _HUBERT_BASE[1]


class _Ours(Starter):
    def __init__(self, bundle: Path, recording: Path, precision: str, scratch: Path) -> None:
        super().__init__("auto" if precision == AUTO else precision, COLD)
        self._asked = [str(recording), str(bundle), precision]
        self._variables = starting.environment(scratch / "bytecode")

    def name(self) -> str:
        if not self.seen:
            return self.label
        name = starting.ours(self.seen[-1], self.cached)
        return f"auto ({name})" if self.label == "auto" else name

    def ask(self) -> dict[str, Any]:
        return starting.answer(["speech", repr(time.monotonic()), *self._asked], LIMIT_S, self._variables)


class _Optimum(Starter):
    def __init__(self, recording: Path, work: Path, scratch: Path) -> None:
        self._python, missing = environment(VARIABLE, "")
        super().__init__(OPTIMUM, COLD, missing)
        self._recording, self._work = recording, work
        self._variables = starting.environment(scratch / "bytecode-optimum", self._python)
        self._model = ""

    def ask(self) -> dict[str, Any]:
        if not self._model:
            exported = starting.answer(["export", str(self._work)], EXPORTING_S, self._variables, self._python)
            self._model = str(exported["folder"])
        asked = ["optimum", repr(time.monotonic()), str(self._recording), self._model]
        return starting.answer(asked, LIMIT_S, self._variables, self._python)
