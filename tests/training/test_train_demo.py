"""The whole recipe, a few steps of everything: it runs, resumes, and leaves a bundle that the runtime takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import sayclip
from sayclip_training.demo import Budget, train_demo
from sayclip_training.demo_data import names
from sayclip_training.demo_data.pictures import FONT

QUICK = Budget(2, 2, 2, 2, 2, 0, 0, 1, 0, 0, 1)
HAVE = FONT.exists() and names.EMOJI_TEST.exists() and names.CLDR.exists() and shutil.which("flite") is not None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAVE and "CI" not in os.environ, reason="Debian's flite, fonts, unicode-data, CLDR"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_demo(folder / "out", folder / "work", QUICK, 2)
    return folder


def test_bundle_works_in_the_runtime(trained: Path) -> None:
    with sayclip.load(trained / "out" / "bundle") as encoder:
        picture = next((trained / "out" / "pictures").glob("*.webp"))
        recording = next((trained / "out" / "queries").glob("*.wav"))
        rows = [
            encoder.image(picture),
            encoder.text("fruit"),
            encoder.pronunciation("ɹɛd æpəl"),
            encoder.speech(recording),
        ]
        for row in rows:
            assert row.shape == (1, encoder.width)
            assert np.linalg.norm(row) == pytest.approx(1, abs=1e-4)
        for name in encoder.names:
            assert encoder.manifest.entry(name).measured["torch_max_abs_difference"] <= 1e-4


def test_bundle_is_small_and_its_graphs_old_enough(trained: Path) -> None:
    bundle = trained / "out" / "bundle"
    assert sum(file.stat().st_size for file in bundle.iterdir()) <= 20e6
    for path in bundle.glob("*.onnx"):
        model = onnx.load(str(path), load_external_data=False)
        assert model.ir_version <= 10
        assert all(18 <= entry.version <= 20 for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def test_a_finished_run_trains_nothing_again(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (trained / "work").glob("*.state.pt")}
    assert set(before) == {
        "clip.state.pt",
        "text.state.pt",
        "pronunciation.state.pt",
        "speech.state.pt",
        "phonetic.state.pt",
    }
    train_demo(trained / "out", trained / "work", QUICK, 2)
    assert {path.name: path.read_bytes() for path in (trained / "work").glob("*.state.pt")} == before
