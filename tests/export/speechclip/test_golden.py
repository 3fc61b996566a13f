"""The torch definitions and their graphs against what upstream's own code gives for the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from speechclip_parts import NAMES, Golden, largest, named, random_waves, tensors

from sayclip.sessions.onnxruntime import import_onnxruntime
from sayclip_export.graphs import require, verify
from sayclip_export.models.layers import unit
from sayclip_export.models.speechclip import SpeechClip
from sayclip_export.speechclip_export import wave_feed

Get = Callable[[str], Golden]
SINGLES = ("single0", "single1", "single2", "single3")
KINDS = {
    "base_parallel": "parallel",
    "base_cascaded": "cascaded",
    "large_parallel": "parallel",
    "plus_base_hybrid_plus": "hybrid+",
}
OUTPUTS = {
    "parallel": ["embedding"],
    "cascaded": ["embedding", "keyword_ids", "keyword_scores"],
    "hybrid+": [
        *("embedding", "parallel_embedding", "cascaded_embedding"),
        *("keyword_ids", "keyword_scores", "keyword_count", "boundaries"),
    ],
}


@pytest.mark.parametrize("tag", [*SINGLES, "batch"])
@pytest.mark.parametrize("name", NAMES)
def test_torch_equals_upstream(name: str, tag: str, golden_speechclip: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone with exact padding; zero-padded with upstream's, whose results depend on it."""
    golden = golden_speechclip(name)
    model = golden.checkpoint.speech
    wanted = {key.removeprefix(f"{tag}."): value for key, value in golden.arrays.items() if key.startswith(f"{tag}.")}
    monkeypatch.setattr(model, "padding", "upstream" if tag == "batch" else "exact")
    inputs = tensors(wave_feed(golden.waves(tag)))
    branch = model.branches[0]
    with torch.inference_mode():
        states, frames, count = model.frames(*inputs)
        rows = branch.attend(frames, count, every_row=True)
        heard = branch(frames, count, model.padding)
    counts = count.tolist()
    assert counts == wanted["len"].tolist()
    assert max(largest(*pair, counts) for pair in zip(states, wanted["hidden"], strict=True)) <= 1e-5
    assert largest(frames, wanted["feat"], counts) <= 1e-5
    assert largest(rows, wanted["att_out"], [n + branch.config.tokens for n in counts]) <= 1e-5
    # SpeechCLIP normalises its embeddings, SpeechCLIP+ does not.
    finished = (lambda x: x) if name.startswith("plus") else unit
    assert (heard.parallel is not None) == ("parallel_audio_feat" in wanted)
    if heard.parallel is not None:
        assert np.abs(finished(heard.parallel).numpy() - wanted["parallel_audio_feat"]).max() <= 2e-6
    assert (heard.keywords is not None) == ("targets" in wanted)
    if heard.slots is not None:
        assert heard.slots.count.tolist() == wanted["cif.dsample_feats_length"].tolist()
        assert largest(heard.slots.alpha, wanted["cif.alpha"], counts) <= 1e-5
        assert largest(heard.slots.values, wanted["cif.dsample_feats"], heard.slots.count.tolist()) <= 1e-5
    if heard.keywords is not None:
        assert np.abs(finished(heard.keywords.embedding).numpy() - wanted["cascaded_audio_feat"]).max() <= 2e-6
        numbers = [8] * len(counts) if heard.slots is None else heard.slots.count.tolist()
        for got, key in ((heard.keywords.rows, "targets"), (heard.keywords.ids, "targets_orig")):
            assert largest(got, wanted[key], numbers) == 0
        assert largest(heard.keywords.keywords, wanted["keywords"], numbers) == 0
        allowed = np.delete(wanted["cos"], [0, 2, 3], axis=2).max(2)
        assert largest(heard.keywords.scores, allowed, numbers) <= 2e-6


@pytest.mark.parametrize("name", ["base_parallel", "large_parallel"])
def test_the_layer_before_the_last_norm(name: str, golden_speechclip: Get) -> None:
    golden = golden_speechclip(name)
    model = golden.checkpoint.speech
    branch = model.branches[0]
    with torch.inference_mode():
        _, frames, _ = model.frames(*tensors(wave_feed(golden.waves("single1"))))
        x = torch.cat([branch.tokens, frames], dim=1)
        rows = branch.block.layer(x, x, torch.zeros(1, 1, 1, x.shape[1]))
    assert np.abs(rows[:, 1:].numpy() - golden.arrays["feature_extractor.last"]).max() <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_image_tower_inside(name: str, golden_speechclip: Get) -> None:
    golden = golden_speechclip(name)
    with torch.inference_mode():
        got = golden.checkpoint.image(torch.from_numpy(golden.arrays["image"]))
    assert np.abs(got.numpy() - golden.arrays["image_feat"]).max() <= 2e-6


def test_the_text_tower_inside_reads_keywords_as_the_speech_head_does(golden_speechclip: Get) -> None:
    """Keywords typed as token ids into the text tower over the full table give the cascaded embedding."""
    golden = golden_speechclip("base_cascaded")
    ids = golden.arrays["single1.targets_orig"]
    tokens = torch.from_numpy(np.concatenate([[[49406]], ids, [[49407]]], axis=1).astype(np.int32))
    with torch.inference_mode():
        got = golden.checkpoint.text(tokens, torch.tensor([10], dtype=torch.int32))
    assert np.abs(got.numpy() - golden.arrays["single1.cascaded_audio_feat"]).max() <= 2e-6


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str, golden_speechclip: Get) -> None:
    golden = golden_speechclip(name)
    model, waves = golden.checkpoint.speech, golden.waves("batch")
    padded = named(model, wave_feed(waves, longest=48000))
    for row, wave in enumerate(waves):
        alone = named(model, wave_feed([wave]))
        for key, value in alone.items():
            assert np.abs(value[0] - padded[key][row]).max() <= (0 if value.dtype == np.int32 else 1e-5), key


def test_what_lies_past_the_length_is_not_heard(golden_speechclip: Get) -> None:
    model = golden_speechclip("base_parallel").checkpoint.speech
    inputs = wave_feed(random_waves(16000), longest=20000)
    clean = named(model, inputs)["embedding"]
    inputs["waveform"][0, 16000:] = np.nan
    assert np.array_equal(named(model, inputs)["embedding"], clean)


def test_upstreams_padding_is_another_function(golden_speechclip: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the tests above can fail: upstream's batch differs from its own single clips."""
    golden = golden_speechclip("base_parallel")
    model = golden.checkpoint.speech
    exact = named(model, wave_feed(golden.waves("batch")))["embedding"]
    monkeypatch.setattr(model, "padding", "upstream")
    upstream = named(model, wave_feed(golden.waves("batch")))["embedding"]
    assert (exact[0] * upstream[0]).sum() == pytest.approx(0.9947, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_kind_and_outputs(name: str, golden_speechclip: Get) -> None:
    checkpoint = golden_speechclip(name).checkpoint
    assert checkpoint.kind == KINDS[name]
    assert list(checkpoint.speech.outputs) == OUTPUTS[checkpoint.kind]
    assert len(checkpoint.vocabulary) == 8112
    assert checkpoint.vocabulary[:4] == (0, 320, 49406, 49407)
    assert "Flickr8k" in checkpoint.format
    assert SpeechClip.padding == "exact"


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_equals_upstream(name: str, golden_speechclip: Get, speech_graph: Callable[[str], Path]) -> None:
    golden = golden_speechclip(name)
    outputs = golden.checkpoint.speech.outputs
    session = import_onnxruntime().InferenceSession(str(speech_graph(name)), providers=["CPUExecutionProvider"])
    for tag in SINGLES:
        got = dict(zip(outputs, session.run(list(outputs), wave_feed(golden.waves(tag))), strict=True))
        for branch in ("parallel", "cascaded"):
            key = f"{tag}.{branch}_audio_feat"
            if key in golden.arrays:
                wanted = unit(torch.from_numpy(golden.arrays[key])).numpy()
                assert np.abs(got.get(f"{branch}_embedding", got["embedding"]) - wanted).max() <= 1e-4
        if "keyword_ids" in got:
            ids = golden.arrays[f"{tag}.targets_orig"]
            assert got["keyword_ids"].dtype == np.int32
            assert got["keyword_ids"][:, : ids.shape[1]].tolist() == ids.tolist()
            assert not got["keyword_ids"][:, ids.shape[1] :].any()
            assert not got["keyword_scores"][:, ids.shape[1] :].any()
        if "keyword_count" in got:
            assert got["keyword_count"].tolist() == golden.arrays[f"{tag}.cif.dsample_feats_length"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_equals_torch_at_any_length(
    name: str, golden_speechclip: Get, speech_graph: Callable[[str], Path]
) -> None:
    lengths = ([400], [401, 400], [719], [720, 5000], [16001, 400, 9000], [52000])
    model = golden_speechclip(name).checkpoint.speech
    agreement = verify(speech_graph(name), model, [wave_feed(random_waves(*n)) for n in lengths], model.outputs)
    assert agreement.largest <= 1e-5
    assert agreement.cosine >= 0.99999
    assert agreement.equal_ids == (None if KINDS[name] == "parallel" else 1.0)
    require(agreement, speech_graph(name))
