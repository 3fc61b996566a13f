"""``sayclip train demo-data``: the whole test bed, every step of which goes on where a stopped run left it."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from sayclip_training.demo_data import pictures
from sayclip_training.testbed import captions, folder, heeded, homophones, languages, parts, speech, versions, words
from sayclip_training.testbed.about import about
from sayclip_training.testbed.contents import Contents, Size, contents
from sayclip_training.testbed.drawing import draw_scene
from sayclip_training.testbed.files import write
from sayclip_training.testbed.parts import Part

_WORDS_A_PART, _RECORDINGS_A_PART = 50, 60  # some seconds each
_FORMAT = 2  # of the files; a change makes older folders another recipe


def build(target: Path, size: Size, seed: int, workers: int) -> dict[str, Any]:
    """Build the test bed in ``target`` and return the content of its ``about.json``.

    Raises MissingDependencyError for a missing Debian package and InputError for a folder that cannot be used.
    """
    with heeded.heeded():
        return _build(target, size, seed, workers)


def _build(target: Path, size: Size, seed: int, workers: int) -> dict[str, Any]:
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.0f} s] {text}", file=sys.stderr, flush=True)

    versions.check()
    extent = {**vars(size), "pictures": size.pictures or "all"}
    recipe = {"format": _FORMAT, "seed": seed, **extent, "versions": versions.versions()}
    if not folder.begin(target, recipe):
        say(f"{target} is complete")
        finished: dict[str, Any] = json.loads((target / folder.ABOUT).read_text(encoding="utf-8"))
        return finished
    planned = contents(size, seed)
    say(f"{len(planned.emoji)} pictures, {len(planned.scenes)} scenes, {len(planned.recordings)} recordings")
    _draw(planned, target, seed)
    say("pictures and scenes drawn")
    write(target / "captions.tsv", captions.table(planned.captions).encode())
    for language in languages.LANGUAGES:
        named = languages.names(planned.emoji, language)
        write(target / "languages" / f"{language}.tsv", languages.table(named).encode())
    entries = _words(planned, target / folder.PARTS, seed, workers, say)
    write(target / "words.json", (json.dumps(entries, ensure_ascii=False, indent=1) + "\n").encode())
    rows = _speech(planned, target, workers, say)
    picture = {caption.text: caption.file for caption in reversed(planned.captions)}  # the first of the same caption
    rows = [{**row, "picture": picture[row["caption"]]} for row in rows]
    write(target / "speech.tsv", speech.table(rows).encode())
    for leftover in target.rglob(".*.part"):  # of processes that were killed while they wrote
        leftover.unlink(missing_ok=True)
    result = about(target, recipe, planned.captions, entries, rows, len(planned.recordings))
    write(target / folder.ABOUT, (json.dumps(result, ensure_ascii=False, indent=1) + "\n").encode())
    shutil.rmtree(target / folder.PARTS)
    say(f"wrote {target}")
    return result


def _draw(planned: Contents, target: Path, seed: int) -> None:
    font = pictures.emoji_font()
    for item in planned.emoji:
        path = target / captions.picture_file(item)
        if not path.exists():
            _save(path, pictures.draw(item, font))
    for number, scene in enumerate(planned.scenes):
        path = target / captions.scene_file(number)
        if not path.exists():
            _save(path, draw_scene(scene, planned.nouns, planned.emoji, font, [seed, number]))


def _save(path: Path, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=82, method=4)
    write(path, buffer.getvalue())


def _words(planned: Contents, work: Path, seed: int, workers: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    names = [item.name for item in planned.emoji]
    texts = sorted({caption.text for caption in planned.captions})
    (table,) = parts.run([Part("homophones", words.find_homophones, (names, texts))], work, 1)
    hint = "" if homophones.WORD_LIST.exists() else f"; apt-get install {homophones.PACKAGE} finds more"
    say(f"homophones of {len(table)} words{hint}")
    rows = [(captions.picture_file(item), item.name) for item in planned.emoji]
    todo = [
        Part(f"words-{start:05d}", words.entries, (rows[start : start + _WORDS_A_PART], names, texts, table, seed))
        for start in range(0, len(rows), _WORDS_A_PART)
    ]
    return list(chain.from_iterable(parts.run(todo, work, workers, _progress("words", say))))


def _speech(planned: Contents, target: Path, workers: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    todo = [
        Part(f"speech-{start:06d}", speech.record, (planned.recordings[start : start + _RECORDINGS_A_PART], target))
        for start in range(0, len(planned.recordings), _RECORDINGS_A_PART)
    ]
    return list(chain.from_iterable(parts.run(todo, target / folder.PARTS, workers, _progress("speech", say))))


def _progress(what: str, say: Callable[[str], None]) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == total or done % 10 == 0:
            say(f"{what}: part {done} of {total}")

    return progress
