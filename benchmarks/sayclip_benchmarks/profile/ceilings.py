"""What the machine can do, measured in the same process: matrix products by type of number, and a copy of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sayclip.errors import SayclipError
from sayclip.sessions.backends import unavailable
from sayclip.sessions.base import Session
from sayclip.sessions.cpu import default_threads, is_x86
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.sessions.openvino import FLOATS, OpenVinoSession

SIDE = 1024
"""Of the square matrices that are multiplied: far beyond where a product's start counts."""
COPIED = 64 << 20
"""Bytes that are copied: far beyond what caches hold."""
_REPEATS = 10
NUMPY = "numpy"


@dataclass(frozen=True)
class Ceilings:
    """The best seen. ``gops``: thousand million operations a second (a multiplication and an addition are two) by type
    of number (``fp32``, ``int8``, ``bf16``) and by who computed; ``copied``: bytes read and written a second, in
    thousand millions; ``missing``: why a type has no figure."""

    gops: dict[str, dict[str, float]]
    copied: float
    missing: dict[str, str] = field(default_factory=dict)

    def best(self, numbers: str) -> float | None:
        """The highest of a type of number, by whomever."""
        return max(self.gops.get(numbers, {}).values(), default=None)


def measure(backends: Sequence[str], threads: int) -> Ceilings:
    """The ceilings of the processor, by numpy and by those of ``backends`` that compute on it, on ``threads`` threads.

    Takes about a second. What cannot be measured is in ``missing``; nothing is raised for it.
    """
    gops: dict[str, dict[str, float]] = {"fp32": {}}
    missing: dict[str, str] = {}
    with TemporaryDirectory() as folder:
        for numbers, by in _wanted(backends):
            try:
                gops.setdefault(numbers, {})[by] = _product(Path(folder), by, numbers, threads)
            except (ImportError, SayclipError) as error:
                missing[numbers] = " ".join(str(error).split())
    if threads == default_threads() or not gops["fp32"]:  # how many numpy takes cannot be chosen here
        gops["fp32"][NUMPY] = _numpy()
    return Ceilings(gops, _copy(threads), {numbers: why for numbers, why in missing.items() if not gops.get(numbers)})


def _wanted(backends: Sequence[str]) -> list[tuple[str, str]]:
    """Types of numbers, and the backends to multiply them with."""
    found = [(numbers, "onnxruntime") for numbers in ("fp32", "int8") if "onnxruntime" in backends]
    if any(backend in FLOATS for backend in backends):
        found += [("fp32", "openvino"), ("int8", "openvino")]
        found += [] if unavailable("openvino-bf16") else [("bf16", "openvino-bf16")]
    return found


def _best(run: Callable[[], object]) -> float:
    """Seconds of the quickest of several runs, the first left out."""
    run()
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _numpy() -> float:
    one, two = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    out = np.empty((SIDE, SIDE), np.float32)
    return 2e-9 * SIDE**3 / _best(lambda: np.matmul(one, two, out=out))


def _product(folder: Path, backend: str, numbers: str, threads: int) -> float:
    """One MatMul by a constant, opened as every graph is. Raises ImportError without onnx, BackendError."""
    path = folder / f"{backend}-{numbers}.onnx"
    signed = not (backend == "onnxruntime" and is_x86())
    _write(path, "" if numbers != "int8" else "int8" if signed else "uint8")
    session: Session
    if backend in FLOATS:
        session = OpenVinoSession(path, backend=backend, threads=threads)
    else:
        session = OnnxRuntimeSession(path, backend=backend, threads=threads)
    feed = {"x": np.random.default_rng(1).uniform(-1, 1, (SIDE, SIDE)).astype(np.float32)}
    out = {"y": np.empty((SIDE, SIDE), np.float32)}
    seconds = _best(lambda: session.run(feed, out))
    session.close()
    return 2e-9 * SIDE**3 / seconds


def _write(path: Path, activations: str) -> None:
    """An ONNX graph of one product, with its inputs quantised to ``activations`` and int8 weights, or in floats."""
    try:
        from onnx import helper, numpy_helper, save
    except ImportError:
        raise ImportError("wants the onnx package to write a graph of one product") from None

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(array: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(constants)}"))
        return str(constants[-1].name)

    def node(kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [output or f"t{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    rng = np.random.default_rng(2)
    left, right = "x", ""
    if activations:
        step, zero = (
            constant(np.float32(1 / 127)),
            constant(np.dtype(activations).type(0 if activations == "int8" else 128)),
        )
        left = node("DequantizeLinear", node("QuantizeLinear", "x", step, zero), step, zero)
        weights = constant(rng.integers(-127, 128, (SIDE, SIDE)).astype(np.int8))
        scales, zeros = constant(np.full(SIDE, 1e-3, np.float32)), constant(np.zeros(SIDE, np.int8))
        right = node("DequantizeLinear", weights, scales, zeros, axis=1)
    else:
        right = constant(rng.standard_normal((SIDE, SIDE)).astype(np.float32))
    node("MatMul", left, right, output="y")
    # A free number of rows, as in a bundle's graphs.
    ends = [helper.make_tensor_value_info(name, 1, ["rows", SIDE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def _copy(threads: int) -> float:
    """Every thread copies a part."""
    source = np.ones(COPIED // 4, np.float32)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda part: np.copyto(*part), parts)))
    return 2e-9 * COPIED / seconds
