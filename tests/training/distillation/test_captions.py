"""Caption files: what is read from them, and in which line they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sayclip.errors import InputError
from sayclip_training.distillation.captions import OTHER, TRAIN, VALIDATION, read_captions


def test_one_caption_a_line(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes("\ufeffred apple\r\n\r\n  blue car \r\nSchöner Käse\n".encode())
    read = read_captions([str(path)])
    assert [(c.text, c.read, c.line, c.language, c.file) for c in read] == [
        ("red apple", "red apple", 1, "", ""),
        ("blue car", "blue car", 3, "", ""),
        ("Schöner Käse", "Schöner Käse", 4, "", ""),
    ]
    assert read[1].place == f"{path}, line 3"
    german = read_captions([f"{path},lang=de"])
    assert {c.language for c in german} == {"de"}


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "captions.tsv"
    path.write_text(
        "file\tCaption\tkind\tsplit\tlanguage\tteacher\n"
        "a.webp\tred apple\tname\ttrain\t\t\n"
        "a.webp\troter Apfel\tname\tvalidation\tde\tred apple\n"
        "b.webp\tcar\tname\tword\ten\t\n",
        encoding="utf-8",
    )
    read = read_captions([str(path)])
    assert [(c.text, c.read, c.split, c.language, c.file) for c in read] == [
        ("red apple", "red apple", TRAIN, "", "a.webp"),
        ("roter Apfel", "red apple", VALIDATION, "de", "a.webp"),
        ("car", "car", OTHER, "en", "b.webp"),
    ]


def test_other_languages_are_read_by_the_teacher_as_the_first_says_of_the_file(tmp_path: Path) -> None:
    for language, names in {"en": ("apple", "car"), "de": ("Apfel", "Auto")}.items():
        rows = "".join(f"{i}.webp\t{name}\n" for i, name in enumerate(names))
        (tmp_path / f"{language}.tsv").write_text("file\tname\n" + rows, encoding="utf-8")
    (tmp_path / "de.tsv").open("a", encoding="utf-8").write("9.webp\tBaum\n")
    read = read_captions([f"{tmp_path / name}.tsv,lang={name}" for name in ("en", "de")])
    assert [(c.text, c.read) for c in read] == [
        ("apple", "apple"),
        ("car", "car"),
        ("Apfel", "apple"),
        ("Auto", "car"),
        ("Baum", "Baum"),
    ]
    splits: dict[str, set[str]] = {}
    for caption in read:
        splits.setdefault(caption.read, set()).add(caption.split)
    assert all(len(found) == 1 for found in splits.values()), "a thing is held out in all languages or in none"


def test_one_in_twenty_is_held_out_where_no_split_says_so(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("".join(f"caption number {i}\n" for i in range(2000)), encoding="utf-8")
    held = [c.text for c in read_captions([str(path)]) if c.split == VALIDATION]
    assert 60 <= len(held) <= 140
    path.write_text("".join(f"caption number {i}\n" for i in reversed(range(2000))), encoding="utf-8")
    assert [c.text for c in read_captions([str(path)]) if c.split == VALIDATION] == held[::-1]


BAD = {
    "empty": (b"", "there is no caption in it"),
    "blank": (b"\n \n\t\n", "there is no caption in it"),
    "a header alone": (b"file\tcaption\n", "there is no caption in it"),
    "empty captions": (b"file\tcaption\na.webp\t\n", "there is no caption in it"),
    "one column of something else": (b"file\na.webp\n", "has the one column file, wanted one called caption"),
    "columns of something else": (b"id\turl\n1\tx\n", "has the columns id, url, wanted one called caption"),
    "a row of one column": (b"file\tcaption\na\tapple\nb\n", "line 3 has 1 column, its header 2"),
    "a row too long": (b"file\tcaption\na\tapple\tx\n", "line 2 has 3 columns, its header 2"),
    "Latin-1": (b"apple\ncar\nK\xe4se\n", "line 3 is not UTF-8 (byte 0xe4): save the file as UTF-8"),
    "UTF-16": ("apple\n".encode("utf-16"), "line 1 is UTF-16, wanted UTF-8"),
    "no text": (b"apple\nPK\x00\x03", "line 2 holds a zero byte"),
    "a book on a line": (b"apple\n" + b"car " * 3000, "line 2 has 11,999 characters, at most 10,000"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_of_no_use_is_refused(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    path = tmp_path / "captions.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_captions([str(path)])
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_captions([str(path)])
