"""``sayclip export head``: into a copy of the demo bundle, from where recordings become words and embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from segmental_parts import DEMO, SPACE, demo_text, feeds_as_tensors, write_head

import sayclip
from sayclip.bundle.entries import AudioPreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip.text.keywords import read_keywords
from sayclip_export.models.text import TextTower

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture(scope="module")
def text() -> TextTower:
    return demo_text()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO / "bundle", tmp_path / "bundle"))


@pytest.mark.parametrize("kind", ["segmental", "hybrid"])
def test_the_command_makes_a_bundle_that_hears_as_torch_does(
    kind: str, text: TextTower, bundle: Path, tmp_path: Path, run: Run
) -> None:
    speech = write_head(tmp_path / "mine.safetensors", kind, text)
    before = Manifest.read(bundle)
    status, printed, err = run("export", "head", tmp_path / "mine.safetensors", "--out", bundle)
    assert status == 0, err
    assert printed.startswith(f"wrote {bundle}: ")
    after = Manifest.read(bundle)
    assert (after.name, after.notice, after.license) == (before.name, before.notice, before.license)
    assert {k: v for k, v in after.encoders.items() if k != "speech"} == {
        k: v for k, v in before.encoders.items() if k != "speech"
    }
    entry = after.entry("speech")
    assert list(entry.graphs) == ["fp32"]
    assert entry.provenance["training"] == "by hand"
    assert entry.provenance["architecture"]["kind"] == kind
    assert entry.measured["torch_max_abs_difference"] < 1e-4
    assert entry.measured["torch_equal_ids"] == 1
    how = entry.preprocessing
    assert isinstance(how, AudioPreprocessing)
    assert how.trim
    assert how.keywords is not None
    words = read_keywords(bundle / how.keywords.file)
    assert min(words) == 600
    assert max(words) == text.config.vocabulary - 3
    queries = sorted((DEMO / "queries").glob("*.wav"))[:4]
    with sayclip.load(bundle) as encoder:
        embeddings, heard = encoder.speech(queries), encoder.keywords(queries)
        feed = encoder._preparation.speech_feeds(encoder._preparation.recordings(None, queries))
        branch = None if kind != "hybrid" else encoder.speech(queries, branch="cascaded")
    with torch.inference_mode():
        wanted = dict(zip(speech.outputs, speech(*feeds_as_tensors(feed)), strict=True))
    assert np.abs(embeddings - wanted["embedding"].numpy()).max() < 1e-4
    assert branch is None or np.abs(branch - wanted["cascaded_embedding"].numpy()).max() < 1e-4
    assert (wanted["keyword_ids"].numpy().max(1) >= 600).all()
    for row, found in enumerate(heard):
        assert len(found) == (3 if kind == "hybrid" else int(wanted["keyword_count"][row]))
        assert [keyword.token_id for keyword in found] == wanted["keyword_ids"][row, : len(found)].tolist()
        assert all(words[keyword.token_id] == keyword.word for keyword in found)
        if kind == "segmental":
            whole = found[-1].end_s - found[0].start_s  # the runtime counts the silence in front, which it trimmed
            assert whole == pytest.approx(feed["length"][row] / 16_000, abs=1e-4)
            assert all(keyword.start_s < keyword.end_s for keyword in found)


def test_a_head_without_words_may_go_anywhere(text: TextTower, tmp_path: Path, run: Run) -> None:
    speech = write_head(tmp_path / "mine.safetensors", "parallel", text)
    status, _, err = run("export", "head", tmp_path / "mine.safetensors", "--out", tmp_path / "new")
    assert status == 0, err
    made = Manifest.read(tmp_path / "new")
    assert (made.name, made.space, list(made.encoders)) == ("mine", SPACE, ["speech"])
    assert not (tmp_path / "new" / "keywords.tsv").exists()
    with sayclip.load(tmp_path / "new") as encoder:
        assert encoder.speech(np.random.default_rng(0).normal(0, 0.1, 9000)).shape == (1, 128)
        with pytest.raises(BundleError, match="gives no keywords"):
            encoder.keywords(np.zeros(9000))
    assert speech.outputs == ("embedding",)


@pytest.mark.parametrize("wrong", ["nothing there", "space", "table", "size"])
def test_another_bundle_than_its_own_is_left_as_it_was(
    wrong: str, text: TextTower, bundle: Path, tmp_path: Path, run: Run
) -> None:
    """A unit's id is the row of one token table, and words of another would be wrong ones."""
    file, out = tmp_path / "mine.safetensors", bundle
    before = Manifest.read(bundle)
    if wrong == "size":
        shorter = TextTower(replace(text.config, vocabulary=2000))
        write_head(file, "cif", shorter)
        message = "knows 2114 tokens, the head was trained on 2000"
    elif wrong == "table":
        torch.manual_seed(1)
        write_head(file, "cif", TextTower(text.config))
        message = "has another token table"
    elif wrong == "space":
        write_head(file, "cif", text, "clip-0123456789ab")
        message = "is of space 'emoji-6280f2054f24', the head gives 'clip-0123456789ab'"
    else:
        write_head(file, "cif", text)
        out = tmp_path / "new"
        message = "has no text encoder, which gives the words"
    status, printed, err = run("export", "head", file, "--out", out)
    assert (status, printed) == (2, "")
    assert message in err
    assert err.count("\n") == 2  # what was read, and the refusal
    assert Manifest.read(bundle) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "mine.safetensors"]
