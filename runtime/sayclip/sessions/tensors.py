"""What goes into a graph and what comes out of it, checked by name, dtype and shape before a backend sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sayclip.bundle.entries import TensorSpec
from sayclip.errors import BackendError
from sayclip.sessions.base import Array, Signature, fits


class Tensors:
    """The inputs and outputs of one session's graph, and the session's own buffers for the inputs.

    ``title`` begins every error, which are all BackendError. ``allocate`` gives the buffer of an input, by name, shape
    and dtype, where it must be of a kind of its own.
    """

    def __init__(
        self, title: str, signature: Signature, allocate: Callable[[str, Sequence[int], str], Array] | None = None
    ) -> None:
        self.title = title
        self.inputs = {spec.name: spec for spec in signature.inputs}
        self.outputs = {spec.name: spec for spec in signature.outputs}
        self._wanted = [(spec, np.dtype(spec.dtype), _fixed(spec)) for spec in signature.inputs]
        # One row an input, where the number of rows is free.
        self._rows = len(self.inputs) > 1 and all(
            spec.shape and isinstance(spec.shape[0], str) for spec in signature.inputs
        )
        self._allocate = allocate or self._own
        self._buffers: dict[str, Array] = {}
        self._bound: dict[str, Array] = {}

    def bind(self, name: str, shape: Sequence[int]) -> Array:
        """See ``Session.bind``."""
        spec = self.inputs.get(name)
        if spec is None:
            raise self.wrong(f"has no input {name!r}, it has {', '.join(self.inputs)}")
        view = self._allocate(name, shape, spec.dtype)
        if problem := fits(view, spec):
            raise self.wrong(f"input {name!r}: {problem}")
        self._bound[name] = view
        return view

    def _own(self, name: str, shape: Sequence[int], dtype: str) -> Array:
        size = int(np.prod(shape, dtype=np.int64))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype=dtype)
        return buffer[:size].reshape(tuple(shape))

    def feeds(self, given: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        """Every input in C order, in the graph's order: from ``given``, else from the buffer that ``bind`` gave.

        Looks at ``out`` too, as far as that can be done before the run.
        """
        for names, known in ((given, self.inputs), (out or (), self.outputs)):
            for name in names:
                if name not in known:
                    inputs, outputs = ", ".join(self.inputs), ", ".join(self.outputs)
                    raise self.wrong(f"has no {name!r}, inputs are {inputs}, outputs {outputs}")
        complete: dict[str, Array] = {}
        for spec, dtype, fixed in self._wanted:
            array = given.get(spec.name)
            if array is None:
                array = self._bound.get(spec.name)
                if array is None:
                    raise self.wrong(f"was given no {spec.name!r}, wanted {spec.dtype} {list(spec.shape)}")
            shape = array.shape
            # The same as ``fits``, an order of magnitude quicker: this is paid at every run.
            if array.dtype != dtype or len(shape) != len(spec.shape) or any(shape[i] != size for i, size in fixed):
                raise self.wrong(f"input {spec.name!r}: {fits(array, spec)}")
            complete[spec.name] = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        if self._rows and len({len(array) for array in complete.values()}) > 1:
            # Not every backend notices.
            counts = ", ".join(f"{len(array)} of {name}" for name, array in complete.items())
            raise self.wrong(f"was given {counts}, wanted the same number of each")
        for name, array in (out or {}).items():
            if problem := fits(array, self.outputs[name]):
                raise self.wrong(f"output {name!r}: {problem}")
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise self.wrong(f"output {name!r}: a strided or read-only array, wanted a writable one in C order")
        return complete

    def clear(self) -> None:
        """Let go of the buffers."""
        self._buffers.clear()
        self._bound.clear()

    def failed(self, feeds: Mapping[str, Array], error: BaseException) -> BackendError:
        """What to raise when a backend could not compute ``feeds``."""
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        return self.wrong(f"failed on {shapes} ({one_line(error)})")

    def wrong(self, problem: str) -> BackendError:
        """The error for a graph that was used as it should not be."""
        return BackendError(f"{self.title} {problem}", "feed it as the bundle's manifest says")


def _fixed(spec: TensorSpec) -> list[tuple[int, int]]:
    """Axis and size of the dimensions that are not free."""
    return [(axis, size) for axis, size in enumerate(spec.shape) if isinstance(size, int)]


def one_line(error: BaseException) -> str:
    """A backend's own words, in one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
