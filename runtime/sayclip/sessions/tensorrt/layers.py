"""What a graph asks to be computed in int8, and what the built engine says of itself.

TensorRT may compute a quantised layer in a higher precision without a word. Its own layer report tells, in a form that
differs between versions, so it is read with little faith: a layer that is not found in it is called unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_ONNX_NAME = re.compile(r"\[ONNX Layer: (.*?)\](?=$|[\x00-\x1f\[,; ])")
# As kernels are named: ..._i8i8_i8i32_f32_..., sm80_xmma_gemm_i8f32_..., ..._imma_..., turing_int8_i8816...
_INT8_KERNEL = re.compile(r"int8|(?<![a-z0-9])[isu]8(?![0-9])|(?<![a-z])imma", re.IGNORECASE)
_INT8_TYPE = re.compile(r"\bint8\b|\bi8\b|\bs8\b", re.IGNORECASE)
_TYPES = re.compile(
    r"\b(fp32|float32|float|fp16|float16|half|bf16|bfloat16|fp8|int8|int32|int64|bool)\b", re.IGNORECASE
)
_MOVES = ("reformat", "constant", "shuffle", "quantize", "dequantize", "noop", "signal", "wait", "cast")
_PASSED_THROUGH = ("SHUFFLE", "IDENTITY", "SQUEEZE", "UNSQUEEZE")
_COMPUTING = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")


@dataclass(frozen=True)
class Comparison:
    """Names of the layers that should compute in int8: those that do, those that do not with the types that were seen,
    and those of which the report does not tell."""

    int8: tuple[str, ...]
    other: Mapping[str, str]
    unknown: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def asked_for(network: Any) -> list[str]:
    """ONNX names of the layers of a parsed TensorRT network whose two factors are both dequantised.

    ``network`` is an ``INetworkDefinition``; only what all versions since 10.3 have is asked of it.
    """
    layers = [network.get_layer(index) for index in range(int(network.num_layers))]
    makers = {layer.get_output(k).name: layer for layer in layers for k in range(int(layer.num_outputs))}

    def dequantised(tensor: Any) -> bool:
        maker = makers.get(tensor.name)
        while maker is not None and maker.type.name in _PASSED_THROUGH:
            maker = makers.get(maker.get_input(0).name)
        return maker is not None and maker.type.name == "DEQUANTIZE"

    def factors(layer: Any) -> list[Any]:
        tensors = [layer.get_input(k) for k in range(min(2, int(layer.num_inputs)))]
        return [tensor for tensor in tensors if tensor is not None]

    asked = []
    for layer in layers:
        if layer.type.name in _COMPUTING and len(found := factors(layer)) == 2 and all(map(dequantised, found)):
            names = onnx_names(str(getattr(layer, "metadata", "") or ""))
            asked.append(names[0] if names else layer.name)
    return asked


def onnx_names(metadata: str) -> list[str]:
    """Names of ONNX nodes in a layer's metadata, ``[ONNX Layer: a]`` once or several times, with any separator."""
    return _ONNX_NAME.findall(metadata)


def compare(report: str, asked: Sequence[str]) -> Comparison:
    """Hold the engine's ``report``, JSON as its inspector gives it, against the layers ``asked`` for in int8.

    A report that cannot be read makes all of them unknown.
    """
    found: dict[str, list[tuple[bool, str]]] = {}
    for layer in _layers(report):
        for name in _parts(layer):
            found.setdefault(name, []).append((_is_int8(layer), _types(layer)))
    int8, other, unknown = [], {}, []
    for name in asked:
        seen = found.get(name)
        if seen is None:
            unknown.append(name)
        elif any(quantised for quantised, _ in seen):
            int8.append(name)
        else:
            other[name] = next((types for _, types in seen if types), "unknown types")
    return Comparison(tuple(int8), other, tuple(unknown))


def _layers(report: str) -> Iterator[Mapping[str, Any]]:
    """The report's layers that compute something. Reports may be an object with ``Layers``, or a bare list."""
    try:
        document = json.loads(report)
    except (ValueError, RecursionError):
        return
    listed = _get(document, "layers") if isinstance(document, dict) else document
    for layer in listed if isinstance(listed, list) else ():
        if isinstance(layer, dict):
            kind = str(_get(layer, "layertype") or "").lower()
            if not any(move in kind for move in _MOVES):
                yield layer


def _get(table: Mapping[str, Any], key: str) -> Any:
    """The value under ``key``, whatever its spelling: ``LayerType``, ``layer_type``, ``Layer Type``."""
    return next((value for name, value in table.items() if re.sub("[^a-z0-9]", "", str(name).lower()) == key), None)


def _parts(layer: Mapping[str, Any]) -> set[str]:
    """ONNX names that a layer of the engine was fused from: its metadata, else its name, split at `` + ``."""
    names = onnx_names(str(_get(layer, "metadata") or ""))
    return set(names) or {part.strip() for part in str(_get(layer, "name") or "").split(" + ")}


def _tensors(layer: Mapping[str, Any]) -> Iterator[str]:
    """What is said of the type of each input, such as ``Row major linear Int8 format``."""
    inputs = _get(layer, "inputs")
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict):
            for key, value in tensor.items():
                if isinstance(value, str) and re.search("type|format", str(key), re.IGNORECASE):
                    yield value


def _is_int8(layer: Mapping[str, Any]) -> bool:
    """By its kernel's name, else by what it multiplies the weights with: int8 weights alone may be dequantised."""
    kernel = str(_get(layer, "tacticname") or "")
    first = next(_tensors(layer), "")
    return bool(_INT8_KERNEL.search(kernel) or _INT8_TYPE.search(first))


def _types(layer: Mapping[str, Any]) -> str:
    words = [match.group().lower() for text in _tensors(layer) if (match := _TYPES.search(text))]
    return ", ".join(dict.fromkeys(words))
