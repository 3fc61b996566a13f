"""`sayclip train speech` on a table of recordings and pictures as people have them: odd, damaged and missing ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sayclip_training.heads import recipe
from sayclip_training.heads.settings import Settings

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
RATE = 16_000
Train = Callable[..., tuple[int, str, str]]
UNHEARD = ("silence.wav", "short.wav", "minute.wav", "broken.wav", "empty.wav")


def _odd(folder: Path, said: list[np.ndarray]) -> list[str]:
    """Recordings that can be heard, written to ``folder``: their names."""
    rng = np.random.default_rng(0)
    shorter = min(len(said[0]), len(said[1]))
    long = np.concatenate([wave for wave in said for _ in range(3)])[: 19 * RATE]
    waves = {
        "noise.wav": 0.1 * rng.standard_normal(RATE),
        "two speakers.wav": (said[0][:shorter] + said[1][:shorter]) / 2,
        "no boundary.wav": said[0][len(said[0]) // 2 :][: RATE // 10],  # three frames, of which the outer are no peaks
        "many units.wav": long,
    }
    for name, wave in waves.items():
        soundfile.write(folder / name, wave.clip(-1, 1), RATE)
    return list(waves)


@pytest.fixture
def table(tmp_path: Path, bed: Path) -> Path:
    """Thirty pairs of the test bed, and every odd recording and picture, in training and in validation."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in ("pictures", "scenes", "speech"):
        (folder / name).symlink_to(bed / name)
    lines = (bed / "speech.tsv").read_text(encoding="utf-8").splitlines()[:31]
    rows = [
        (row["file"], row["picture"], "train") for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    ]
    pictures = list(dict.fromkeys(picture for _, picture, _ in rows))
    said = [soundfile.read(folder / name, dtype="float32")[0] for name, _, _ in rows[:8]]
    odd = _odd(folder, said)
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "short.wav", said[0][3000:3400], RATE)
    soundfile.write(folder / "minute.wav", np.resize(said[0], 60 * RATE), RATE)
    (folder / "broken.wav").write_bytes(b"RIFF0000WAVE")
    (folder / "empty.wav").write_bytes(b"")
    whole = (folder / pictures[0]).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    added = [(name, pictures[place % 2], split) for split in ("train", "validation") for place, name in enumerate(odd)]
    added += [(name, pictures[0], "train") for name in (*UNHEARD, "gone.wav")]
    added += [(rows[0][0], name, "train") for name in ("cut.png", "text.png", "gone.png")]
    added += [("noise.wav", "cut.png", "validation")]
    path = folder / "pairs.tsv"
    table = [("speech", "picture", "split"), *rows, *added]
    path.write_text("".join("\t".join(row) + "\n" for row in table), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "options",
    [
        ("segmental", "--slots", "3", "--detector", "16"),
        ("segmental", "--slots", "3", "--vocabulary", "quantise", "--unfreeze"),
        ("cif", "--slots", "3"),
        ("hybrid", "--audio-only"),
        ("parallel", "--unfreeze"),
    ],
)
def test_odd_recordings_are_learnt_from_and_what_is_of_no_use_is_listed(
    options: tuple[str, ...], train: Train, table: Path, tmp_path: Path
) -> None:
    status, printed, err = train("--head", *options, "--pairs", table, "--cache", tmp_path / "own", "--json")
    assert status == 0, err
    assert "2 files are missing, their pairs are left out: gone.wav, gone.png\n" in err
    unheard = next(line for line in err.splitlines() if "cannot be heard" in line)
    assert unheard.startswith("5 recordings cannot be heard and are left out: silence.wav: no speech heard in ")
    assert "short.wav is too short (400 samples, 25 ms), wanted are 100 ms or more; minute.wav: " in unheard
    assert unheard.endswith("minute.wav is 1 min 0 s long, the limit is 20 s and 2 more")
    unseen = next(line for line in err.splitlines() if "cannot be seen" in line)
    assert unseen.startswith("2 pictures cannot be seen, their pairs are left out: cut.png: ")
    assert "; text.png: " in unseen
    measures = json.loads(printed)["measures"]
    assert list(measures) == ["validation"]
    assert "hit_rate" not in measures["validation"], "without captions"
    assert measures["validation"]
    assert all(0 <= value <= 1 for value in measures["validation"].values())


@pytest.mark.parametrize("unfreeze", [False, True])
def test_units_of_odd_recordings_lie_inside_them_and_fill_no_more_than_the_slots(
    unfreeze: bool, table: Path, tmp_path: Path
) -> None:
    material = recipe.gather(str(DEMO), str(DEMO), table, tmp_path, unfreeze=unfreeze)
    trained = recipe.train_head(material, Settings(slots=3, steps=2, batch=12, detector=0, threshold=0.05), tmp_path)
    rows = material.rows("validation")
    heard = material.exam_of(trained.speech).hear(trained.speech.head, rows)
    units = {}
    for row, edges, embedding in zip(rows, heard.edges, heard.embeddings["cascaded"], strict=True):
        assert edges[0] == 0
        assert all(np.diff(edges) > 0)
        assert edges[-1] == pytest.approx(material.heard.seconds[row], abs=1e-4)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-4)
        units[material.pairs.rows[row].speech] = len(edges) - 1
    assert units.keys() == {"noise.wav", "two speakers.wav", "no boundary.wav", "many units.wav"}
    assert max(units.values()) == units["many units.wav"] == 3
    assert units["no boundary.wav"] == 1


def test_damaged_pictures_do_not_end_a_run_that_has_seen_them_before(train: Train, table: Path, tmp_path: Path) -> None:
    lines = []
    for _ in range(2):
        status, _, err = train("--head", "parallel", "--pairs", table, "--cache", tmp_path / "own")
        assert status == 0, err
        lines.append([line for line in err.splitlines() if "left out" in line])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 3


def test_with_nothing_left_to_learn_from_it_says_so(train: Train, tmp_path: Path, bed: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "pairs.tsv").write_text("speech\tpicture\tsplit\nnoise.wav\ta.png\ttrain\nnoise.wav\tb.png\ttrain\n")
    status, _, err = train("--pairs", tmp_path / "pairs.tsv", "--cache", tmp_path / "own")
    listed, last = err.splitlines()
    assert status == 2
    assert listed.startswith("2 pictures cannot be seen, their pairs are left out: a.png: ")
    assert "0 pictures have an utterance to learn from: give pairs of at least two" in last
