"""Small graphs for the calibration tests: written node by node, or exported from tiny torch encoders."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

Feed = dict[str, NDArray[Any]]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(nodes, constants, inputs, outputs=("embedding",), opset=18, rank=2)`` -> path of an fp32 graph."""

    def make(
        nodes: Sequence[NodeProto],
        constants: Mapping[str, NDArray[Any]],
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Sequence[str] = ("embedding",),
        opset: int = 18,
        rank: int = 2,
    ) -> Path:
        graph = helper.make_graph(
            list(nodes),
            "tiny",
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, [None] * rank) for key in outputs],
            [numpy_helper.from_array(value, key) for key, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        path = tmp_path / "tiny.fp32.onnx"
        onnx.save(model, str(path))
        return path

    return make


class Block(nn.Module):
    """Pre-norm transformer layer with eager attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.ln_1(x)
        q, k, v = (part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + mask, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.ln_2(x))))


class Text(nn.Module):
    """CLIP-style: causal, read at the end of text, projected without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(300, 64)
        self.position = nn.Parameter(torch.randn(77, 64) * 0.05)
        self.blocks = nn.ModuleList(Block(64, 4) for _ in range(2))
        self.ln = nn.LayerNorm(64)
        self.projection = nn.Linear(64, 48, bias=False)

    def forward(self, token_ids: Tensor, length: Tensor) -> Tensor:
        count = token_ids.shape[1]
        steps = torch.arange(count)
        mask = torch.where(steps[None, :] > steps[:, None], -1e4, 0.0)
        x = self.table(token_ids) + self.position[:count]
        for block in self.blocks:
            x = block(x, mask)
        end = (steps[None, :] == (length - 1)[:, None]).float()
        return functional.normalize(self.projection(self.ln((x * end[:, :, None]).sum(1))), dim=-1)


class Image(nn.Module):
    """CNN with a depthwise layer, a residual sum and a hidden layer after pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.depthwise = nn.Conv2d(32, 32, 3, 1, 1, groups=32)
        self.pointwise = nn.Conv2d(32, 64, 1)
        self.same = nn.Conv2d(64, 64, 3, 1, 1)
        self.hidden = nn.Linear(64, 64)
        self.projection = nn.Linear(64, 48, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        x = functional.relu(self.stem(pixels))
        x = functional.gelu(self.pointwise(self.depthwise(x)))
        x = functional.relu(x + self.same(x)).mean((2, 3))
        return functional.normalize(self.projection(functional.gelu(self.hidden(x))), dim=-1)


class LogMel(nn.Module):
    """Log-mel by a DFT written as a convolution."""

    def __init__(self) -> None:
        super().__init__()
        angle = 2 * math.pi * torch.arange(65)[:, None] * torch.arange(128)[None, :] / 128
        basis = torch.cat([torch.cos(angle), torch.sin(angle)]) * torch.hann_window(128)
        self.register_buffer("dft", basis[:, None, :])
        self.register_buffer("mel", torch.rand(65, 20))

    def forward(self, waveform: Tensor) -> Tensor:
        real, imaginary = functional.conv1d(waveform[:, None, :], self.dft, stride=64).chunk(2, dim=1)
        return torch.log((real * real + imaginary * imaginary).transpose(1, 2) @ self.mel + 1e-5)


class Speech(nn.Module):
    """Log-mel front, 1-D convolutions, a transformer layer, mean over the valid frames."""

    def __init__(self) -> None:
        super().__init__()
        self.front = LogMel()
        self.conv_1, self.conv_2 = nn.Conv1d(20, 64, 3, 2, 1), nn.Conv1d(64, 64, 15, padding=7, groups=4)
        self.block = Block(64, 4)
        self.ln = nn.LayerNorm(64)
        self.projection = nn.Linear(64, 48)

    def forward(self, waveform: Tensor, length: Tensor) -> Tensor:
        frames = ((length - 128) // 64 + 2) // 2
        x = functional.gelu(self.conv_1(self.front(waveform).transpose(1, 2)))
        valid = (torch.arange(x.shape[2])[None, :] < frames[:, None]).float()
        x = ((x + functional.gelu(self.conv_2(x * valid[:, None]))) * valid[:, None]).transpose(1, 2)
        x = self.block(x, (1.0 - valid)[:, None, None, :] * -1e4)
        x = (self.ln(x) * valid[:, :, None]).sum(1) / valid.sum(1, keepdim=True)
        return functional.normalize(self.projection(x), dim=-1)


@dataclass(frozen=True)
class Tiny:
    """An exported encoder, feeds to calibrate it with, and feeds of other shapes that calibration never saw."""

    name: str
    path: Path
    feeds: list[Feed]
    others: list[Feed]


def _export(module: nn.Module, example: tuple[Tensor, ...], axes: dict[str, dict[int, str]], path: Path) -> Path:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            opset_version=18,
            input_names=list(axes),
            output_names=["result"],  # "embedding" is what the exporter calls the output of nn.Embedding
            dynamic_shapes=tuple({axis: torch.export.Dim.DYNAMIC for axis in free} for free in axes.values()),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"embedding": "looked_up", "result": "embedding"}.get(name, name) for name in names]
    model.graph.output[0].name = "embedding"
    del model.graph.value_info[:]
    onnx.save(model, str(path))
    return path


def _tokens(rng: np.random.Generator, batch: int, count: int) -> Feed:
    ids = rng.integers(0, 300, (batch, count)).astype(np.int32)
    return {"token_ids": ids, "length": np.full(batch, count, np.int32)}


def _sound(rng: np.random.Generator, batch: int, samples: int) -> Feed:
    wave = (rng.standard_normal((batch, samples)) * 0.1).astype(np.float32)
    return {"waveform": wave, "length": np.full(batch, samples, np.int32)}


def _pixels(rng: np.random.Generator, batch: int) -> Feed:
    return {"pixels": rng.standard_normal((batch, 3, 64, 64)).astype(np.float32)}


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    example = (torch.ones(2, 9, dtype=torch.int32), torch.tensor([5, 9], dtype=torch.int32))
    axes = {"token_ids": {0: "batch", 1: "tokens"}, "length": {0: "batch"}}
    path = _export(Text(), example, axes, tmp_path_factory.mktemp("text") / "text.fp32.onnx")
    feeds = [_tokens(rng, batch, count) for batch, count in ((1, 3), (2, 9), (1, 20), (4, 12), (1, 77))]
    return Tiny("text", path, feeds, [_tokens(rng, batch, count) for batch, count in ((1, 2), (3, 31), (5, 76))])


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.manual_seed(2)
    rng = np.random.default_rng(2)
    path = _export(
        Image(), (torch.randn(2, 3, 64, 64),), {"pixels": {0: "batch"}}, tmp_path_factory.mktemp("image") / "i.onnx"
    )
    return Tiny("image", path, [_pixels(rng, batch) for batch in (1, 4)], [_pixels(rng, batch) for batch in (3, 7)])


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    example = (torch.randn(2, 8000), torch.tensor([8000, 5000], dtype=torch.int32))
    axes = {"waveform": {0: "batch", 1: "samples"}, "length": {0: "batch"}}
    path = _export(Speech(), example, axes, tmp_path_factory.mktemp("speech") / "speech.fp32.onnx")
    feeds = [_sound(rng, batch, samples) for batch, samples in ((1, 8000), (2, 4001), (1, 16000))]
    return Tiny("speech", path, feeds, [_sound(rng, batch, samples) for batch, samples in ((1, 801), (3, 9999))])


@pytest.fixture(params=["text", "image", "speech"])
def encoder(request: pytest.FixtureRequest) -> Tiny:
    """Each of the three tiny encoders in turn."""
    tiny: Tiny = request.getfixturevalue(request.param)
    return tiny
