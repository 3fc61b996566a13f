"""Torch encoders to ONNX graphs under the names of the bundle's contract, and their verification against torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sayclip.errors import BundleError
from sayclip.sessions.onnxruntime import import_onnxruntime

OPSET = 18  # TensorRT takes 18 to 20; 18 with eager attention gives the smallest graphs
LARGEST = (1 << 31) - (64 << 20)  # bytes of weights in one file; protobuf ends at 2 GiB
_SMALL = 1024  # bytes; smaller tensors stay in the graph
_OUTPUT = "{}_of_the_contract"
Feeds = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class GraphShape:
    """Inputs of one kind of encoder: names in order, and names of the free dimensions of each."""

    inputs: Mapping[str, Mapping[int, str]]


SHAPES = {
    "image": GraphShape({"pixels": {0: "batch"}}),
    "text": GraphShape({"token_ids": {0: "batch", 1: "tokens"}, "length": {0: "batch"}}),
    "pronunciation": GraphShape({"phoneme_ids": {0: "batch", 1: "phonemes"}, "length": {0: "batch"}}),
    "speech": GraphShape({"waveform": {0: "batch", 1: "samples"}, "length": {0: "batch"}}),
    "audio": GraphShape({"segments": {0: "batch"}, "type_mix": {0: "batch"}}),
}


def export_graph(
    name: str, module: nn.Module, example: Sequence[Tensor], target: Path, outputs: Sequence[str] = ("embedding",)
) -> list[str]:
    """Write ``module`` as ``target`` (fp32, opset 18), with free batch and length; checked by onnx.

    ``example``: inputs in the order of ``SHAPES[name]``, batch and free lengths of at least 2. ``outputs``: names of
    what ``module`` returns, a tensor or a tuple of them, each with the batch first. Returns the names of the files
    beside ``target`` that hold its weights: none, unless one file cannot hold them.
    """
    shape = SHAPES[name]
    free: dict[str, torch.export.Dim] = {}
    dynamic = tuple(
        {axis: free.setdefault(label, torch.export.Dim.DYNAMIC) for axis, label in axes.items()}
        for axes in shape.inputs.values()
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(example),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(shape.inputs),
            output_names=[_OUTPUT.format(output) for output in outputs],
            dynamic_shapes=dynamic,
            external_data=False,
            optimize=True,
        )
    assert program is not None  # only an export to a file returns none
    model = program.model_proto
    del program  # what holds the weights once more, here and below, goes before the next step needs room
    for output in outputs:
        _rename(model, output, f"{output}_inner")  # the exporter calls the output of a Gather "embedding"
        _rename(model, _OUTPUT.format(output), output)
    _name_dimensions(model, shape)
    _forget_sources(model)
    data = _store(model, target)
    del model
    onnx.checker.check_model(str(target), full_check=True)
    return data


def _store(model: onnx.ModelProto, target: Path) -> list[str]:
    """Write ``model``; past ``LARGEST`` its weights go into one file beside it."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= LARGEST:
        onnx.save(model, str(target))
        return []
    data = f"{target.stem}.data"
    target.with_name(data).unlink(missing_ok=True)  # onnx would append to it
    onnx.save(model, str(target), save_as_external_data=True, location=data, size_threshold=_SMALL)
    return [data]


@dataclass(frozen=True)
class Agreement:
    """How an ONNX graph compares with torch: largest absolute difference and smallest cosine over all rows.

    ``equal_ids``: the share of whole numbers, such as keyword ids, that are equal; None where a graph gives none.
    """

    largest: float
    cosine: float
    shapes: int
    equal_ids: float | None = None


def verify(
    graph: Path, module: nn.Module, feeds: Sequence[Feeds], outputs: Sequence[str] = ("embedding",)
) -> Agreement:
    """Run ``graph`` in ONNX Runtime and ``module`` in torch on each of ``feeds`` and compare ``outputs``.

    Embeddings [B,D] by difference and cosine, whole numbers by equality, all others by difference.
    """
    session = import_onnxruntime().InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    largest, cosine = 0.0, 1.0
    equal: list[NDArray[np.bool_]] = []
    for feed in feeds:
        got = session.run(list(outputs), feed)
        with torch.inference_mode():
            wanted = module.eval()(*(torch.from_numpy(value) for value in feed.values()))
        for name, ours, theirs in zip(outputs, got, [wanted] if isinstance(wanted, Tensor) else wanted, strict=True):
            known = theirs.numpy()
            if ours.shape != known.shape or ours.dtype != known.dtype or not np.isfinite(ours).all():
                raise BundleError(
                    f"{graph.name}: {name} is {ours.dtype} {ours.shape}, torch gives {known.dtype} {known.shape}, or "
                    "values are not finite",
                    "export again with the versions of pyproject.toml",
                )
            if np.issubdtype(ours.dtype, np.integer):
                equal.append((ours == known).ravel())
                continue
            largest = max(largest, float(np.abs(ours - known).max()))
            if name.endswith("embedding"):
                norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(known, axis=1)
                cosine = min(cosine, float(((ours * known).sum(1) / np.maximum(norms, 1e-12)).min()))
    share = float(np.concatenate(equal).mean()) if equal else None
    return Agreement(largest, cosine, len(feeds), share)


def width(module: nn.Module, feed: Feeds) -> int:
    """Length D of the embeddings [B,D] that ``module`` gives, alone or first of several."""
    with torch.inference_mode():
        given = module.eval()(*(torch.from_numpy(value) for value in feed.values()))
    return int((given if isinstance(given, Tensor) else given[0]).shape[1])


def require(agreement: Agreement, graph: Path, largest: float = 1e-4) -> None:
    """Refuse a graph that is further than ``largest`` from torch, or chooses other ids."""
    if agreement.largest > largest:
        raise BundleError(
            f"{graph.name} differs from torch by {agreement.largest:.2e}, wanted at most {largest:.0e}",
            "report it with the versions of torch, onnxscript and onnxruntime",
        )
    if agreement.equal_ids is not None and agreement.equal_ids < 1:
        raise BundleError(
            f"{graph.name} gives {agreement.equal_ids:.2%} of torch's ids, wanted all of them",
            "report it with the versions of torch, onnxscript and onnxruntime",
        )


def random_shapes(make: Callable[[np.random.Generator], Feeds], count: int = 10, seed: int = 0) -> list[Feeds]:
    """``count`` feeds from ``make``, each with a generator of its own."""
    return [make(np.random.default_rng(seed * 1000 + i)) for i in range(count)]


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if value == old else value for value in node.input]
        node.output[:] = [new if value == old else value for value in node.output]
    for value in model.graph.output:
        value.name = new if value.name == old else value.name


def _name_dimensions(model: onnx.ModelProto, shape: GraphShape) -> None:
    """Free dimensions under the contract's names, and outputs whose rows are ``batch``."""
    for value, axes in zip(model.graph.input, shape.inputs.values(), strict=True):
        for axis, label in axes.items():
            value.type.tensor_type.shape.dim[axis].dim_param = label
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]


def _forget_sources(model: onnx.ModelProto) -> None:
    """Stack traces and module paths of the exporting machine do not belong into a bundle."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints progress and warns of its own internals; only its errors matter here."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.getLogger("torch.onnx").setLevel(level)
