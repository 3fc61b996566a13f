"""From a SpeechCLIP checkpoint to a bundle by the command, and from there through the runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip_export.parts import CAPTIONS, sample_pictures
from sayclip_export.speechclip_export import sample_waves, wave_feed

if TYPE_CHECKING:
    from speechclip_parts import Golden


@pytest.mark.parametrize("name", ["base_parallel", "plus_base_hybrid_plus"])
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
        wanted = checkpoint.speech(torch.from_numpy(feed["waveform"]), torch.from_numpy(feed["length"]))[0].numpy()
    with sayclip.load(out) as encoder:
        assert set(encoder.names) == {"speech", "image", "text"}
        heard = encoder.speech(waves, sample_rate=16000)
        assert np.abs(heard - wanted).max() < 1e-4
        assert encoder.image(sample_pictures()).shape == encoder.text(list(CAPTIONS)).shape == heard.shape


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
