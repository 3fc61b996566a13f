"""A RoBERTa and a DINO in place of a CLIP: from pairs to a DINO's bundle that explains by RoBERTa's words."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from unimodal_folders import write_dino, write_roberta

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip.cli.main import main
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.text.keywords import read_keywords
from sayclip_export import rtx
from sayclip_export.models.roberta import Roberta
from sayclip_export.readers.roberta import read_roberta
from sayclip_export.readers.speech_head import read_speech_head

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed, err = capsys.readouterr()
        return status, printed, err

    return call


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A RoBERTa and a DINO, of other widths than each other."""
    place = tmp_path_factory.mktemp("sides")
    write_roberta(place / "roberta")
    write_dino(place / "dino")
    return place / "roberta", place / "dino"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """``table(captioned)``: the demo's recordings and the pictures that they mean, as pairs."""
    place = tmp_path_factory.mktemp("bed")
    (place / "queries").symlink_to(DEMO / "queries")
    (place / "pictures").symlink_to(DEMO / "pictures")
    with (DEMO / "pictures" / "captions.tsv").open(encoding="utf-8", newline="") as file:
        pictures = {row["name"]: row["file"] for row in csv.DictReader(file, delimiter="\t")}
    with (DEMO / "queries" / "queries.tsv").open(encoding="utf-8", newline="") as file:
        said = [row for row in csv.DictReader(file, delimiter="\t") if row["said"] in pictures]

    def write(captioned: bool) -> Path:
        lines = ["speech\tpicture\tsplit\tcaption\twords"]
        for number, row in enumerate(said):
            spans = [[word, 0.2 * i, 0.2 * i + 0.2] for i, word in enumerate(row["said"].split())]
            told = (row["said"], json.dumps(spans)) if captioned else ("", "")
            split = "validation" if number % 5 == 4 else "train"
            lines.append("\t".join([f"queries/{row['file']}", f"pictures/{pictures[row['said']]}", split, *told]))
        path = place / f"pairs-{captioned}.tsv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def train(run: Run, folders: tuple[Path, Path], table: Callable[[bool], Path], tmp_path: Path) -> Run:
    """``sayclip train speech`` on both folders; what is given comes last, and counts."""

    def call(*arguments: object, captioned: bool = True) -> tuple[int, str, str]:
        sides = ("--text-side", folders[0], "--image-side", folders[1])
        small = ("--speech", DEMO / "bundle", "--steps", 3, "--batch", 8, "--slots", 16)
        out = ("--pairs", table(captioned), "--out", tmp_path / "head.safetensors")
        return run("train", "speech", *out, *sides, *small, *arguments)

    return call


def test_from_pairs_to_a_bundle_that_explains(train: Run, run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    file, bundle = tmp_path / "head.safetensors", tmp_path / "bundle"
    status, printed, err = train("--steps", 60, "--rate", 0.003, "--dropout", 0, "--json")
    assert status == 0, err
    measures = json.loads(printed)["measures"]["validation"]
    assert {"cascaded_r1", "f1", "named", "hit_rate"} <= measures.keys()
    assert all(0 <= value <= 1 for value in measures.values())
    with (tmp_path / "head.work" / "speech.csv").open(newline="") as rows:
        losses = [float(row["value"]) for row in csv.DictReader(rows) if row["measure"] == "cascaded"]
    assert losses[-1] < 0.8 * losses[0], "what is learnt goes through RoBERTa and on to DINO's space"

    checkpoint, known = read_speech_head(file), read_roberta(folders[0], 32)
    reader = checkpoint.speech.head.reader
    assert reader is not None
    assert isinstance(reader.text, Roberta)
    theirs = known.tower.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in reader.text.state_dict().items()), "frozen"
    assert (reader.text.config.width, checkpoint.speech.head.config.text.embedding) == (24, 32)
    heard = {number for text in ("cat face", "red apple", "fire engine") for number in known.vocabulary.encode(text)}
    assert heard <= checkpoint.words.keys(), "tokens of captions"
    assert len(checkpoint.words) < len(known.vocabulary.words()), "and no others"

    assert run("export", "dino", folders[1], "--out", bundle)[0] == 0
    assert Manifest.read(bundle).space == checkpoint.space
    status, _, err = run("export", "head", file, "--out", bundle)
    assert status == 0, err
    manifest = Manifest.read(bundle)
    assert (set(manifest.encoders), manifest.width) == ({"image", "speech"}, 32)
    entry = manifest.entry("speech")
    assert entry.measured["torch_max_abs_difference"] < 1e-4
    assert entry.measured["torch_equal_ids"] == 1
    assert entry.provenance["architecture"]["text"]["kind"] == "roberta"
    words = read_keywords(bundle / "keywords.tsv")
    assert words == dict(checkpoint.words)

    queries = sorted((DEMO / "queries").glob("*.wav"))[:5]
    with sayclip.load(bundle, backend="onnxruntime", precision="fp32") as encoder:
        feed = encoder._preparation.speech_feeds(encoder._preparation.recordings(None, queries))
    session = OnnxRuntimeSession(bundle / entry.graphs["fp32"].file)
    got = session.run(feed)
    session.close()
    with torch.inference_mode():
        given = checkpoint.speech.fold()(*(torch.from_numpy(value) for value in feed.values()))
    wanted = dict(zip(checkpoint.speech.outputs, given, strict=True))
    assert np.abs(got["embedding"] - wanted["embedding"].numpy()).max() < 1e-4
    for name in ("boundaries", "keyword_count", "keyword_ids"):
        assert np.array_equal(got[name], wanted[name].numpy()), name
    if rtx.installed():
        assert rtx.build(bundle / entry.graphs["fp32"].file).outputs == checkpoint.speech.outputs

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("emoji_u1f34e.webp", "emoji_u1f431.webp", "emoji_u2615.webp"):
        shutil.copy(DEMO / "pictures" / name, pictures)
    where = ("--bundle", bundle, "--library", tmp_path / "library.sqlite")
    assert run("index", pictures, *where)[0] == 0
    status, printed, err = run("search", "--speech", queries[1], "--explain", "--json", *where)
    assert status == 0, err
    found = json.loads(printed)
    units = found["explanation"][0]["units"]
    assert units
    assert all(unit["word"] == words[unit["id"]] for unit in units)
    assert all(unit["start_s"] < unit["end_s"] for unit in units)
    assert len(found["hits"]) == 3
    status, printed, _ = run("search", "--speech", queries[1], "--explain", *where)
    assert printed.splitlines()[0].startswith("heard  0.00–"), printed
    status, _, err = run("search", "red apple", *where)
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot be asked by typed text: it has no text encoder, only image, speech" in err


@pytest.mark.parametrize("head", ["parallel", "cascaded", "hybrid", "cif"])
def test_every_head_is_trained_between_them(head: str, train: Run, tmp_path: Path) -> None:
    status, _, err = train("--head", head)
    assert status == 0, err
    read = read_speech_head(tmp_path / "head.safetensors")
    assert (read.speech.kind, bool(read.words)) == (head, head != "parallel")


def test_the_speech_encoder_may_learn_between_them_too(train: Run, tmp_path: Path) -> None:
    assert train("--head", "parallel", "--work", tmp_path / "frozen")[0] == 0
    start = load_file(tmp_path / "head.safetensors")
    status, _, err = train("--unfreeze", "--slots", 8, "--rate", 0.01)
    assert status == 0, err
    learnt = load_file(tmp_path / "head.safetensors")
    towers = [name for name in start if name.startswith("tower.")]
    assert towers
    assert all(not torch.equal(start[name], learnt[name]) for name in towers)
    read = read_speech_head(tmp_path / "head.safetensors")
    assert (read.speech.head.config.text.kind, bool(read.words)) == ("roberta", True)


def test_a_damaged_picture_is_left_out_of_what_a_dino_sees(
    train: Run, table: Callable[[bool], Path], tmp_path: Path
) -> None:
    lines, damaged = table(True).read_text(encoding="utf-8").splitlines(), tmp_path / "pairs.tsv"
    for name in ("queries", "pictures"):
        (tmp_path / name).symlink_to(DEMO / name)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    speech, _, *rest = lines[1].split("\t")
    damaged.write_text("\n".join([*lines, "\t".join([speech, "cut.png", *rest])]) + "\n", encoding="utf-8")
    status, _, err = train("--pairs", damaged)
    assert status == 0, err
    assert "1 pictures cannot be seen, their pairs are left out: cut.png: " in err


def test_without_captions_every_word_may_be_heard(train: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    status, _, err = train(captioned=False)
    assert status == 0, err
    read, words = read_speech_head(tmp_path / "head.safetensors"), read_roberta(folders[0], 32).vocabulary.words()
    assert read.words == words
    assert read.speech.head.reader is not None
    assert (read.speech.head.reader.barred == 0).nonzero()[:, 0].tolist() == sorted(words)


def test_a_head_goes_into_no_bundle_of_another_space(
    train: Run, run: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    assert train()[0] == 0
    write_dino(tmp_path / "wide", hidden_size=48)
    assert run("export", "dino", tmp_path / "wide", "--out", tmp_path / "bundle")[0] == 0
    for out in (tmp_path / "bundle", Path(shutil.copytree(DEMO / "bundle", tmp_path / "demo"))):
        before = Manifest.read(out)
        status, printed, err = run("export", "head", tmp_path / "head.safetensors", "--out", out)
        assert (status, printed) == (2, "")
        assert f"{out} is of space {before.space!r}, the head gives 'dino-" in err
        assert "name the bundle that the head was trained for" in err
        assert Manifest.read(out) == before


def test_a_run_is_not_resumed_with_another_text_side(train: Run, tmp_path: Path) -> None:
    assert train()[0] == 0
    write_roberta(tmp_path / "other", num_attention_heads=2)
    status, _, err = train("--text-side", tmp_path / "other")
    assert status == 2
    assert "holds a run with teacher_sha256" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clip", "demo"], "--clip is given along with --text-side and --image-side"),
        (["--slots", "37"], "slots is 37, wanted 1 to 36, what the text side can read"),
        (["--text-side", "nowhere"], "nowhere holds no config.json"),
        (["--image-side", "nowhere"], "nowhere holds no config.json"),
        (["--text-side", "DINO"], "model_type is 'vit', wanted 'roberta'"),
        (["--image-side", "ROBERTA"], "model_type is 'roberta', wanted 'vit', as DINO has it"),
        (["--text-side", "WORDLESS"], "holds no tokenizer.json and no vocab.json, which give the words of its units"),
        (["--text-side", "WIDE"], r"word_embeddings.weight has the shape [278, 24], wanted [278, 48]"),
        (["--text-side", "ODD"], "text width is 24 for 7 heads, wanted a multiple"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    options: list[str], message: str, train: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    made = {"ROBERTA": folders[0], "DINO": folders[1]}
    for name in ("WORDLESS", "WIDE", "ODD"):
        made[name] = Path(shutil.copytree(folders[0], tmp_path / name))
    (made["WORDLESS"] / "vocab.json").unlink()
    for name, key, value in (("WIDE", "hidden_size", 48), ("ODD", "num_attention_heads", 7)):
        path = made[name] / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    status, printed, err = train(*(made.get(option, option) for option in options))
    assert (status, printed) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "head.safetensors").exists()


def test_one_side_alone_is_refused(run: Run, folders: tuple[Path, Path], table: Callable[[bool], Path]) -> None:
    for given, lacks, place in (
        ("--text-side", "--image-side", folders[0]),
        ("--image-side", "--text-side", folders[1]),
    ):
        status, _, err = run("train", "speech", "--pairs", table(True), "--out", "h.safetensors", given, place)
        assert status == 2
        assert f"{given} is given without {lacks}: give both, or --clip, which has both" in err


def test_weights_of_the_bridge_are_learnt(train: Run, tmp_path: Path) -> None:
    assert train("--steps", 1, "--work", tmp_path / "one")[0] == 0
    first = load_file(tmp_path / "head.safetensors")
    assert train("--steps", 4, "--work", tmp_path / "four")[0] == 0
    later = load_file(tmp_path / "head.safetensors")
    key = "head.reader.to_space.weight"
    assert first[key].shape == (32, 24)
    assert not torch.equal(first[key], later[key])
