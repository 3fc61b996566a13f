"""CLIP4VLA's audio encoder against vectors made by its own code, at full size and with weights in closed form."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sayclip.pooling import pool_segments
from sayclip_export.models.clip4vla import ClipAudio
from sayclip_export.readers.clip4vla import arrange
from sayclip_export.readers.overrides import Overrides

Golden = Callable[[str], Path]
TYPE = 50
FAR = 1e-4  # what the vectors' own page (2.3) grants in fp32: processors round the first layers differently


def weights(key: str, shape: list[int]) -> torch.Tensor:
    """The closed form of the vectors' own page (golden/README.md, 2.1), fp32."""
    module, _, leaf = ("." + key).rpartition(".")
    phase = (zlib.crc32(key.encode()) % 65536) * 0.0001220703125
    u = np.arange(math.prod(shape), dtype=np.float64)
    u *= 0.6180339887498949
    u += phase
    u -= np.floor(u)
    u *= 2
    u -= 1
    if module.rpartition(".")[2].startswith("ln_") and leaf == "weight":
        u = 1 + 0.1 * u
    elif leaf in ("bias", "in_proj_bias"):
        u *= 0.02
    elif "embedding" in leaf:
        u *= 0.5
    else:
        u *= math.sqrt(3 / (shape[0] if leaf == "proj" else math.prod(shape[1:])))
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


def images() -> torch.Tensor:
    """The closed form of the input (2.2), f32 [6,3,224,224]."""
    i = np.arange(6 * 3 * 224 * 224, dtype=np.float64)
    x = np.sin(0.013 * i + zlib.crc32(b"audio") % 65536) + 0.5 * np.sin(0.00071 * i + 1.0)
    wave = torch.from_numpy(x.astype(np.float32)).reshape(6, 3, 224, 224)
    # By torch as the vectors were: with these weights the last bit of the input is worth 5e-5 of the output.
    return (wave - wave.mean((2, 3), keepdim=True)) / (wave.std((2, 3), unbiased=False, keepdim=True) + 1e-10)


def farthest(seen: torch.Tensor, wanted: np.ndarray) -> float:
    assert seen.shape == wanted.shape
    return float(np.abs(seen.numpy() - wanted).max())


def key_list(golden: Golden, name: str) -> dict[str, torch.Tensor]:
    """A published list of keys as meta tensors: shapes and types alone."""
    lists = json.loads(gzip.decompress(golden("keys/clip4vla_full_size.json.gz").read_bytes()))
    return {key: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for key, shape, kind in lists[name]}


@pytest.fixture(scope="module")
def tower(golden: Golden) -> ClipAudio:
    shapes = key_list(golden, "audio_encoder_alone")
    found = arrange(shapes, Path("golden"), Overrides())
    with torch.device("meta"):
        tower = ClipAudio(found.audio)
    theirs = {key: weights(key, list(empty.shape)) for key, empty in shapes.items()}
    state = {ours: source.cut(theirs[source.key]).contiguous() for ours, source in found.sources["audio"].items()}
    tower.load_state_dict(state, assign=True)
    return tower.eval()


@pytest.fixture(scope="module")
def vectors(golden: Golden) -> dict[str, np.ndarray]:
    with np.load(golden("clip4vla/clip4vla_audio_golden.npz"), allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


@torch.inference_mode()
def test_segments_and_their_pool(tower: ClipAudio, vectors: dict[str, np.ndarray]) -> None:
    segments = images()
    assert farthest(segments[:, :, 0, :8], vectors["x_first_row"]) == 0
    for mix in (0.0, 0.5, 1.0):
        types = tower.type_tokens(torch.full((6,), mix))
        seen = tower.read_out(segments, types)
        assert farthest(seen, vectors[f"cls_control{mix}"]) <= FAR
        pooled = pool_segments(seen[:4].numpy(), [4])  # the vectors' mask leaves out the last two
        assert np.abs(pooled - vectors[f"pooled_control{mix}"]).max() <= 1e-5


@torch.inference_mode()
def test_the_type_token_s_own_state(tower: ClipAudio, vectors: dict[str, np.ndarray]) -> None:
    seen = tower.read_out(images()[:2], tower.type_tokens(torch.full((2,), 0.5)), TYPE)
    assert farthest(seen, vectors["typetok_control0.5"][:2]) <= FAR


@torch.inference_mode()
def test_a_type_for_each_segment_and_both_at_once(tower: ClipAudio, vectors: dict[str, np.ndarray]) -> None:
    segments = images()[2:4]
    seen = tower.read_out(segments, tower.type_tokens(torch.tensor([0.0, 1.0])))
    assert farthest(seen, vectors["cls_tokentype_000111"][2:4]) <= FAR
    both = tower.type_embedding.expand(2, -1, -1)
    assert farthest(tower.read_out(segments, both), vectors["cls_control3"][2:4]) <= FAR


@torch.inference_mode()
def test_the_exported_form_is_the_normalised_one(tower: ClipAudio, vectors: dict[str, np.ndarray]) -> None:
    seen = tower(images()[:1], torch.tensor([1.0])).numpy()
    wanted = vectors["cls_control1.0"][:1] / np.linalg.norm(vectors["cls_control1.0"][:1])
    assert np.abs(seen - wanted).max() <= 2e-6


@pytest.mark.parametrize(
    ("name", "keys", "dropped", "cross"),
    [
        ("audio_encoder_alone", 153, {}, ""),
        (
            "retrieval_with_cross",
            507,
            {"CLIP-like fusion": 50, "the score of a pair": 2, "the temperature of training": 1},
            "CLIP-like",
        ),
        (
            "caption",
            511,
            {"captioning": 6, "CLIP-like fusion": 50, "the temperature of training": 1},
            "CLIP-like",
        ),
    ],
)
def test_no_key_of_the_published_lists_is_left_over(
    golden: Golden, name: str, keys: int, dropped: dict[str, int], cross: str
) -> None:
    tensors = key_list(golden, name)
    found = arrange(tensors, Path(name), Overrides())
    assert len(tensors) == keys
    assert {rule: len(group) for rule, group in found.dropped.items()} == dropped
    assert found.cross == cross
    used = {source.key for sources in found.sources.values() for source in sources.values()}
    left = [key for group in found.dropped.values() for key in group]
    assert sorted([*used, *left]) == sorted(tensors)
    assert (found.audio.layers, found.audio.heads, found.audio.size, found.audio.embedding) == (12, 12, 224, 512)
    if found.image is not None and found.text is not None:
        assert (found.image.patch, found.image.heads) == (32, 12)
        assert (found.text.vocabulary, found.text.heads, found.text.context) == (49411, 8, 77)
