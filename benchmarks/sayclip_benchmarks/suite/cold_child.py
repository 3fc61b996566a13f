"""A fresh process from its start to the first spoken result, and what the PyTorch side needs made beforehand.

    python -m sayclip_benchmarks.suite.cold_child sayclip STARTED LIBRARY RECORDING BUNDLE BACKEND
    python -m sayclip_benchmarks.suite.cold_child torch STARTED LIBRARY RECORDING MODULE WEIGHTS THREADS
    python -m sayclip_benchmarks.suite.cold_child prepare BUNDLE RECORDING FOLDER

STARTED is the clock (``time.monotonic``) when the process was asked for. The last line of stdout is JSON. What a side
does not need is not imported before its last moment is taken: this module itself imports next to nothing.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

K = 10
_LATER = 5
_RATE = 16_000
_EMPTY = "the library holds no pictures"


class _Moments:
    """The clock after imports, after loading and after the first result, and what a later result takes."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._seen: list[float] = []

    def passed(self) -> None:
        self._seen.append(time.monotonic())

    def told(self, again: Callable[[], Any], **more: Any) -> dict[str, Any]:
        later = []
        for _ in range(_LATER):
            begun = time.monotonic()
            again()
            later.append(time.monotonic() - begun)
        imported, loaded, first = self._seen
        return {
            "import_s": imported - self._started,
            "load_s": loaded - imported,
            "first_s": first - loaded,
            "steady_s": sorted(later)[_LATER // 2],
            "rss_bytes": peak_memory(),
            **more,
        }


def peak_memory() -> int:
    """Bytes of the largest resident set of this program so far.

    Not of ``getrusage``, where Linux says: that begins with what the process was before it became this program, a copy
    of its parent.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _sayclip(started: str, database: str, recording: str, bundle: str, backend: str) -> dict[str, Any]:
    moments = _Moments(float(started))
    from sayclip import Library, load

    moments.passed()
    encoder = load(bundle, backend=backend)
    encoder.open("speech")
    library = Library.open(database, encoder)
    moments.passed()

    def ask() -> str:
        hits = library.search(speech=recording, k=K)
        if not hits:
            raise ValueError(_EMPTY)
        return hits[0].source

    best = ask()
    moments.passed()
    told = moments.told(ask, found=best)
    chosen = encoder.info()["encoders"]["speech"]
    return {**told, "backend": chosen["backend"], "precision": chosen["precision"]}


def _torch(started: str, database: str, recording: str, module: str, weights: str, threads: str) -> dict[str, Any]:
    moments = _Moments(float(started))
    import importlib
    import sqlite3

    import numpy as np
    import torch

    for name in ("wave", module):
        importlib.import_module(name)
    moments.passed()
    torch.set_num_threads(int(threads))
    # A module that `prepare` wrote just now: the quickest way to have one, without making up weights first.
    model = torch.load(weights, weights_only=False)
    connection = sqlite3.connect(database)
    found = connection.execute("SELECT item_id, vector FROM vectors ORDER BY id").fetchall()
    if not found:
        raise ValueError(_EMPTY)
    rows = np.frombuffer(b"".join(vector for _, vector in found), np.float16).reshape(len(found), -1)
    vectors = rows.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    moments.passed()

    def ask() -> str:
        heard = samples(recording)
        with torch.inference_mode():
            made = model(torch.from_numpy(heard)[None], torch.tensor([len(heard)], dtype=torch.int32))
        query = (made[0] if isinstance(made, tuple) else made)[0].numpy()
        scores = vectors @ query
        best = np.argpartition(-scores, min(K, len(scores)) - 1)[:K]
        ids = [found[place][0] for place in best[np.argsort(-scores[best])]]
        return str(connection.execute("SELECT source FROM items WHERE id = ?", ids[:1]).fetchone()[0])

    best = ask()
    moments.passed()
    return moments.told(ask, found=best)


def samples(path: str) -> Any:
    """What `prepare` wrote, f32 [S]."""
    import wave

    import numpy as np

    with wave.open(path) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32767


def _prepare(bundle: str, recording: str, folder: str) -> dict[str, Any]:
    """Write ``module.pt`` and ``query.wav`` into ``folder``: the speech encoder in PyTorch, and the recording as the
    runtime would hear it, at the encoder's rate and trimmed. ``same``: whether its weights are the bundle's."""
    import wave
    from pathlib import Path

    import numpy as np
    import torch

    from sayclip.bundle.manifest import Manifest
    from sayclip.preparation import Preparation

    manifest = Manifest.read(Path(bundle))
    module = _module(manifest)
    torch.save(module, Path(folder) / "module.pt")
    [heard] = Preparation(manifest).recordings(None, [recording])
    with wave.open(str(Path(folder) / "query.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(np.rint(np.clip(heard, -1, 1) * 32767).astype("<i2").tobytes())
    count = sum(one.numel() for one in module.parameters())
    return {"module": type(module).__module__, "parameters": count, "same": _agrees(manifest, module)}


def _module(manifest: Any) -> Any:
    """The speech encoder's PyTorch definition at the sizes of the bundle; InputError where these are not known."""
    entry = manifest.entry("speech")
    if entry.provenance.get("source") != "sayclip train demo":
        from sayclip_benchmarks.suite.torch_side import build

        return build(manifest, "speech")
    import onnx

    from sayclip.errors import InputError
    from sayclip_export.models.phonetic import PhoneticBranch, PhoneticConfig, SpeechEncoder
    from sayclip_export.models.speech import SpeechConfig, SpeechTower

    path = manifest.path(entry.graphs["fp32"].file)
    weights = _weights(onnx.load(str(path)).graph)
    if "tower.phonemes.bias" not in weights:
        raise InputError(f"{path} is another speech encoder than the demo's recipe trains", "leave PyTorch out")
    sounds = len(weights["tower.phonemes.bias"])  # the one size that the recipe does not fix
    tower = SpeechTower(SpeechConfig(embedding=manifest.width, phonemes=sounds))
    module = SpeechEncoder(tower, PhoneticBranch(PhoneticConfig(sounds, embedding=manifest.width))).fold()
    own = module.state_dict()
    module.load_state_dict({key: weights.get(key, value).reshape(value.shape) for key, value in own.items()})
    return module


def _weights(graph: Any) -> dict[str, Any]:
    """A module's weights (float32 tensors by name) out of the graph it was exported to.

    Most keep their names. The matrix of a linear layer is known by the bias that is added to its product, and
    ``layer_weights`` by the one softmax that was computed at export.
    """
    import torch
    from onnx import numpy_helper

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:  # stored in half the bytes
            arrays[node.output[0]] = arrays[node.input[0]]
    matrices = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        biases = [name for name in node.input if name.endswith(".bias")]
        products = [matrices[name] for name in node.input if matrices.get(name) in arrays]
        if node.op_type == "Add" and biases and products:
            arrays[biases[0].removesuffix("bias") + "weight"] = arrays[products[0]].T
    found = {name: torch.tensor(array.copy()).float() for name, array in arrays.items() if array.dtype.kind == "f"}
    for name in [name for name in found if name.startswith("softmax")]:
        found["tower.layer_weights"] = found[name].log()
    return found


def _agrees(manifest: Any, module: Any) -> bool:
    """Whether the module gives what the bundle says its graph gives, within the tolerance of the same graph."""
    import numpy as np
    import torch

    from sayclip.sessions.reference import OUTPUT, read_reference

    feeds, outputs = read_reference(manifest, "speech")
    with torch.inference_mode():
        made = module(torch.from_numpy(feeds["waveform"]), torch.from_numpy(feeds["length"]))
    seen = (made[0] if isinstance(made, tuple) else made).numpy()
    tolerance = manifest.entry("speech").reference.tolerance["fp32"]
    return bool(np.abs(seen - outputs[OUTPUT]).max() <= tolerance)


def main(arguments: list[str]) -> int:
    import json

    try:
        told = {"sayclip": _sayclip, "torch": _torch, "prepare": _prepare}[arguments[0]](*arguments[1:])  # type: ignore[operator]
    except Exception as error:
        from sayclip.errors import MissingDependencyError

        why = " ".join(str(getattr(error, "problem", error)).split())[:300] or type(error).__name__
        print(json.dumps({"error": why, "missing": isinstance(error, (ImportError, MissingDependencyError))}))
        return 1
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
