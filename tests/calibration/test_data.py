"""What is read, what is left out and why, and that the same seed always means the same inputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError
from sayclip.preparation import Preparation
from sayclip_calibration.data import FEWEST, Given, Inputs, choose, find_sources
from sayclip_calibration.data.lines import read_lines, stem_of
from sayclip_calibration.data.samples import Source


@pytest.fixture
def manifest(tiny_bundle_master: Path) -> Manifest:
    return Manifest.read(tiny_bundle_master)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures, two of them in a subfolder."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(12):
        place = folder / "more" if number > 9 else folder
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(place / f"p{number:02}.png")
    return folder


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Nine recordings of different lengths."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(9):
        soundfile.write(folder / f"p{number:02}.wav", rng.normal(size=4000 + 100 * number) * 0.2, 16000)
    return folder


def chosen(manifest: Manifest, encoder: str, given: Given, samples: int = 64, seed: int = 0) -> Inputs:
    sources, _, _ = find_sources(manifest, given, seed)
    return choose(encoder, sources[encoder], "--option", samples, seed)


def test_pictures_are_read_as_the_runtime_reads_them(manifest: Manifest, pictures: Path) -> None:
    inputs = chosen(manifest, "image", Given(images=pictures))
    assert (len(inputs.calibration), len(inputs.judged)) == (6, 6)
    names = {sample.name for sample in (*inputs.calibration, *inputs.judged)}
    assert names == {f"p{n:02}.png" for n in range(10)} | {"more/p10.png", "more/p11.png"}
    for sample in inputs.calibration:
        wanted = Preparation(manifest).picture(pictures / sample.name)
        assert sample.feed["pixels"].shape == (1, 3, 16, 16)
        assert np.array_equal(sample.feed["pixels"][0], wanted)


def test_recordings_are_not_padded(manifest: Manifest, recordings: Path) -> None:
    for sample in chosen(manifest, "speech", Given(speech=recordings)).calibration:
        wave, length = sample.feed["waveform"], sample.feed["length"]
        assert wave.shape == (1, 4000 + 100 * int(sample.name[1:3]))
        assert length.tolist() == [wave.shape[1]]
        assert length.dtype == np.int32


def test_captions_and_ipa_become_ids(manifest: Manifest, tmp_path: Path) -> None:
    captions, ipa = tmp_path / "captions.txt", tmp_path / "ipa.txt"
    captions.write_text("\n".join(f"a red cat {'very ' * n}" for n in range(10)), encoding="utf-8")
    ipa.write_text("\n".join(["kæt", "ɹɛd", *("kæt " + "bæ" * n for n in range(1, 8)), "q7"]), encoding="utf-8")
    text = chosen(manifest, "text", Given(text=captions))
    assert all(set(sample.feed) == {"token_ids", "length"} for sample in text.judged)
    spoken = chosen(manifest, "pronunciation", Given(text=captions, ipa=ipa))
    assert {sample.feed["phoneme_ids"].dtype.name for sample in spoken.judged} == {"int32"}
    [(name, reason)] = spoken.left_out
    assert name == "q7"
    assert "q" in reason


def test_sounds_give_one_segment_each(sound_bundle: Path, recordings: Path) -> None:
    manifest = Manifest.read(sound_bundle)
    one, two = (chosen(manifest, "audio", Given(sounds=recordings), seed=0) for _ in range(2))
    assert one.sha256 == two.sha256
    for sample in one.calibration:
        assert sample.feed["segments"].shape == (1, 3, 32, 32)
        assert sample.feed["type_mix"].shape == (1,)


def test_the_same_seed_is_the_same_choice_to_the_bit(manifest: Manifest, pictures: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(pictures, tmp_path / "elsewhere" / "deeper")
    one = chosen(manifest, "image", Given(images=pictures), samples=4)
    two = chosen(manifest, "image", Given(images=moved), samples=4)
    assert one.sha256 == two.sha256
    assert [sample.name for sample in one.calibration] == [sample.name for sample in two.calibration]
    assert (len(one.calibration), len(one.judged)) == (4, 4)
    other = chosen(manifest, "image", Given(images=pictures), samples=4, seed=1)
    assert other.sha256 != one.sha256


def test_no_input_is_both_calibrated_with_and_judged(manifest: Manifest, pictures: Path) -> None:
    for number in range(5):
        shutil.copy(pictures / "p00.png", pictures / f"again{number}.png")
    inputs = chosen(manifest, "image", Given(images=pictures))
    hashes = [sample.sha256 for sample in (*inputs.calibration, *inputs.judged)]
    assert len(set(hashes)) == len(hashes) == 12
    assert inputs.repeated == 5


def test_what_cannot_be_used_is_named_and_the_rest_used(manifest: Manifest, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "words.txt").write_text("no picture")
    Image.new("RGB", (20, 20), (9, 80, 7)).save(pictures / "constant.png")
    inputs = chosen(manifest, "image", Given(images=pictures))
    assert len(inputs.calibration) + len(inputs.judged) == 12
    reasons = dict(inputs.left_out)
    assert sorted(reasons) == ["broken.png", "constant.png", "empty.jpg"]
    assert "constant: all of its pixels have one value" in reasons["constant.png"]
    assert "0 bytes" in reasons["empty.jpg"]


def test_an_unreadable_input_is_replaced_by_another(manifest: Manifest, pictures: Path) -> None:
    for number in range(6):
        (pictures / f"broken{number}.png").write_bytes(b"GIF89a")
    inputs = chosen(manifest, "image", Given(images=pictures), samples=6)
    assert (len(inputs.calibration), len(inputs.judged)) == (6, 6)


def test_silent_constant_and_endless_recordings_are_named(manifest: Manifest, recordings: Path) -> None:
    bad = {
        "silent": np.zeros(8000),
        "constant": np.full(8000, 0.5),
        "nan": np.full(8000, np.nan),
        "long": np.random.default_rng(2).normal(size=16000 * 16) * 0.1,
    }
    for name, wave in bad.items():
        soundfile.write(recordings / f"{name}.wav", wave, 16000, subtype="FLOAT")
    inputs = chosen(manifest, "speech", Given(speech=recordings))
    reasons = dict(inputs.left_out)
    assert sorted(reasons) == ["constant.wav", "long.wav", "nan.wav", "silent.wav"]
    assert "no speech heard" in reasons["silent.wav"]
    assert "no speech heard" in reasons["constant.wav"]
    assert "NaN" in reasons["nan.wav"]
    assert "the limit is 15 s" in reasons["long.wav"]


def test_too_few_are_refused_with_the_first_reason(manifest: Manifest, recordings: Path) -> None:
    for path in sorted(recordings.iterdir())[:4]:
        path.write_bytes(b"RIFF")
    with pytest.raises(
        InputError, match=r"--option gives 5 usable inputs of 9, 4 left out, wanted at least 8; the fir"
    ):
        chosen(manifest, "speech", Given(speech=recordings))


def test_the_same_over_and_over_is_too_few(manifest: Manifest, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join(["A Cat", "a cat", "a  cat", "a\u00a0cat", *"abcd"]), encoding="utf-8")
    with pytest.raises(InputError, match=r"gives 5 usable inputs of 8, 3 the same as others, wanted at least 8"):
        chosen(manifest, "text", Given(text=captions))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.25])
def test_whatever_reads_them_bad_values_go_no_further(value: float) -> None:
    def source(number: int, values: Any) -> Source:
        return Source(f"s{number}", frozenset(), lambda: {"pixels": values})

    good = [source(n, np.random.default_rng(n).normal(size=(1, 3, 4, 4)).astype(np.float32)) for n in range(8)]
    inputs = choose("image", [*good, source(8, np.full((1, 3, 4, 4), value, np.float32))], "--images", 64, 0)
    [(name, reason)] = inputs.left_out
    assert name == "s8"
    assert ("constant" in reason) == np.isfinite(value)


def test_pictures_of_one_grey_channel_are_no_constant() -> None:
    """One channel may hold nothing; that all of them do says nothing of what activations may do."""
    values = np.zeros((8, 1, 3, 4, 4), np.float32)
    values[:, 0, 1] = np.random.default_rng(0).normal(size=(8, 4, 4))
    sources = [Source(f"s{n}", frozenset(), lambda n=n: {"pixels": values[n]}) for n in range(8)]  # type: ignore[misc]
    assert choose("image", sources, "--images", 64, 0).left_out == ()


def test_encoders_without_inputs_say_what_they_need(manifest: Manifest, pictures: Path) -> None:
    sources, without, _ = find_sources(manifest, Given(images=pictures), 0)
    assert list(sources) == ["image"]
    assert without == {
        "text": "needs --text FILE",
        "pronunciation": "needs --ipa FILE or, where espeak-ng is installed, --text FILE",
        "speech": "needs --speech DIR",
    }


def test_ipa_is_made_of_captions_where_it_can(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sayclip.errors import MissingDependencyError

    captions = tmp_path / "captions.tsv"
    captions.write_text("\n".join(f"p{n}.png\tcaption {n}" for n in range(10)), encoding="utf-8")
    monkeypatch.setattr(Preparation, "ipa_of", lambda self, words: ["kæt" + "b" * len(words[0])])
    sources, _, _ = find_sources(manifest, Given(text=captions), 0)
    assert sources["pronunciation"][3].read()["phoneme_ids"].shape[0] == 1
    assert sources["pronunciation"][3].keys == frozenset({"p3"})

    def missing(self: Preparation, words: list[str]) -> list[str]:
        raise MissingDependencyError("espeak-ng is not here", "install it")

    monkeypatch.setattr(Preparation, "ipa_of", missing)
    sources, without, _ = find_sources(manifest, Given(text=captions), 0)
    assert "pronunciation" not in sources
    assert without["pronunciation"].startswith("needs --ipa FILE, as no IPA can be made of the captions here (espeak")


@pytest.mark.parametrize("option", ["images", "speech", "text", "ipa"])
def test_what_is_not_there_is_refused(manifest: Manifest, tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError, match=r"does not exist|No such file"):
        find_sources(manifest, Given(**{option: tmp_path / "nowhere"}), 0)


@pytest.mark.parametrize("option", ["images", "speech"])
def test_a_folder_with_nothing_in_it_is_refused(manifest: Manifest, tmp_path: Path, option: str) -> None:
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".hidden.wav").write_bytes(b"x")
    with pytest.raises(InputError, match=f"--{option} holds nothing for"):
        find_sources(manifest, Given(**{option: tmp_path}), 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00", "not UTF-8"), (b"\n \n\t\n", "holds no text"), (b"", "holds no text")],
)
def test_a_text_file_without_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_lines(path)


def test_lines_with_a_tab_say_which_file_they_belong_to(tmp_path: Path) -> None:
    path = tmp_path / "captions.tsv"
    lines = ["file\tname\tkeywords", "a/one.webp\ta cat\tcat|pet", "two.png\ta dog", "three.jpg\ta cat", "plain"]
    path.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    assert read_lines(path) == {
        "a cat": frozenset({"one", "three"}),
        "a dog": frozenset({"two"}),
        "plain": frozenset(),
    }


@settings(max_examples=80, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("lines") / "captions.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = read_lines(path)
    except InputError:
        return
    assert found
    assert all(said == said.strip() and said and "\n" not in said and "\t" not in said for said in found)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).map(str.strip))
def test_the_stem_is_that_of_the_path(name: str) -> None:
    if name and name not in (".", ".."):
        assert stem_of(f"folder/{name}") == Path(name).stem


@settings(max_examples=40, deadline=None)
@given(st.integers(FEWEST, 40), st.integers(4, 30), st.integers(0, 9))
def test_the_two_sets_are_as_large_as_they_can_be(count: int, samples: int, seed: int) -> None:
    sources = [Source(f"{n}", frozenset(), lambda n=n: {"token_ids": np.array([[n]])}) for n in range(count)]  # type: ignore[misc]
    inputs = choose("text", sources, "--text", samples, seed)
    used = len(inputs.calibration) + len(inputs.judged)
    assert used == min(count, 2 * samples)
    assert 0 <= len(inputs.calibration) - len(inputs.judged) <= 1
    assert len({sample.sha256 for sample in (*inputs.calibration, *inputs.judged)}) == used
