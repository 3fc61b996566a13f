"""The PyTorch side of cold starts, made beforehand: a bundle's speech encoder in PyTorch, with the bundle's weights."""

from __future__ import annotations

from typing import Any

_RATE = 16_000


def prepare(bundle: str, recording: str, folder: str) -> dict[str, Any]:
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
