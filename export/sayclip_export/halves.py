"""Weights stored as fp16 where that loses nothing; the graph still computes in fp32.

A float32 initialiser whose every value is a float16 becomes a float16 one and a Cast, which ONNX Runtime, OpenVINO and
TensorRT fold when they load the graph. Checkpoints that were published in fp16 (OpenAI's CLIP) halve in size this way.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

SMALLEST = 1024  # elements; below this the Cast costs more bytes than it saves


def round_to_halves(module: nn.Module) -> nn.Module:
    """Round every parameter of ``module`` to the nearest float16, in place; buffers (a signal front) stay."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half().float())
    return module


def store_halves(path: Path) -> int:
    """Rewrite the graph at ``path`` with float16 storage where it is exact. Returns how many initialisers changed."""
    model = onnx.load(str(path))
    casts = []
    for initialiser in model.graph.initializer:
        if initialiser.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initialiser)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.size < SMALLEST or not np.array_equal(halves.astype(np.float32), values):
            continue
        name = initialiser.name
        initialiser.CopyFrom(numpy_helper.from_array(halves, f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return len(casts)
