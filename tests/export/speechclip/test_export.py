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
from sayclip_export.speechclip_export import sample_waves, wave_feed

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
    alone = encoder.keywords(waves[0], sample_rate=16000)[0]
    assert [keyword.token_id for keyword in alone] == [keyword.token_id for keyword in heard[0]]
    assert encoder.keywords([]) == []


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
