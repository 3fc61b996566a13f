"""TensorRT as a session: host arrays in, host arrays out, and in between pinned memory, one stream and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sayclip.errors import BackendError
from sayclip.sessions.base import Array, Signature, fits
from sayclip.sessions.tensorrt.cudart import Cuda
from sayclip.sessions.tensorrt.memory import Memory
from sayclip.sessions.tensorrt.plan import Lane, Plan

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
        self._backend, self._provider, self._signature, self._title = backend, provider, signature, title
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name: spec for spec in signature.outputs}
        self._cuda, self._loaders = cuda, dict(loaders)
        self._memory = Memory(cuda)
        self._plans: dict[str, Plan] = {}
        self._bound: dict[str, Array] = {}
        self._closed = False
        self._stream = cuda.stream()
        try:
            self._plan(next(name for name in ("query", "index") if name in self._loaders))
        except BaseException:
            self.close()
            raise

    @property
    def backend(self) -> str:
        return self._backend

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def no_graphs(self) -> str:
        """Why a plan runs without CUDA graphs; empty while all that can have one do."""
        return "; ".join(dict.fromkeys(plan.no_graphs for plan in self._plans.values() if plan.no_graphs))

    def bind(self, name: str, shape: Sequence[int]) -> Array:
        spec = self._inputs.get(name)
        if spec is None:
            raise self._wrong(f"has no input {name!r}, it has {', '.join(self._inputs)}")
        if self._closed:
            raise self._wrong("is closed")
        view = self._memory.host(f"bound {name}", shape, spec.dtype)
        if problem := fits(view, spec):
            raise self._wrong(f"input {name!r}: {problem}")
        self._bound[name] = view
        return view

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        arrays, rows = self._complete(feeds, out or {})
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
        self._bound.clear()
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
        self._memory.close()
        self._cuda.destroy_stream(self._stream)

    def _plan(self, name: str) -> Plan:
        if name not in self._plans:
            self._plans[name] = self._loaders[name](self._memory, self._stream)
        return self._plans[name]

    def _complete(self, feeds: Mapping[str, Array], out: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
        """Every input in C order, and the number of rows in each."""
        if self._closed:
            raise self._wrong("is closed")
        unknown = [name for name in feeds if name not in self._inputs]
        unknown += [name for name in out if name not in self._outputs]
        if unknown:
            raise self._wrong(
                f"has no {unknown[0]!r}, inputs are {', '.join(self._inputs)}, outputs {', '.join(self._outputs)}"
            )
        arrays: dict[str, Array] = {}
        for name, spec in self._inputs.items():
            array = feeds[name] if name in feeds else self._bound.get(name)
            if array is None:
                raise self._wrong(f"was given no {name!r}, wanted {spec.dtype} {list(spec.shape)}")
            if problem := fits(array, spec):
                raise self._wrong(f"input {name!r}: {problem}")
            arrays[name] = np.ascontiguousarray(array)
        rows = {name: len(array) for name, array in arrays.items()}
        first = next(iter(rows.values()))
        if first < 1 or len(set(rows.values())) > 1:
            counts = ", ".join(f"{count} of {name}" for name, count in rows.items())
            raise self._wrong(f"was given {counts}, wanted the same number of each, at least 1")
        for name, array in out.items():
            if problem := fits(array, self._outputs[name]):
                raise self._wrong(f"output {name!r}: {problem}")
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise self._wrong(f"output {name!r}: a strided or read-only array, wanted a writable one in C order")
        return arrays, first

    def _results(self, lane: Lane, rows: int, at_once: int, out: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays for all rows; an output without the batch in front cannot be put together from parts."""
        results: dict[str, Array] = {}
        for name, spec in self._outputs.items():
            shape = lane.outputs[name]
            if not shape or shape[0] != min(rows, at_once):
                raise self._wrong(f"output {name!r}: shape {list(shape)}, wanted one row for each of the inputs'")
            shape = (rows, *shape[1:])
            if name in out and out[name].shape != shape:
                raise self._wrong(f"output {name!r}: shape {list(out[name].shape)}, wanted {list(shape)}")
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

    def _wrong(self, problem: str) -> BackendError:
        return BackendError(f"{self._title} {problem}", "feed it as the bundle's manifest says")
