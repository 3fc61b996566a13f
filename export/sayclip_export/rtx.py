"""NVIDIA's own parser and builder on a graph: TensorRT-RTX, which needs no GPU for either.

The library runs in a process of its own, because what it does not like may end the process, and so that its memory can
be measured. As a program: ``python -m sayclip_export.rtx GRAPH`` prints JSON.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from sayclip.errors import BundleError, MissingDependencyError

# Least, likeliest and most of every free dimension of the contract: what an engine is built for.
FREE = {
    "batch": (1, 2, 8),
    "samples": (400, 48_000, 160_000),
    "tokens": (3, 16, 77),
    "phonemes": (3, 16, 77),
}


@dataclass(frozen=True)
class Built:
    """An engine: names of its outputs, its size, the seconds it took, and the peak memory of the process in bytes."""

    outputs: tuple[str, ...]
    bytes: int
    seconds: float
    peak_memory: int


def installed() -> bool:
    """Whether ``tensorrt_rtx`` can be imported."""
    return importlib.util.find_spec("tensorrt_rtx") is not None


def build(graph: Path, timeout: float = 3600.0) -> Built:
    """Parse ``graph`` and build an engine of it, which is thrown away.

    Raises BundleError with NVIDIA's words for a graph that is refused, MissingDependencyError without the library.
    """
    if not installed():
        raise MissingDependencyError("building engines ahead of time needs TensorRT-RTX", "pip install tensorrt-rtx")
    command = [sys.executable, "-m", "sayclip_export.rtx", str(graph)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        words = (done.stdout or done.stderr).strip().replace("\n", "; ") or f"status {done.returncode}"
        raise BundleError(f"TensorRT-RTX refuses {graph.name}: {words}", "report it with the version of tensorrt-rtx")
    found = json.loads(done.stdout.splitlines()[-1])
    return Built(tuple(found["outputs"]), found["bytes"], found["seconds"], found["peak_memory"])


def _build(graph: Path) -> Built:
    import tensorrt_rtx as trt

    errors: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc]
        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                errors.append(message)

    started, log = time.monotonic(), Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        sys.exit("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for value in onnx.load(str(graph), load_external_data=False).graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = [FREE[dim.dim_param] if dim.dim_param else (dim.dim_value,) * 3 for dim in dims]
        profile.set_shape(value.name, *(tuple(size[k] for size in sizes) for k in range(3)))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        sys.exit("; ".join(errors) or "no engine, and no reason given")
    outputs = tuple(network.get_output(i).name for i in range(network.num_outputs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Built(outputs, memoryview(engine).nbytes, time.monotonic() - started, peak)


if __name__ == "__main__":
    print(json.dumps(asdict(_build(Path(sys.argv[1])))))
