"""ONNX Runtime on the CPU as a measuring instrument: repeatable runs over checked feeds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from sayclip.errors import BackendError, BundleError, InputError
from sayclip.sessions.onnxruntime import import_onnxruntime

from .store import write_data

ort = import_onnxruntime()
Feed = Mapping[str, NDArray[Any]]

_DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


class Runner:
    """One graph in ONNX Runtime's CPU provider.

    ``optimise`` True runs the graph with the kernels it is shipped for; False keeps to the basic, exact rewrites, so
    that Q/DQ pairs are computed as written. ``threads`` 0 takes every core; results do not depend on it.
    """

    def __init__(self, model: str | Path | ModelProto, *, optimise: bool = False, threads: int = 0) -> None:
        options = ort.SessionOptions()
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_ENABLE_BASIC
        options.intra_op_num_threads = threads
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # what goes wrong is raised, in one line
        source = model.SerializeToString() if isinstance(model, ModelProto) else str(model)
        label = "the graph" if isinstance(model, ModelProto) else Path(model).name
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding's exceptions share no base
            remedy = "write the graph again, or check that its data file lies beside it"
            raise BundleError(f"ONNX Runtime cannot load {label} ({_brief(error)})", remedy) from error
        self.inputs = {value.name: value.type for value in self._session.get_inputs()}
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    @classmethod
    def from_files(cls, model: ModelProto, *, threads: int = 0) -> Runner:
        """A runner of ``model``, whose weights it takes away: from files, which are mapped.

        A graph given as bytes is held three times while it is loaded.
        """
        with tempfile.TemporaryDirectory(prefix="sayclip-") as folder:
            path = Path(folder) / "graph.onnx"
            write_data(model, path.with_suffix(".data"))
            path.write_bytes(model.SerializeToString())
            model.Clear()
            return cls(path, threads=threads)

    def run(self, feed: Feed, outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The named outputs for one checked feed."""
        try:
            return [np.asarray(value) for value in self._session.run(list(outputs), dict(feed))]
        except Exception as error:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feed.items())
            problem = f"ONNX Runtime refuses the feed {shapes} ({_brief(error)})"
            raise BackendError(problem, "give inputs of the shapes the encoder was exported for") from error

    def run_all(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """All outputs by name for one checked feed."""
        return dict(zip(self.outputs, self.run(feed, self.outputs), strict=True))

    def checked(self, feeds: Iterable[Feed]) -> Iterator[dict[str, NDArray[Any]]]:
        """Pass feeds through, refusing the first bad one before it reaches the graph.

        Raises InputError when there is no feed at all, an input is missing or unknown, a dtype differs, an array is
        empty, or a value is NaN or infinite.
        """
        count = 0
        for count, feed in enumerate(feeds, start=1):
            yield self._check(feed, count - 1)
        if count == 0:
            raise InputError("no calibration feeds, wanted at least one", "give a few real inputs of the encoder")

    def _check(self, feed: Feed, number: int) -> dict[str, NDArray[Any]]:
        if set(feed) != set(self.inputs):
            seen, wanted = sorted(feed), sorted(self.inputs)
            raise InputError(f"feed {number} has inputs {seen}, wanted {wanted}", "name the arrays as the graph does")
        for name, value in feed.items():
            wanted_dtype = _DTYPES.get(self.inputs[name])
            if wanted_dtype is not None and value.dtype != wanted_dtype:
                problem = f"feed {number}: {name} is {value.dtype}, wanted {np.dtype(wanted_dtype)}"
                raise InputError(problem, "convert the array first")
            if value.size == 0:
                raise InputError(f"feed {number}: {name} is empty, shape {list(value.shape)}", "leave this feed out")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                bad = int(value.size - np.isfinite(value).sum())
                raise InputError(f"feed {number}: {name} holds {bad} NaN or infinite values", "leave this feed out")
        return dict(feed)


def run_as_written(graph: Path, feeds: Iterable[Feed], threads: int) -> list[dict[str, NDArray[Any]]]:
    """All outputs by name for each of ``feeds``, Q/DQ pairs computed as written; see ``Runner``."""
    runner = Runner(graph, threads=threads)
    return [runner.run_all(feed) for feed in runner.checked(feeds)]


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else text[:237] + "..."
