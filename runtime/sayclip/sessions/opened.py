"""One encoder of a bundle, opened at its first use: the session, the choice behind it, and the lock around both."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError
from sayclip.sessions.base import Array, Session
from sayclip.sessions.choose import Choice, Request, open_session
from sayclip.sessions.reference import OUTPUT

# Half precision keeps a norm of 1 within 0.001; beyond this a graph does not normalise at all.
_NORM_TOLERANCE = 0.01


class OpenedEncoder:
    """Runs one encoder's graph for any number of threads, one at a time."""

    def __init__(self, manifest: Manifest, name: str, request: Request) -> None:
        self.name = name
        self.entry = manifest.entry(name)
        self._manifest = manifest
        self._request = request
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._choice: Choice | None = None
        self._closed = False

    @property
    def choice(self) -> Choice | None:
        """What runs this encoder; None before its first use."""
        return self._choice

    def open(self) -> Choice:
        """Load the graph if that has not happened yet. Raises BundleError, BackendError, MissingDependencyError."""
        with self._lock:
            return self._open()[1]

    @property
    def outputs(self) -> frozenset[str]:
        """Names of what every graph of this encoder gives."""
        graphs = self.entry.graphs.values()
        return frozenset.intersection(*(frozenset(spec.name for spec in graph.outputs) for graph in graphs))

    def run_all(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of one batch, as the graph gives them. Raises BackendError."""
        with self._lock:
            return self._open()[0].run(feeds)

    def run(self, feeds: Mapping[str, Array], output: str = OUTPUT) -> NDArray[np.float32]:
        """The embeddings float32 [n, d] of one batch, finite and L2-normalised. Raises BackendError otherwise."""
        return self.embeddings(self.run_all(feeds), len(next(iter(feeds.values()))), output)

    def embeddings(self, outputs: Mapping[str, Array], rows: int, output: str = OUTPUT) -> NDArray[np.float32]:
        """The same of what ``run_all`` gave for ``rows`` inputs."""
        embeddings = outputs[output]
        wanted = (rows, self.entry.width)
        if embeddings.shape != wanted:
            raise self.wrong(f"gave shape {list(embeddings.shape)}, wanted {list(wanted)}")
        embeddings = embeddings.astype(np.float32, copy=False)
        norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))[:, None]
        deviation = np.abs(norms - 1.0)
        if not np.all(deviation <= _NORM_TOLERANCE):  # neither does NaN
            if not np.all(np.isfinite(norms)):
                raise self.wrong("gave numbers that are not finite, wanted finite ones")
            raise self.wrong(f"gave a vector of length {float(norms[np.argmax(deviation), 0]):.4g}, wanted 1")
        normalised: NDArray[np.float32] = embeddings / norms
        return normalised

    def wrong(self, problem: str) -> BackendError:
        """The error to raise for what the graph that runs gave."""
        choice = self.open()
        graph = f"the {choice.precision} graph of {self.name!r} on {choice.backend}"
        return BackendError(f"{graph} {problem}", "try precision='fp32', and see `sayclip doctor`")

    def close(self) -> None:
        """Free the graph; the encoder cannot run any more."""
        with self._lock:
            self._closed = True
            if self._session is not None:
                self._session.close()
                self._session = None

    def _open(self) -> tuple[Session, Choice]:
        if self._closed:
            raise BackendError(f"encoder {self.name!r} is closed", "load the bundle again")
        if self._session is None or self._choice is None:
            self._session, self._choice = open_session(self._manifest, self.name, self._request)
        return self._session, self._choice
