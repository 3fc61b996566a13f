"""Tables of pairs: what is read, what is left out and counted, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sayclip.errors import InputError
from sayclip_training.heads.pairs import TRAIN, VALIDATION, Word, read_pairs


def table(folder: Path, *lines: str, files: str = "a.flac b.flac p.png q.png") -> Path:
    for name in files.split():
        (folder / name).write_bytes(b"x")
    path = folder / "pairs.tsv"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_whole_table(tmp_path: Path) -> None:
    words = '[["red", 0.0, 0.3], ["apple", 0.31, 0.8]]'
    rows = (
        f"a.flac\tp.png\ttrain\tred apple\t{words}",
        "b.flac\tq.png\tvoice\t\t",
    )
    pairs = read_pairs(table(tmp_path, "speech\tpicture\tsplit\tcaption\twords", *rows))
    first, second = pairs.rows
    assert (first.speech, first.picture, first.split, first.caption, first.line) == (
        "a.flac",
        "p.png",
        TRAIN,
        "red apple",
        2,
    )
    assert first.words == (Word("red", 0.0, 0.3), Word("apple", 0.31, 0.8))
    assert (second.split, second.words) == ("voice", ())
    assert pairs.report() == ""


def test_without_a_split_one_picture_in_twenty_is_held_out(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(400)]
    rows = [f"a.flac\t{name}" for name in names for _ in range(2)]
    pairs = read_pairs(table(tmp_path, "file\tpicture", *rows, files=" ".join(["a.flac", *names])))
    held = {row.picture for row in pairs.rows if row.split == VALIDATION}
    assert 8 <= len(held) <= 40
    assert not held & {row.picture for row in pairs.rows if row.split == TRAIN}, "all utterances of a picture together"


def test_missing_files_are_left_out_listed_and_counted(tmp_path: Path) -> None:
    rows = ["a.flac\tp.png\ttrain", "c.flac\tp.png\ttrain", "b.flac\tr.png\ttrain", "\tp.png\ttrain"]
    path = table(tmp_path, "speech\tpicture\tsplit", *rows)
    pairs = read_pairs(path)
    assert [row.speech for row in pairs.rows] == ["a.flac"]
    assert pairs.report() == "3 files are missing, their pairs are left out: c.flac, r.png, (none, line 5)"
    assert [row.speech for row in read_pairs(path, pictures=False).rows] == ["a.flac", "b.flac"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "pairs.tsv is empty"),
        (["speech\tcaption", "a.flac\tred"], "has the columns speech, caption, wanted speech and picture"),
        (["speech\tpicture", "a.flac"], "line 2 has 1 columns, its header 2"),
        (["speech\tpicture", "c.flac\tp.png"], "has no pair to learn from, 1 files are missing"),
        (["speech\tpicture\tsplit", "a.flac\tp.png\ttest"], "has no pair to learn from: give pairs in the split train"),
        (["speech\tpicture\twords", "a.flac\tp.png\tred"], "line 2: words are 'red'"),
        (['speech\tpicture\twords', 'a.flac\tp.png\t[["a", 1, 0.5]]'], "the word 'a' lies from 1 to 0.5 s"),
        (['speech\tpicture\twords', 'a.flac\tp.png\t[["a", NaN, 0.5]]'], "the word 'a' lies from nan"),
    ],
)  # fmt: skip
def test_what_is_of_no_use_is_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_pairs(table(tmp_path, *lines))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_encodings_and_missing_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.tsv").write_bytes("speech\tpicture\nä.wav\tp.png\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_pairs(tmp_path / "latin.tsv")
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(tmp_path / "none.tsv")
