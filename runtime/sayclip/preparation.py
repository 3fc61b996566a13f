"""From what a caller gives to what a graph takes: the preprocessing that the manifest describes."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.entries import AudioPreprocessing, PhonemePreprocessing, PicturePreprocessing, TextPreprocessing
from sayclip.bundle.log_mel_entry import LogMelPreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import AudioError, BundleError, InputError, SayclipError

if TYPE_CHECKING:
    from sayclip.inputs.audio import AudioSettings
    from sayclip.inputs.log_mel import LogMelSettings
    from sayclip.inputs.pictures import PictureSettings
    from sayclip.phonemes.g2p import EspeakG2P
    from sayclip.phonemes.inventory import PhonemeInventory
    from sayclip.text.tokenizer import Tokenizer

T = TypeVar("T")


class Preparation:
    """The preprocessing of one bundle's encoders; each part is made at its first use and shared by all threads.

    Where several inputs are taken, ``first`` and ``count`` place them within the caller's longer list, for errors.
    Asking for what the bundle has no encoder for raises BundleError.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}

    def open(self, name: str) -> None:
        """Read the files that the encoder ``name`` needs, and load what it always needs, ahead of use.

        What decodes recordings is loaded at the first that needs it, which a plain WAV file at the encoder's own rate
        does not. Raises BundleError.
        """
        if name == "text":
            self._tokenizer()
        elif name == "pronunciation":
            self._inventory()
        elif name == "image":
            with suppress(ImportError, OSError):  # matters to paths only, and is reported when one is read
                import_module("PIL.Image")

    def picture(self, source: Any) -> NDArray[np.float32]:
        """One picture as float32 [3, H, W]. Raises PictureError."""
        from sayclip.inputs.pictures import read_picture

        return read_picture(source, self._picture_settings())

    @property
    def picture_size(self) -> int:
        """Height and width of a prepared picture, in pixels."""
        return self._picture_settings().size

    def texts(self, texts: Sequence[str], first: int = 0, count: int = 0) -> list[NDArray[np.int32]]:
        """Token ids [L] of each text. Raises TextError."""
        encode = self._tokenizer().encode
        return [np.array(ids, dtype=np.int32) for ids in each(encode, texts, first=first, count=count)]

    def pronunciations(
        self, ipa: Sequence[str], first: int = 0, count: int = 0, *, nearest: bool = False
    ) -> list[NDArray[np.int32]]:
        """Phoneme ids [L] of each IPA string; with ``nearest`` unknown symbols count as the nearest known ones.

        Raises PhonemeError.
        """
        context = self._entry("pronunciation", PhonemePreprocessing).context
        encode = functools.partial(self._inventory().encode, context=context, nearest=nearest)
        return [np.array(ids, dtype=np.int32) for ids in each(encode, ipa, first=first, count=count)]

    def ipa_of(self, words: Sequence[str], language: str | None = None) -> list[str]:
        """The IPA of each text by the G2P of the encoder's training, in one of its languages (default: the first).

        Raises MissingDependencyError, InputError for a language that it was not trained on.
        """
        return self._g2p(language)(list(words))

    def recordings(
        self, sample_rate: int | None, sources: Sequence[Any], first: int = 0, count: int = 0
    ) -> list[NDArray[np.float32]]:
        """Samples [S] of each recording at the encoder's rate. Raises AudioError, NoSpeechError."""
        from sayclip.inputs.audio import read_audio

        _refuse_numbers(sources)
        read = functools.partial(read_audio, settings=self._audio_settings(), sample_rate=sample_rate)
        return each(read, sources, first=first, count=count)

    def speech_feeds(self, batch: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
        """What the speech graph takes for recordings [S], padded as the bundle asks for."""
        how = self._entry("speech", AudioPreprocessing)
        waveform, length = pad(batch, np.float32, how.padded(max(map(len, batch))))
        return {"waveform": waveform, "length": length}

    def keyword_words(self) -> dict[int, str] | None:
        """Words by token id, of the keywords that the speech encoder hears; None where it has none."""
        from sayclip.text.keywords import read_keywords

        file = self._entry("speech", AudioPreprocessing).keywords
        if file is None:
            return None
        path = self._manifest.path(file.file)
        return self._once("keywords", lambda: read_keywords(path))

    def sounds(
        self, sources: Sequence[Any], sample_rate: int | None, first: int = 0, count: int = 0
    ) -> list[NDArray[np.float32]]:
        """Log-mel images [n, 3, mels, mels] of each recording, n at least 1. Raises AudioError, NoSpeechError."""
        from sayclip.inputs.audio import AudioSettings, read_stereo
        from sayclip.inputs.log_mel import log_mel_images

        _refuse_numbers(sources)
        how = self._entry("audio", LogMelPreprocessing)
        hearing = AudioSettings(how.sample_rate, how.min_seconds, how.max_seconds)
        settings = log_mel_settings(how)

        def images(source: Any) -> NDArray[np.float32]:
            return log_mel_images(read_stereo(source, hearing, sample_rate=sample_rate), settings)

        return each(images, sources, first=first, count=count)

    @property
    def type_mix(self) -> float:
        """What the audio encoder takes a sound for unless it is told: 0 speech, 1 any other sound."""
        return self._entry("audio", LogMelPreprocessing).type_mix

    def _entry(self, name: str, kind: type[T]) -> T:
        preprocessing = self._manifest.entry(name).preprocessing
        assert isinstance(preprocessing, kind)  # reading the manifest refuses any other
        return preprocessing

    def _once(self, key: str, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            made: T = self._made[key]
            return made

    def _picture_settings(self) -> PictureSettings:
        from sayclip.inputs.pictures import PictureSettings

        how = self._entry("image", PicturePreprocessing)
        return self._once("image", lambda: PictureSettings(how.size, how.mean, how.std, how.resample, how.resize))

    def _audio_settings(self) -> AudioSettings:
        from sayclip.inputs.audio import AudioSettings

        how = self._entry("speech", AudioPreprocessing)
        return self._once(
            "speech",
            lambda: AudioSettings(how.sample_rate, how.min_seconds, how.max_seconds, how.normalisation, how.trim),
        )

    def _tokenizer(self) -> Tokenizer:
        from sayclip.text.tokenizer import Tokenizer

        how = self._entry("text", TextPreprocessing)
        path = self._manifest.path(how.tokenizer.file)
        return self._once("text", lambda: Tokenizer.from_file(path, context=how.context))

    def _inventory(self) -> PhonemeInventory:
        from sayclip.phonemes.inventory import PhonemeInventory

        how = self._entry("pronunciation", PhonemePreprocessing)
        path = self._manifest.path(how.inventory.file)
        return self._once("pronunciation", lambda: PhonemeInventory.from_file(path))

    def _g2p(self, language: str | None) -> EspeakG2P:
        from sayclip.phonemes.g2p import EspeakG2P
        from sayclip.phonemes.segments import STRESS

        wanted = self._entry("pronunciation", PhonemePreprocessing).g2p
        if language is not None and language not in wanted.languages:
            raise InputError(
                f"language is {language!r}, the pronunciation encoder was trained on {', '.join(wanted.languages)}",
                "give one of these, or IPA instead of words",
            )
        stress = STRESS in self._inventory().symbols
        chosen = language or wanted.language
        g2p = self._once(f"g2p {chosen}", lambda: EspeakG2P(chosen, stress=stress))
        if g2p.name != wanted.name:
            raise BundleError(
                f"the pronunciation encoder was trained on the IPA of {wanted.name!r}, this sayclip has {g2p.name!r}",
                "give IPA strings instead of words",
            )
        return g2p


def log_mel_settings(how: LogMelPreprocessing) -> LogMelSettings:
    """The part of the manifest's entry that the images depend on."""
    from sayclip.inputs.log_mel import LogMelSettings

    return LogMelSettings(**{part.name: getattr(how, part.name) for part in fields(LogMelSettings)})


def _refuse_numbers(sources: Sequence[Any]) -> None:
    if sources and isinstance(sources[0], (int, float)):
        raise AudioError("the recording is a list of numbers, wanted an array", "give numpy.array(samples)")


def as_list(inputs: Any) -> list[Any]:
    """One input or several, as a list: strings, bytes, paths, arrays and pictures are one, other iterables several."""
    single = isinstance(inputs, (str, bytes, os.PathLike, np.ndarray, Mapping)) or not isinstance(inputs, Iterable)
    return [inputs] if single else list(inputs)


def each(convert: Callable[[Any], T], items: Sequence[Any], *, first: int = 0, count: int = 0) -> list[T]:
    """``convert`` of every item; of several, an error says which one it was.

    ``first`` and ``count`` place ``items`` within a longer list.
    """
    count = count or len(items)
    converted: list[T] = []
    for place, item in enumerate(items, start=first):
        try:
            converted.append(convert(item))
        except SayclipError as error:
            if count == 1:
                raise
            raise type(error)(f"item {place} of {count}: {error.problem}", error.remedy) from error
    return converted


def pad(batch: Sequence[NDArray[Any]], dtype: type[Any], longest: int = 0) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Sequences as [n, longest] filled up with zeros, and their true lengths int32 [n]."""
    lengths = np.array([len(sequence) for sequence in batch], dtype=np.int32)
    padded = np.zeros((len(batch), max(longest, int(lengths.max()))), dtype=dtype)
    for row, sequence in zip(padded, batch, strict=True):
        row[: len(sequence)] = sequence
    return padded, lengths
