"""What every inference backend offers: a session is one graph, loaded and ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from sayclip.bundle.entries import TensorSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Signature:
    """Names, dtypes and shapes of a graph's inputs and outputs, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Session(Protocol):
    """One graph on one backend. A session is used by one thread at a time; keeping to that is the caller's part."""

    @property
    def backend(self) -> str:
        """The name this backend is asked for by, such as ``onnxruntime``."""

    @property
    def provider(self) -> str:
        """What really computes, in the backend's own words, such as ``CPUExecutionProvider``."""

    @property
    def threads(self) -> int:
        """Threads of the processor that compute a run; 0 where something else computes."""

    @property
    def signature(self) -> Signature:
        """The graph's inputs and outputs."""

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Compute all outputs, by name; the arrays returned are the caller's.

        Inputs missing from ``feeds`` are taken from the buffers that ``bind`` gave. Outputs named in ``out`` are
        written into those arrays (right shape and dtype, C order), which are returned in their place.
        Raises BackendError for wrong names, dtypes or shapes, and for what the backend cannot compute.
        """

    def bind(self, name: str, shape: Sequence[int]) -> Array:
        """The session's own buffer for the input ``name`` in the given shape, to write preprocessing straight into.

        Its content is undefined; it holds until ``bind`` is called again for the same input.
        """

    def close(self) -> None:
        """Free the graph's memory; the session cannot run any more. Closing twice is harmless."""


def fits(array: Array, spec: TensorSpec) -> str:
    """Why ``array`` does not fit ``spec``, in words; empty when it does."""
    if array.dtype.name != spec.dtype:
        return f"dtype {array.dtype}, wanted {spec.dtype}"
    same_rank = array.ndim == len(spec.shape)
    sizes = zip(array.shape, spec.shape, strict=False)
    if not same_rank or any(isinstance(wanted, int) and seen != wanted for seen, wanted in sizes):
        return f"shape {list(array.shape)}, wanted {list(spec.shape)}"
    return ""
