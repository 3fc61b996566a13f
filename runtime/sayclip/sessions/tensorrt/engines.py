"""From a bundle's graph to its engines in the cache: the key, looking it up, opening it as a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sayclip.bundle.entries import GraphEntry
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError, BundleError
from sayclip.sessions import memory as system
from sayclip.sessions.base import Signature
from sayclip.sessions.tensorrt import cache, cudart, driver, library
from sayclip.sessions.tensorrt.memory import Memory
from sayclip.sessions.tensorrt.plan import Plan
from sayclip.sessions.tensorrt.profiles import PLANS, profiles
from sayclip.sessions.tensorrt.session import Loader, TensorRTSession


@dataclass(frozen=True)
class Here:
    """The library and the GPU of this machine."""

    backend: str
    trt: Any
    gpu: driver.Gpu

    def __str__(self) -> str:
        title = f"{library.TITLES[self.backend]} {library.version_text(self.trt)}"
        return f"{title} on {self.gpu.name} ({self.gpu.sm})"


def here(backend: str) -> Here:
    """What there is. The driver comes first. Raises BackendError, MissingDependencyError."""
    gpu = driver.probe()
    return Here(backend, library.load(backend), gpu)


def made_for(key: cache.Key, place: Here) -> bool:
    """Whether an engine was made for this machine, whatever its graph."""
    return (key.library, key.version, key.gpu, key.capability, key.driver) == _machine(place)


def _machine(place: Here) -> tuple[str, str, str, str, str]:
    return place.backend, library.version_text(place.trt), place.gpu.name, place.gpu.sm, place.gpu.driver


def graph_of(manifest: Manifest, encoder: str, precision: str) -> GraphEntry:
    """The graph's entry. Raises BundleError for one that the bundle does not have."""
    graphs = manifest.entry(encoder).graphs
    if precision not in graphs:
        raise BundleError(
            f"encoder {encoder!r} has no {precision!r} graph, it has {', '.join(graphs)}",
            "use one of these, or add it with `sayclip calibrate`",
        )
    return graphs[precision]


def key_of(manifest: Manifest, encoder: str, precision: str, plan: str, place: Here) -> cache.Key:
    """The key of an engine for this machine."""
    graph = graph_of(manifest, encoder, precision)
    shapes = cache.shapes_id(profiles(manifest.entry(encoder), graph, plan))
    return cache.Key(cache.graph_id(graph), plan, *_machine(place), shapes)


def find(manifest: Manifest, encoder: str, precision: str, backend: str) -> dict[str, cache.Entry]:
    """The engines there are for this machine, by plan, their bytes unseen.

    Without any that was built for this graph, neither the driver nor the library is loaded. Raises as ``here`` does.
    """
    graph = cache.graph_id(graph_of(manifest, encoder, precision))
    if not any(cache.candidates(backend, graph, plan) for plan in PLANS):
        return {}
    place = here(backend)
    found = {plan: cache.find(key_of(manifest, encoder, precision, plan, place)) for plan in PLANS}
    return {plan: entry for plan, entry in found.items() if entry is not None}


def open_session(manifest: Manifest, encoder: str, precision: str, backend: str) -> TensorRTSession:
    """A session of the engines in the cache. Raises BackendError, MissingDependencyError, BundleError."""
    graph_of(manifest, encoder, precision)
    place = here(backend)
    keys = {plan: key_of(manifest, encoder, precision, plan, place) for plan in PLANS}
    found = {plan: entry for plan, key in keys.items() if (entry := cache.find(key)) is not None}
    if not found:
        whys = {plan: cache.explain(key) for plan, key in keys.items()}
        told = [why for why in whys.values() if why != "is not built yet"] or ["is not built yet"]
        raise BackendError(f"the {precision} engine of {encoder!r} {told[0]}", cache.REMEDY)
    return session_of(manifest, encoder, precision, place, found)


def session_of(
    manifest: Manifest, encoder: str, precision: str, place: Here, found: Mapping[str, cache.Entry]
) -> TensorRTSession:
    """A session of these engines. Raises BackendError for one that is damaged or does not fit in memory."""
    graph = graph_of(manifest, encoder, precision)
    signature = Signature(graph.inputs, graph.outputs)
    cuda = cudart.load(place.gpu.driver)
    title = f"the {precision} engine of {encoder!r}"

    def loader(entry: cache.Entry) -> Loader:
        return lambda memory, stream: _load(entry, place, signature, cuda, memory, stream, title)

    loaders = {plan: loader(entry) for plan, entry in found.items()}
    return TensorRTSession(place.backend, str(place), signature, cuda, loaders, title)


def _load(
    entry: cache.Entry, place: Here, signature: Signature, cuda: cudart.Cuda, memory: Memory, stream: int, title: str
) -> Plan:
    """Deserialise a plan, once its hash was found right."""
    content = cache.read_plan(entry)
    free = cuda.free_bytes()
    if place.gpu.integrated:
        free = max(free, system.available_memory() or 0)
    if free < entry.bytes:
        raise BackendError(
            f"{title} needs {entry.bytes / 1e6:.0f} MB of memory for its weights alone, {free / 1e6:.0f} MB are free",
            "close other programs, or use a smaller precision",
        )
    trt, log = place.trt, library.logger(place.trt)
    runtime = trt.Runtime(log)
    if hasattr(runtime, "get_engine_validity"):
        validity, _ = runtime.get_engine_validity(content)
        if validity == trt.EngineValidity.INVALID:
            raise BackendError(f"{title} is not valid here, says the library", f"{cache.REMEDY} --force")
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise BackendError(
            f"{title} cannot be loaded ({library.said(log, 'no reason given')})", f"{cache.REMEDY} --force"
        )
    # The runtime must outlive the engine; the plan keeps the engine, and its logger keeps the runtime.
    log.runtime = runtime
    return Plan(trt, engine, log, signature, cuda, memory, stream, title)
