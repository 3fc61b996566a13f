"""From a SpeechCLIP checkpoint to a bundle by the command, and from there through the runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError, InputError
from sayclip_export.parts import CAPTIONS, sample_pictures
from sayclip_export.speechclip_export import sample_waves, speech_part, wave_feed

if TYPE_CHECKING:
    from speechclip_parts import Golden


@pytest.mark.parametrize("name", ["base_parallel", "base_cascaded", "plus_base_hybrid_plus"])
def test_the_command_writes_a_bundle_that_hears_as_torch_does(
    name: str,
    golden_speechclip: Callable[[str], Golden],
    run: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    from speechclip_parts import settings

    golden = golden_speechclip(name)
    out = tmp_path / "bundle"
    given = [part for key, value in settings(name).items() for part in ("--set", f"{key}={value}")]
    status, printed, err = run("export", "speech", golden.path, "--out", out, *given)
    assert status == 0, err
    assert printed.startswith(f"wrote {out}: speech ")
    checkpoint, waves = golden.checkpoint, sample_waves()
    entry = Manifest.read(out).entry("speech")
    assert tuple(tensor.name for tensor in entry.graphs["fp32"].outputs) == checkpoint.speech.outputs
    assert entry.provenance["sha256"] == checkpoint.sha256
    with np.load(out / "speech.reference.npz") as reference:
        assert {f"output.{name}" for name in checkpoint.speech.outputs} < set(reference.files)
    feed = wave_feed(waves)
    with torch.inference_mode():
        given_by_torch = checkpoint.speech(torch.from_numpy(feed["waveform"]), torch.from_numpy(feed["length"]))
    wanted = {key: value.numpy() for key, value in zip(checkpoint.speech.outputs, given_by_torch, strict=True)}
    with sayclip.load(out) as encoder:
        assert set(encoder.names) == {"speech", "image", "text"}
        heard = encoder.speech(waves, sample_rate=16000)
        assert np.abs(heard - wanted["embedding"]).max() < 1e-4
        assert encoder.image(sample_pictures()).shape == encoder.text(list(CAPTIONS)).shape == heard.shape
        check_branches(encoder, waves, wanted)
        check_keywords(encoder, waves, wanted)
        assert encoder.speech([]).shape == (0, encoder.width)


def check_branches(encoder: sayclip.Encoder, waves: list[Any], wanted: dict[str, Any]) -> None:
    for branch in ("parallel", "cascaded"):
        if f"{branch}_embedding" in wanted:
            heard = encoder.speech(waves, sample_rate=16000, branch=branch)
            assert np.abs(heard - wanted[f"{branch}_embedding"]).max() < 1e-4
        else:
            with pytest.raises(InputError, match=f"branch is '{branch}', the speech encoder has no branches"):
                encoder.speech(waves, branch=branch)
    with pytest.raises(InputError, match="branch is 'both', the speech encoder has"):
        encoder.speech(waves, branch="both")
    with pytest.raises(InputError, match="the speech encoder has"):
        encoder.speech(waves, branch=["parallel"])  # type: ignore[arg-type]


def check_keywords(encoder: sayclip.Encoder, waves: list[Any], wanted: dict[str, Any]) -> None:
    if "keyword_ids" not in wanted:
        with pytest.raises(BundleError, match="gives no keywords"):
            encoder.keywords(waves)
        return
    heard = encoder.keywords(waves, sample_rate=16000)
    counts = wanted.get("keyword_count", np.full(len(waves), wanted["keyword_ids"].shape[1]))
    for row, ids, scores, count in zip(heard, wanted["keyword_ids"], wanted["keyword_scores"], counts, strict=True):
        assert [keyword.token_id for keyword in row] == ids[:count].tolist()
        assert np.abs([keyword.score for keyword in row] - scores[:count]).max(initial=0) < 1e-4
        assert all(keyword.word not in ("", "?") for keyword in row)
    for row, edges in zip(heard, wanted.get("boundaries", [None] * len(heard)), strict=True):
        times = [(keyword.start_s, keyword.end_s) for keyword in row]
        if edges is None:
            assert times == [(None, None)] * len(row)
        else:
            known = np.stack([edges[:-1], edges[1:]], axis=1)[: len(row)]
            assert np.abs(np.array(times) - known).max() < 1e-4
            assert (np.diff(edges) >= 0).all()
    alone = encoder.keywords(waves[0], sample_rate=16000)[0]
    assert [keyword.token_id for keyword in alone] == [keyword.token_id for keyword in heard[0]]
    assert encoder.keywords([]) == []


def test_buckets_are_written_checked_and_used(
    golden_speechclip: Callable[[str], Golden], run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    from speechclip_parts import settings

    golden = golden_speechclip("base_parallel")
    given = [part for key, value in settings("base_parallel").items() for part in ("--set", f"{key}={value}")]
    status, _, err = run("export", "speech", golden.path, "--out", tmp_path / "plain", *given)
    assert status == 0, err
    out = tmp_path / "bundle"
    status, _, err = run("export", "speech", golden.path, "--out", out, *given, "--buckets", "2,1.5,2")
    assert status == 0, err
    entry = Manifest.read(out).entry("speech")
    assert entry.preprocessing.buckets == (1.5, 2.0)  # type: ignore[union-attr]
    plain = Manifest.read(tmp_path / "plain").entry("speech")
    assert entry.measured["torch_shapes"] == plain.measured["torch_shapes"] + 2
    waves = sample_waves()[:2]
    with sayclip.load(out) as bucketed, sayclip.load(tmp_path / "plain") as exact:
        assert bucketed._preparation.speech_feeds(waves)["waveform"].shape == (2, 24000)
        assert np.abs(bucketed.speech(waves) - exact.speech(waves)).max() < 1e-5


@pytest.mark.parametrize("buckets", ["0,2", "2,30", "nan", "two", ""])
def test_bad_buckets_are_refused(buckets: str, run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, err = run("export", "speech", tmp_path / "no.ckpt", "--out", tmp_path / "bundle", "--buckets", buckets)
    assert (status, out) == (2, "")
    assert "bucket" in err


def test_what_it_refuses_leaves_nothing(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"PK\x03\x04 not much of a zip")
    status, out, err = run("export", "speech", bad, "--out", tmp_path / "bundle")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]
    status, out, err = run("export", "speech", bad, "--out", bad)
    assert (status, out) == (2, "")
    assert "exists already" in err


def test_graphs_are_held_against_torch_at_their_shortest_and_longest(
    golden_speechclip: Callable[[str], Golden],
) -> None:
    part = speech_part(golden_speechclip("base_parallel").checkpoint.speech, None, (1.5,))
    lengths = [feed["length"].tolist() for feed in part.further]
    assert lengths == [[400], [320_000], [12_345, 400], [24_000, 16_000]]
    assert [feed["waveform"].shape[1] for feed in part.further] == [400, 320_000, 12_345, 24_000]
