"""The same model through NVIDIA's own tool, for comparison: nvidia-modelopt, in a process and, if need be, a Python of
its own, because it may pin other versions of onnx and onnxruntime and is 2 GB with its torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sayclip.errors import BackendError, MissingDependencyError

from .agreement import Outputs, join
from .data import Sample
from .gates import Gate
from .report import finite, judged
from .session import run_as_written

PYTHON = "SAYCLIP_MODELOPT_PYTHON"
TOOL = "nvidia-modelopt"
_INSTALL = f"pip install 'sayclip-toolkit[modelopt]', or name in ${PYTHON} the python of an environment that has it"
_PROBE = "import modelopt.onnx.quantization as it; it.quantize"
_LARGE_BYTES = 1 << 30  # from here weights go to a file of their own; a protobuf ends at 2 GiB


def interpreter() -> str:
    """The Python that has nvidia-modelopt: ``$SAYCLIP_MODELOPT_PYTHON``, else this one.

    Raises MissingDependencyError where it cannot be run or does not have it.
    """
    python = os.environ.get(PYTHON) or sys.executable
    named = f"{python} (${PYTHON})" if os.environ.get(PYTHON) else "this Python"
    try:
        done = _call(python, _PROBE)
    except OSError as error:
        problem = f"the cross-check needs {TOOL}, and {named} cannot be run ({error.strerror})"
        raise MissingDependencyError(problem, _INSTALL) from None
    if done.returncode:
        problem = f"the cross-check needs {TOOL}, which {named} does not have ({_last_line(done)})"
        raise MissingDependencyError(problem, _INSTALL)
    return python


def crosscheck(
    python: str,
    fp32: Path,
    weights: Sequence[Path],
    calibration: Sequence[Sample],
    judged_samples: Sequence[Sample],
    gate: Gate,
    threads: int,
    folder: Path,
) -> dict[str, Any]:
    """What nvidia-modelopt makes of the graph ``fp32`` over the same inputs, judged by the same gate.

    ``weights``: the graph's files of external weights. ``folder``: where there is room for copies, which are gone in
    the end. Returns ``tool``, ``version``, ``passed``, ``missed``, ``bytes``, ``seconds`` and the figures of
    ``report.judged``. Raises BackendError where the tool fails.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="modelopt.", dir=folder) as name:
        work = Path(name)
        (work / "made").mkdir()
        for file in (fp32, *weights):  # a copy, because the tool writes over the graph that it reads
            shutil.copyfile(file, work / file.name)
        for number, sample in enumerate(calibration):
            arrays: dict[str, Any] = dict(sample.feed)
            np.savez(work / f"{number}.npz", **arrays)
        request = {
            "graph": fp32.name,
            "out": "made/int8.onnx",
            "feeds": len(calibration),
            "large": sum(file.stat().st_size for file in (fp32, *weights)) > _LARGE_BYTES,
        }
        (work / "request.json").write_text(json.dumps(request), encoding="utf-8")
        # Its text instead of its path: a script's folder comes first among those that modules are looked for in.
        source = Path(__file__).with_name("crosscheck_child.py").read_text(encoding="utf-8")
        try:
            done = _call(python, source, str(work), cwd=work)
        except OSError as error:
            raise BackendError(f"{TOOL} cannot be run ({error.strerror})", _INSTALL) from None
        graph = work / "made" / "int8.onnx"
        if done.returncode or not graph.is_file() or not (work / "answer.json").is_file():
            problem = f"{TOOL} ends with status {done.returncode} for {fp32.name} ({_last_line(done)})"
            raise BackendError(problem, "leave --crosscheck out, or report the graph to its makers")
        seconds = time.perf_counter() - started
        answer = json.loads((work / "answer.json").read_text(encoding="utf-8"))
        feeds = [sample.feed for sample in judged_samples]
        reference: Outputs = join(run_as_written(fp32, feeds, threads))
        judgement = gate.judge(reference, join(run_as_written(graph, feeds, threads)))
        size = sum(file.stat().st_size for file in graph.parent.iterdir())
    found: Mapping[str, Any] = {
        "tool": TOOL,
        "version": str(answer["version"]),
        "passed": judgement.passed,
        "missed": list(judgement.failed),
        **judged(judgement, gate),
        "bytes": size,
        "seconds": seconds,
    }
    plain: dict[str, Any] = finite(found)
    return plain


def _call(python: str, source: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    # What this environment says of its modules is not for another's.
    hidden = ("PYTHONPATH", "PYTHONHOME") if python != sys.executable else ()
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [python, "-c", source, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        env=environment,
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"status {done.returncode}"
