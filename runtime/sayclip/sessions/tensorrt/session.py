"""TensorRT as a session: host arrays in, host arrays out, and in between pinned memory, one stream and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sayclip.sessions.base import Array, Signature
from sayclip.sessions.tensorrt.cudart import Cuda
from sayclip.sessions.tensorrt.memory import Memory
from sayclip.sessions.tensorrt.plan import Lane, Plan
from sayclip.sessions.tensors import Tensors

Loader = Callable[[Memory, int], Plan]


class TensorRTSession:
    """A ``Session`` of one graph's engines; see ``sessions.base`` for what its methods promise.

    ``loaders`` make the plans that there are, ``query``, ``index`` or both, from the session's memory and stream: one
    at once, the other at its first use. Inputs of one row run in the query plan; batches in the index plan, as many
    rows at a time as it takes, or row by row where there is none. ``title`` names the graph in errors.
    """

    threads = 0
    """No threads of the processor compute here."""

    def __init__(
        self,
        backend: str,
        provider: str,
        signature: Signature,
        cuda: Cuda,
        loaders: Mapping[str, Loader],
        title: str,
    ) -> None:
        self.backend, self.provider, self.signature = backend, provider, signature
        self._cuda, self._loaders = cuda, dict(loaders)
        self._memory = Memory(cuda)
        self._tensors = Tensors(title, signature, lambda name, *block: self._memory.host(f"bound {name}", *block))
        self._plans: dict[str, Plan] = {}
        self._closed = False
        self._stream = cuda.stream()
        try:
            self._plan(next(name for name in ("query", "index") if name in self._loaders))
        except BaseException:
            self.close()
            raise

    @property
    def no_graphs(self) -> str:
        """Why a plan runs without CUDA graphs; empty while all that can have one do."""
        return "; ".join(dict.fromkeys(plan.no_graphs for plan in self._plans.values() if plan.no_graphs))

    def bind(self, name: str, shape: Sequence[int]) -> Array:
        if self._closed:
            raise self._tensors.wrong("is closed")
        return self._tensors.bind(name, shape)

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        if self._closed:
            raise self._tensors.wrong("is closed")
        arrays = self._tensors.feeds(feeds, out)
        counts = {name: len(array) for name, array in arrays.items()}
        rows = min(counts.values())
        if rows < 1 or len(set(counts.values())) > 1:
            seen = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise self._tensors.wrong(f"was given {seen}, wanted the same number of each, at least 1")
        name = "query" if "query" in self._loaders and (rows == 1 or "index" not in self._loaders) else "index"
        plan = self._plan(name)
        results: dict[str, Array] = {}
        for start in range(0, rows, plan.batch):
            part = {key: array[start : start + plan.batch] for key, array in arrays.items()}
            lane = plan.lane({key: array.shape for key, array in part.items()})
            if not results:
                results = self._results(lane, rows, plan.batch, out or {})
            self._run_part(plan, lane, part, {key: array[start : start + plan.batch] for key, array in results.items()})
        return results

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loaders.clear()
        self._tensors.clear()
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
        self._memory.close()
        self._cuda.destroy_stream(self._stream)

    def _plan(self, name: str) -> Plan:
        if name not in self._plans:
            self._plans[name] = self._loaders[name](self._memory, self._stream)
        return self._plans[name]

    def _results(self, lane: Lane, rows: int, at_once: int, out: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays for all rows; an output without the batch in front cannot be put together from parts."""
        results: dict[str, Array] = {}
        for name, spec in self._tensors.outputs.items():
            shape = lane.outputs[name]
            if not shape or shape[0] != min(rows, at_once):
                raise self._tensors.wrong(
                    f"output {name!r}: shape {list(shape)}, wanted one row for each of the inputs'"
                )
            shape = (rows, *shape[1:])
            if name in out and out[name].shape != shape:
                raise self._tensors.wrong(f"output {name!r}: shape {list(out[name].shape)}, wanted {list(shape)}")
            results[name] = out[name] if name in out else np.empty(shape, dtype=spec.dtype)
        return results

    def _run_part(self, plan: Plan, lane: Lane, part: Mapping[str, Array], results: Mapping[str, Array]) -> None:
        memory, cuda, stream = self._memory, self._cuda, self._stream
        for name, array in part.items():
            source = array
            if not memory.is_pinned(array):
                source = memory.host(name, array.shape, array.dtype.name)
                np.copyto(source, array)
            cuda.to_device(memory.address(name), source.ctypes.data, source.nbytes, stream)
        plan.run(lane)
        staged = {name: memory.host(name, array.shape, array.dtype.name) for name, array in results.items()}
        for name, array in staged.items():
            cuda.to_host(array.ctypes.data, memory.address(name), array.nbytes, stream)
        cuda.synchronise(stream)
        for name, array in staged.items():
            np.copyto(results[name], array)
