"""Runs of a graph as it is written: no kernel of this machine's takes the place of a Q/DQ pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sayclip.errors import BackendError
from sayclip.sessions.onnxruntime import import_onnxruntime


def run_as_written(graph: Path, feeds: Iterable[Mapping[str, NDArray[Any]]], threads: int) -> list[dict[str, Any]]:
    """All outputs by name for each of ``feeds``, by ONNX Runtime on the CPU with exact rewrites only.

    With its integer kernels, figures would depend on the processor: products of 8 bits saturate on x86 without VNNI.
    ``threads`` 0 takes every core. Raises BackendError for a graph or an input that it refuses.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]
    except Exception as error:  # the binding's exceptions share no base
        brief = " ".join(str(error).split())[:240]
        raise BackendError(f"ONNX Runtime cannot run {graph.name} ({brief})", "report this graph") from error
