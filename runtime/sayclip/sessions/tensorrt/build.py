"""The process that builds one engine: ``python -m sayclip.sessions.tensorrt.build JOB``, a JSON file.

It holds the library, the graph and nothing else; what the library does not like may end it, and only it. Prints JSON
objects, one a line: ``{"progress": 0.25}`` and at the end ``{"built": …}`` or ``{"refused": …, "remedy": …}``.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip.errors import BackendError, SayclipError
from sayclip.sessions.tensorrt.layers import asked_for, compare
from sayclip.sessions.tensorrt.library import TITLES, load, logger, said, version, version_text
from sayclip.sessions.tensorrt.phases import monitor

REFUSED = 3
_lines = sys.stdout
# The last version whose strongly typed networks NVIDIA did not yet call complete.
_STRONG_SINCE = (10, 12)
_MEMORY = re.compile(r"out ?of ?memory|memoryallocation|mem_alloc|insufficient memory|bad_alloc", re.I)


@dataclass(frozen=True)
class Job:
    """What to build. ``profiles`` are tables of input: [min, opt, max]; ``targets`` compute capabilities to build for
    without a GPU, such as ``sm_86``, empty for the GPU that is here; ``workspace`` in bytes, 0 for the library's own
    limit; files are paths, and ``timing_cache`` is read if it is there and written beside ``out``."""

    library: str
    graph: str
    profiles: list[dict[str, list[list[int]]]]
    out: str
    timing_cache: str = ""
    workspace: int = 0
    targets: tuple[str, ...] = ()

    @property
    def timing_out(self) -> str:
        """Where the timing cache is written after the build."""
        return self.out + ".timing"


def main(path: str) -> int:
    """Build what the job in ``path`` asks for; the status is 0 or ``REFUSED``."""
    global _lines
    warnings.simplefilter("ignore", DeprecationWarning)
    # The library and what it loads may print; the parent's lines go where nobody else writes.
    _lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    data = json.loads(Path(path).read_text(encoding="utf-8"))
    job = Job(**{**data, "targets": tuple(data["targets"])})
    try:
        tell({"built": build(load(job.library), job)})
    except SayclipError as error:
        tell({"refused": error.problem, "remedy": error.remedy})
        return REFUSED
    except Exception as error:  # the bindings raise what they like
        if os.environ.get("SAYCLIP_DEBUG"):
            raise
        words = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        tell({"refused": f"{job.library} failed ({words})", "remedy": "SAYCLIP_DEBUG=1 shows where"})
        return REFUSED
    return 0


def tell(message: dict[str, Any]) -> None:
    """One line to the parent. Raises BrokenPipeError when it is gone."""
    _lines.write(json.dumps(message) + "\n")
    _lines.flush()


def build(trt: Any, job: Job) -> dict[str, Any]:
    """Write the plan of ``job`` and return what is known of it. Raises BackendError for what ``trt`` refuses."""
    started, log = time.monotonic(), logger(trt)
    builder = trt.Builder(log)
    typing, weakly = "strong", ""
    try:
        network, plan = _attempt(trt, builder, log, job, strong=True)
    except BackendError as error:
        # 10.3 to 10.11 may not take every strongly typed network; then precision is a permission of the builder's.
        if not hasattr(trt.BuilderFlag, "INT8") or version(trt) >= _STRONG_SINCE:
            raise
        log.errors.clear()
        typing, weakly = "weak", error.problem
        network, plan = _attempt(trt, builder, log, job, strong=False)
    asked = asked_for(network)
    inputs = [network.get_input(index).name for index in range(int(network.num_inputs))]
    del network, builder
    with open(job.out, "wb") as file:
        file.write(plan)
    facts = {
        "seconds": round(time.monotonic() - started, 2),
        "bytes": os.path.getsize(job.out),
        "version": version_text(trt),
        "typing": typing,
        "weakly_typed_because": weakly,
        "inputs": inputs,
        "asked_int8": len(asked),
    }
    # Deserialising needs a GPU of the kind that was built for.
    return facts if job.targets else {**facts, "int8": compare(inspect(trt, plan), asked).to_dict()}


def inspect(trt: Any, plan: Any) -> str:
    """The engine's own report on its layers, as JSON text. Raises BackendError when it cannot be deserialised."""
    log = logger(trt)
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise _refusal(trt, log, "the engine just built cannot be loaded")
    text: str = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return text


def _attempt(trt: Any, builder: Any, log: Any, job: Job, *, strong: bool) -> tuple[Any, Any]:
    """The parsed network and its plan."""
    creation = trt.NetworkDefinitionCreationFlag
    flags = 1 << int(creation.STRONGLY_TYPED) if strong else 1 << int(creation.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    # By path, so that weights beside the graph are found.
    if not parser.parse_from_file(job.graph):
        raise _refusal(trt, log, _parser_errors(parser) or said(log, "the parser gave no reason"), parser=True)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if job.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace)
    if not strong:
        _allow_what_the_graph_asks(trt, network, config)
    for shapes in job.profiles:
        _add_profile(builder, config, network, shapes)
    _set_targets(trt, config, job.targets)
    _use_timing_cache(config, job)
    told = monitor(trt, lambda share: tell({"progress": share}))
    config.progress_monitor = told
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refusal(trt, log, "no engine came of it")
    if (timing := config.get_timing_cache()) is not None:
        Path(job.timing_out).write_bytes(timing.serialize())
    return network, plan


def _allow_what_the_graph_asks(trt: Any, network: Any, config: Any) -> None:
    """Builder flags for the precisions that a weakly typed network holds."""
    layers = [network.get_layer(index) for index in range(int(network.num_layers))]
    kinds = {layer.type.name for layer in layers}
    types = {layer.get_output(k).dtype.name for layer in layers for k in range(int(layer.num_outputs))}
    if "QUANTIZE" in kinds:
        config.set_flag(trt.BuilderFlag.INT8)
    if "HALF" in types:
        config.set_flag(trt.BuilderFlag.FP16)


def _add_profile(builder: Any, config: Any, network: Any, shapes: dict[str, list[list[int]]]) -> None:
    profile = builder.create_optimization_profile()
    for index in range(int(network.num_inputs)):
        value = network.get_input(index)
        if value.name not in shapes:
            raise BackendError(
                f"the graph has the input {value.name!r}, wanted {', '.join(shapes)}", "make the bundle again"
            )
        if value.is_shape_tensor:
            raise BackendError(
                f"TensorRT takes the values of the input {value.name!r} for shapes", "export the encoder again"
            )
        least, likely, most = (tuple(shape) for shape in shapes[value.name])
        profile.set_shape(value.name, least, likely, most)
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"TensorRT refuses the profile {shapes}", "report it with the bundle's manifest")


def _set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    """Compute capabilities to build for, where the library can be told; without any, the GPU that is here."""
    if not hasattr(config, "set_compute_capability"):
        if targets:
            raise BackendError(
                "this library builds for the GPU that is here only", "leave out --target, or use --backend tensorrt_rtx"
            )
        return
    kinds = trt.ComputeCapability
    config.num_compute_capabilities = len(targets) or 1
    if not targets:
        config.set_compute_capability(kinds.CURRENT, 0)
    known = {name.replace("SM", "sm_"): name for name in dir(kinds) if re.fullmatch(r"SM\d+", name)}
    for index, target in enumerate(targets):
        if target not in known or not config.set_compute_capability(getattr(kinds, known[target]), index):
            names = ", ".join(sorted(known, key=lambda name: int(name[3:])))
            raise BackendError(f"this library cannot build for {target}, only for {names}", "use one of these")


def _use_timing_cache(config: Any, job: Job) -> None:
    """Start from the measurements that earlier builds kept. One that does not fit is left out."""
    try:
        kept = Path(job.timing_cache).read_bytes() if job.timing_cache else b""
    except OSError:
        kept = b""
    for content in (kept, b"") if kept else (b"",):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _parser_errors(parser: Any) -> str:
    """Every error of the parser with the node it is about."""
    found = []
    for index in range(int(parser.num_errors)):
        error = parser.get_error(index)
        name = str(error.node_name() or "") if hasattr(error, "node_name") else ""
        operator = str(error.node_operator() or "") if hasattr(error, "node_operator") else ""
        node = f"node {name!r}" if name else f"node number {error.node()}"
        text = " ".join(str(error.desc()).split())
        found.append(f"{node}{f' ({operator})' if operator else ''}: {text}")
    text = "; ".join(dict.fromkeys(found))
    return text if len(text) <= 500 else text[:497] + "..."


_FREE_MEMORY = "close other programs or add swap, give less --workspace, or build with --profile query"


def _refusal(trt: Any, log: Any, what: str, *, parser: bool = False) -> BackendError:
    words = what if parser else f"{what} ({said(log, 'no reason given')})"
    library = f"{TITLES.get(trt.__name__, trt.__name__)} {version_text(trt)}"
    if _MEMORY.search(words):
        return BackendError(f"{library} ran out of memory: {words}", _FREE_MEMORY)
    return BackendError(f"{library} refuses the graph: {words}", "use another --precision, or another backend")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
