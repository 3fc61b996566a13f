"""Where inputs come from: folders of pictures and recordings, files of captions and IPA."""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError, InputError, MissingDependencyError, PhonemeError
from sayclip.library.finding import find_pictures, printable
from sayclip.preparation import Preparation

from .lines import read_lines, stem_of
from .samples import Feed, Source

ReadFile = Callable[[Preparation, Path], Feed]
ReadText = Callable[[Preparation, str], Feed]

OPTIONS = {
    "image": "--images DIR",
    "text": "--text FILE",
    "pronunciation": "--ipa FILE",
    "speech": "--speech DIR",
    "audio": "--sounds DIR",
}
"""What gives each encoder its inputs."""
RECORDINGS = frozenset(
    f".{suffix}"
    for suffix in ("aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "snd", "w64", "wav", "wave")
)


@dataclass(frozen=True)
class Given:
    """What the user gave: folders and files, None where nothing was."""

    images: Path | None = None
    text: Path | None = None
    ipa: Path | None = None
    speech: Path | None = None
    sounds: Path | None = None


def find_sources(
    manifest: Manifest, given: Given, seed: int
) -> tuple[dict[str, list[Source]], dict[str, str], list[tuple[str, str]]]:
    """The inputs that there are for each encoder of ``manifest``; why others have none; what could not be looked at.

    Nothing is decoded yet. Of a sound longer than one segment the ``seed`` chooses the one. Raises InputError for a
    folder or file that is not there or has nothing to give.
    """
    preparation = Preparation(manifest)
    found: dict[str, list[Source]] = {}
    without: dict[str, str] = {}
    failed: list[tuple[str, str]] = []
    captions = read_lines(given.text) if given.text else {}
    for name in manifest.encoders:
        sources: list[Source] = []
        if name == "image" and given.images:
            pictures = find_pictures(given.images)
            failed += pictures.failed
            sources = _files(given.images, list(pictures), preparation, _picture)
        elif name == "speech" and given.speech:
            sources = _files(given.speech, find_recordings(given.speech, failed), preparation, _speech)
        elif name == "audio" and given.sounds:
            sound = functools.partial(_sound, seed=seed)
            sources = _files(given.sounds, find_recordings(given.sounds, failed), preparation, sound)
        elif name == "text" and captions:
            sources = _texts(captions, preparation, _tokens)
        elif name == "pronunciation" and given.ipa:
            sources = _texts(read_lines(given.ipa), preparation, _phonemes)
        elif name == "pronunciation" and captions:
            try:
                preparation.ipa_of(["a"])
            except (MissingDependencyError, BundleError, PhonemeError) as error:
                without[name] = f"needs {OPTIONS[name]}, as no IPA can be made of the captions here ({error.problem})"
                continue
            sources = _texts(captions, preparation, _words)
        elif name not in OPTIONS:
            without[name] = "is of no kind that inputs can be read for"
            continue
        else:
            also = " or, where espeak-ng is installed, --text FILE" if name == "pronunciation" else ""
            without[name] = f"needs {OPTIONS[name]}{also}"
            continue
        if not sources:
            raise InputError(f"{OPTIONS[name].split()[0]} holds nothing for {name}", "name a folder that holds some")
        found[name] = sources
    return found, without, failed


def find_recordings(folder: Path, failed: list[tuple[str, str]]) -> list[Path]:
    """Recordings in a folder and its subfolders, by suffix (of any case), sorted; hidden ones are passed over.

    What cannot be looked at is added to ``failed``. Raises InputError where there is no such folder.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist", "give a folder with recordings")

    def note(error: OSError) -> None:
        where = printable(error.filename or folder)
        failed.append((where, f"folder cannot be read ({error.strerror}): check its permissions"))

    paths = []
    for root, folders, files in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            Path(root, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in RECORDINGS
        ]
    return sorted(paths)


def _files(folder: Path, paths: list[Path], preparation: Preparation, read: ReadFile) -> list[Source]:
    root = folder if folder.is_dir() else folder.parent
    return [
        Source(
            printable(path.relative_to(root).as_posix()),
            frozenset({stem_of(path.name)}),
            functools.partial(read, preparation, path),
        )
        for path in paths
    ]


def _texts(texts: Mapping[str, frozenset[str]], preparation: Preparation, read: ReadText) -> list[Source]:
    return [Source(text, keys, functools.partial(read, preparation, text)) for text, keys in texts.items()]


def _picture(preparation: Preparation, path: Path) -> Feed:
    return {"pixels": preparation.picture(path)[None]}


def _speech(preparation: Preparation, path: Path) -> Feed:
    # Not ``speech_feeds``, which pads up to a bucket.
    wave = preparation.recordings(None, [path])[0]
    return {"waveform": wave[None], "length": np.array([len(wave)], np.int32)}


def _sound(preparation: Preparation, path: Path, *, seed: int) -> Feed:
    images = preparation.sounds([path], None)[0]
    heard = [number for number, image in enumerate(images) if image.any()] or [0]
    chosen = heard[np.random.default_rng([seed, zlib.crc32(os.fsencode(path.name))]).integers(len(heard))]
    return {"segments": images[chosen : chosen + 1], "type_mix": np.array([preparation.type_mix], np.float32)}


def _tokens(preparation: Preparation, text: str) -> Feed:
    ids = preparation.texts([text])[0]
    return {"token_ids": ids[None], "length": np.array([len(ids)], np.int32)}


def _phonemes(preparation: Preparation, ipa: str) -> Feed:
    ids = preparation.pronunciations([ipa])[0]
    return {"phoneme_ids": ids[None], "length": np.array([len(ids)], np.int32)}


def _words(preparation: Preparation, text: str) -> Feed:
    return _phonemes(preparation, preparation.ipa_of([text])[0])
