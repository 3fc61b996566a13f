"""espeak-ng as a synthesiser, in process through its C interface (``speak_lib.h`` of espeak-ng 1.52).

The library and its data come from the ``espeakng-loader`` wheel. One instance a process: the library keeps one global
state. GPL-3, used by training only.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import MissingDependencyError
from sayclip_training.synthesis.espeak_events import PHONEME, Event, word_times
from sayclip_training.synthesis.timed import Timed

LANGUAGES = ("en-us", "en-us", "en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan",
             "en-gb-x-gbcwmd", "en-029")  # fmt: skip
VARIANTS = (
    "", "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "klatt", "klatt2", "klatt3",
    "klatt4", "klatt5", "klatt6", "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2",
    "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Storm", "adam", "anika", "announcer",
    "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "croak", "david", "ed", "edward", "edward2",
    "grandma", "grandpa", "gustave", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "linda", "marcelo",
    "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby",
    "steph", "steph2", "steph3", "travis", "victor", "zac", "whisperf",
)  # fmt: skip

_SYNCHRONOUS = 2  # samples go to the callback before espeak_Synth returns; the other mode polls and sleeps
_UTF8, _PHONEMES = 1, 0x100  # of what is given
_IPA = 2  # of what comes back
_RATE, _VOLUME, _PITCH, _RANGE, _GAP = 1, 2, 3, 4, 7


class _Event(ctypes.Structure):
    """``espeak_EVENT``; its last field is a union, of which only the phoneme's name is wanted here."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds; the next counts samples
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class EspeakSettings:
    """Voice as ``language+variant``, words a minute, pitch and pitch range on espeak-ng's 0..100 scales.

    ``gap``: what words stand apart beyond the usual, in hundredths of a second.
    """

    voice: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    gap: int = 0


def held_back(variant: str) -> bool:
    """Whether a variant is kept for choosing checkpoints and settings: about one in ten, by hash."""
    return hashlib.sha256(f"variant {variant}".encode()).digest()[0] < 26


class Espeak:
    """``say(text, settings) -> (f32 [S] in [-1,1], sample rate in Hz)``."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise MissingDependencyError(
                "speech synthesis for training needs espeak-ng", "pip install espeakng-loader"
            ) from error
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
                                         ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]  # fmt: skip
        library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        library.espeak_Info.argtypes, library.espeak_Info.restype = [ctypes.c_void_p], ctypes.c_char_p
        library.espeak_ng_SetPhonemeEvents.argtypes = [ctypes.c_int, ctypes.c_int]
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._library, self._chunks = library, list[NDArray[np.int16]]()
        self._events: list[Event] | None = None
        self._callback = _CALLBACK(self._receive)  # kept: the library holds only a bare pointer
        self.sample_rate: int = library.espeak_Initialize(
            _SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0
        )
        library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, settings: EspeakSettings) -> tuple[NDArray[np.float32], int]:
        """Synthesise; what stands in ``[[ ]]`` is read as phonemes. An unknown voice raises ValueError."""
        library = self._library
        self._choose(settings.voice)
        for parameter, value in (
            (_RATE, settings.rate), (_PITCH, settings.pitch), (_RANGE, settings.pitch_range), (_GAP, settings.gap)
        ):  # fmt: skip
            library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        data = text.encode() + b"\0"
        library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8 | _PHONEMES, None, None)
        wave = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)
        return wave.astype(np.float32) / np.float32(32768), self.sample_rate

    def say_timed(self, words: Sequence[str], settings: EspeakSettings, seed: int = 0) -> Timed | None:
        """Synthesise ``words`` and tell when each of them is said, to the sample.

        ``seed`` is that of espeak-ng's noise: in a fresh process the same calls give the same samples. None where a
        word has no sound of its own (`sayclip_training.synthesis.espeak_events`).
        """
        self._library.espeak_ng_SetPhonemeEvents(1, 0)
        self._library.espeak_ng_SetRandSeed(seed)
        ctypes.CDLL(None).srand(seed)  # some voices draw from C's own generator
        events: list[Event] = []
        self._events = events
        try:
            wave, rate = self.say(" ".join(words), settings)
        finally:
            self._events = None
            self._library.espeak_ng_SetPhonemeEvents(0, 0)
        times = word_times(words, events, len(wave), rate)
        return None if times is None else Timed(wave, rate, tuple(times))

    @property
    def version(self) -> str:
        """Such as ``1.52.0``."""
        return str(self._library.espeak_Info(None).decode().split()[0])

    def phonemes(self, text: str, voice: str) -> str:
        """espeak-ng's mnemonics for ``text``, separated by ``|``, words by spaces; ``say`` reads them in ``[[ ]]``."""
        return self._phonemes(text, voice, 0)

    def ipa(self, text: str, voice: str) -> str:
        """The same in IPA, with marks of stress and length; an accent has its own."""
        return self._phonemes(text, voice, _IPA)

    def _phonemes(self, text: str, voice: str, alphabet: int) -> str:
        self._choose(voice)
        rest, clauses = ctypes.c_char_p(text.encode()), []
        while rest.value:
            mode = ord("|") << 8 | alphabet
            clauses.append(self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, mode).decode())
        return " ".join(clauses)

    def _choose(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if count > 0 and samples:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        if self._events is not None and events:
            place = 0
            while (event := events[place]).type:  # 0 ends the list
                name = event.name.decode(errors="replace") if event.type == PHONEME else ""
                self._events.append(Event(event.type, event.text_position, event.sample, name))
                place += 1
        return 0
