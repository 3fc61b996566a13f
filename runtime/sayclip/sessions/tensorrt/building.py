"""The work of ``sayclip build``: for the GPU that is here into the cache, or ahead of time for others into a folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from sayclip.bundle.entries import GraphEntry
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError
from sayclip.sessions import memory as system
from sayclip.sessions.reference import check
from sayclip.sessions.tensorrt import cache, cudart, driver, engines, library
from sayclip.sessions.tensorrt.build import Job
from sayclip.sessions.tensorrt.making import Made, Progress, make
from sayclip.sessions.tensorrt.profiles import Profile, profiles

_FREE = "close other programs or add swap, or build a smaller precision"
# Without a limit TensorRT takes what there is, which on a board is everybody's memory.
_WORKSPACE = 1 << 30


class _Workshop:
    """A folder to build in, held while the context is open."""

    def __init__(self, manifest: Manifest, backend: str, workspace: int) -> None:
        self.manifest, self.backend = manifest, backend
        self._workspace = workspace
        self._stack = ExitStack()
        self._folder = Path()
        self._count = 0

    def __enter__(self) -> _Workshop:
        self._folder = self._stack.enter_context(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> Any:
        raise NotImplementedError

    def _job(self, graph: GraphEntry, shapes: list[Profile], targets: tuple[str, ...] = (), timing: str = "") -> Job:
        self._count += 1
        return Job(
            library=self.backend,
            graph=str(self.manifest.path(graph.file).resolve()),
            profiles=[{name: [list(shape) for shape in three] for name, three in part.items()} for part in shapes],
            out=str((self._folder / f"{self._count}").resolve()),
            timing_cache=timing,
            workspace=self._workspace,
            targets=targets,
        )


class Builder(_Workshop):
    """Builds for this machine. Raises BackendError, MissingDependencyError where that is not possible."""

    def __init__(self, manifest: Manifest, backend: str, workspace: int = 0, force: bool = False) -> None:
        try:
            self._place = engines.here(backend)
        except BackendError as error:
            remedy = error.remedy
            if library.installed("tensorrt_rtx"):
                remedy = "build on the device, or ahead of time with --target sm_86,sm_120 --out DIR"
            raise BackendError(f"engines are built on the GPU they run on: {error.problem}", remedy) from None
        cudart.load(self._place.gpu.driver)  # or engines would be built that cannot be checked
        self._force = force
        super().__init__(manifest, backend, workspace or min(_WORKSPACE, self._place.gpu.memory // 4))

    def __str__(self) -> str:
        return str(self._place)

    def _open(self) -> Any:
        return cache.workshop()

    def build(self, encoder: str, precision: str, plan: str, progress: Progress | None = None) -> dict[str, Any]:
        """One engine: found in the cache, or built, checked against the bundle's reference outputs, and kept.

        Returns what is known of it, JSON-ready. One that is not accurate is not kept. Raises BackendError.
        """
        place = self._place
        key = engines.key_of(self.manifest, encoder, precision, plan, place)
        there = cache.find(key)
        if there is not None and not self._force and not cache.damage(there):
            return _outcome("cached", encoder, precision, plan, there.bytes, there.facts)
        graph = engines.graph_of(self.manifest, encoder, precision)
        what = f"the {precision} {plan} engine of {encoder!r}"
        _need_memory(graph, place.gpu, what)
        timing = cache.timing_cache(self.backend, key.version, key.capability)
        shapes = profiles(self.manifest.entry(encoder), graph, plan)
        made = make(self._job(graph, shapes, timing=str(timing)), what, progress)
        made.facts.update(bundle=self.manifest.name, encoder=encoder, precision=precision)
        self._keep_timing(made, timing)
        # Checked in the workshop, and only then where sessions look for it.
        entry = cache.store_in(self._folder / "checked", key, made.plan, made.facts)
        session = engines.session_of(self.manifest, encoder, precision, place, {plan: entry})
        try:
            verdict = check(session, self.manifest, encoder, precision)
            graphs = session.no_graphs
        finally:
            session.close()
        facts = {**made.facts, "reference": str(verdict), **({"no_cuda_graphs": graphs} if graphs else {})}
        if verdict.passed:
            cache.store(key, entry.path, facts)
        return _outcome("built", encoder, precision, plan, entry.bytes, facts, verdict.passed)

    def _keep_timing(self, made: Made, timing: Path) -> None:
        """A convenience: without it the next build measures again."""
        try:
            timing.parent.mkdir(parents=True, exist_ok=True)
            made.timing.replace(timing)
        except OSError:
            return


class AheadBuilder(_Workshop):
    """Builds for the compute capabilities ``targets``, on a machine that need not have any GPU, into ``out``.

    Shows that NVIDIA's parser and builder take a graph; a session never loads such an engine.
    """

    def __init__(
        self, manifest: Manifest, backend: str, targets: tuple[str, ...], out: Path, workspace: int = 0
    ) -> None:
        trt = library.load(backend)
        if not hasattr(trt, "ComputeCapability"):
            raise BackendError(
                f"{library.TITLES[backend]} builds for the GPU that is here only",
                "use --backend tensorrt_rtx, or leave out --target",
            )
        self._version, self._targets, self._out = library.version_text(trt), targets, out
        super().__init__(manifest, backend, workspace)

    def __str__(self) -> str:
        return f"{library.TITLES[self.backend]} {self._version} for {', '.join(self._targets)}"

    def _open(self) -> Any:
        return cache.temporary_folder(self._out)

    def build(self, encoder: str, precision: str, plan: str, progress: Progress | None = None) -> dict[str, Any]:
        """One engine for all targets, written beside its record. Raises BackendError."""
        graph = engines.graph_of(self.manifest, encoder, precision)
        shapes = profiles(self.manifest.entry(encoder), graph, plan)
        made = make(self._job(graph, shapes, self._targets), f"the {precision} {plan} engine of {encoder!r}", progress)
        made.facts.update(bundle=self.manifest.name, encoder=encoder, precision=precision)
        targets = ",".join(self._targets)
        shape = cache.shapes_id(shapes)
        key = cache.Key(cache.graph_id(graph), plan, self.backend, self._version, "", targets, "", shape)
        entry = cache.store_in(self._out, key, made.plan, made.facts)
        return {**_outcome("built", encoder, precision, plan, entry.bytes, made.facts), "file": str(entry.path)}


def _need_memory(graph: GraphEntry, gpu: driver.Gpu, what: str) -> None:
    """Refuse what cannot succeed: the weights are held as parsed and once more in the plan. Raises BackendError."""
    need = 2 * (graph.bytes + sum(file.bytes for file in graph.data))
    free = driver.free_memory(gpu)
    host = system.available_memory()
    for kind, there in (("GPU", free), ("main", host)):
        if there is not None and there < need:
            raise BackendError(
                f"{what} cannot be built: {there / 1e6:.0f} MB of {kind} memory are free, wanted at least "
                f"{need / 1e6:.0f} MB",
                _FREE,
            )


def _outcome(
    status: str, encoder: str, precision: str, plan: str, size: int, facts: Mapping[str, Any], accurate: bool = True
) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "precision": precision,
        "profile": plan,
        "status": status,
        "bytes": size,
        "accurate": accurate,
        "facts": dict(facts),
    }
