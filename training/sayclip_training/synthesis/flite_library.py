"""flite in process, through its C library (Debian ``libflite1``, which ``flite`` brings), for the times of its words.

The command prints the ends of phonemes (``flite -psdur``) but not which word they belong to; the library's utterance
holds both. Structures and functions are those of ``flite.h`` 2.x.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from sayclip.errors import MissingDependencyError
from sayclip_training.synthesis.flite import FliteSettings
from sayclip_training.synthesis.timed import SpokenWord, Timed

PAUSE = "pau"
_REGISTER = {"kal16": "cmu_us_kal16", "awb": "cmu_us_awb", "rms": "cmu_us_rms", "slt": "cmu_us_slt"}
_STRETCH, _PITCH = b"duration_stretch", b"int_f0_target_mean"
_TOKEN = b"R:SylStructure.parent.parent.R:Token.parent"  # from a phoneme to what stands between two blanks


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


class Flite:
    """``say_timed(words, settings)``. Voices are loaded when they first speak and stay."""

    def __init__(self) -> None:
        self._library = _load("flite")
        for name, result, arguments in (
            ("flite_init", ctypes.c_int, []),
            ("flite_synth_text", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_void_p]),
            ("utt_wave", ctypes.POINTER(_Wave), [ctypes.c_void_p]),
            ("utt_relation", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
            ("relation_head", ctypes.c_void_p, [ctypes.c_void_p]),
            ("item_next", ctypes.c_void_p, [ctypes.c_void_p]),
            ("flite_ffeature_string", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_char_p]),
            ("flite_ffeature_float", ctypes.c_float, [ctypes.c_void_p, ctypes.c_char_p]),
            ("flite_path_to_item", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
            ("delete_utterance", None, [ctypes.c_void_p]),
            ("flite_feat_set_float", None, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]),
            ("flite_get_param_float", ctypes.c_float, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]),
            ("flite_feat_remove", ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]),
        ):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._library.flite_init()
        for part in ("flite_cmulex", "flite_usenglish"):
            _load(part)
        self._complaints = os.memfd_create("flite")  # a file in memory, for as long as the process lives
        self._voices: dict[str, tuple[ctypes._Pointer[_Voice], float]] = {}

    def say_timed(self, words: Sequence[str], settings: FliteSettings) -> Timed | None:
        """Synthesise ``words``; in a fresh process the same calls give the same samples.

        None where flite sees other words than these, as it takes some marks for words, and where it complains that the
        voice lacks something.
        """
        voice, own_pitch = self._voice(settings.voice)
        features, library = voice.contents.features, self._library
        library.flite_feat_set_float(features, _STRETCH, settings.stretch)
        pitch = own_pitch if settings.pitch is None else settings.pitch
        if pitch > 0:
            library.flite_feat_set_float(features, _PITCH, pitch)
        else:
            library.flite_feat_remove(features, _PITCH)
        with self._listening():
            utterance = library.flite_synth_text(" ".join(words).encode(), voice)
        if not utterance:
            return None
        try:
            if os.fstat(self._complaints).st_size:
                return None
            wave = library.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples * wave.num_channels,))
            spans = self._spans(utterance)
            if len(spans) != len(words):
                return None
            length = wave.num_samples / wave.sample_rate
            times = [
                SpokenWord(word, min(start, length), min(end, length))
                for word, (start, end) in zip(words, spans, strict=True)
            ]
            recording = samples.astype(np.float32) / np.float32(32768)
            return Timed(recording, int(wave.sample_rate), tuple(times))
        finally:
            library.delete_utterance(utterance)

    def ends(self, text: str, settings: FliteSettings) -> list[tuple[str, float]]:
        """Phonemes of ``text`` and the seconds at which they end, as ``flite -psdur`` prints them."""
        voice, _ = self._voice(settings.voice)
        self._library.flite_feat_set_float(voice.contents.features, _STRETCH, settings.stretch)
        utterance = self._library.flite_synth_text(text.encode(), voice)
        try:
            return [(name, end) for _, name, end in self._segments(utterance)]
        finally:
            self._library.delete_utterance(utterance)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """What flite prints on stderr meanwhile goes into ``_complaints``: a missing diphone is told nowhere else."""
        os.ftruncate(self._complaints, 0)
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(self._complaints, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

    def _spans(self, utterance: int) -> list[tuple[float, float]]:
        """Beginning and end of every token that has a sound."""
        spans: list[tuple[float, float]] = []
        before, owner = 0.0, None
        for segment, name, end in self._segments(utterance):
            if name != PAUSE:
                token = self._library.flite_path_to_item(segment, _TOKEN)
                if token != owner or not spans:
                    spans.append((before, end))
                else:
                    spans[-1] = (spans[-1][0], end)
                owner = token
            before = end
        return spans

    def _segments(self, utterance: int) -> Iterator[tuple[int, str, float]]:
        segment = self._library.relation_head(self._library.utt_relation(utterance, b"Segment"))
        while segment:
            name = self._library.flite_ffeature_string(segment, b"name").decode()
            yield segment, name, self._library.flite_ffeature_float(segment, b"end")
            segment = self._library.item_next(segment)

    def _voice(self, name: str) -> tuple[ctypes._Pointer[_Voice], float]:
        """The voice, and the pitch that it brings, 0 where it brings none."""
        if name not in self._voices:
            if name not in _REGISTER:
                raise ValueError(f"flite has no voice {name!r}")
            register = getattr(_load(f"flite_{_REGISTER[name]}"), f"register_{_REGISTER[name]}")
            register.restype, register.argtypes = ctypes.POINTER(_Voice), [ctypes.c_char_p]
            voice = register(None)
            own = self._library.flite_get_param_float(voice.contents.features, _PITCH, 0.0)
            self._voices[name] = (voice, own)
        return self._voices[name]


def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(f"lib{name}.so.1", mode=ctypes.RTLD_GLOBAL)  # the voices' libraries use the others' symbols
    except OSError as error:
        raise MissingDependencyError(
            f"speech synthesis with times needs flite's library lib{name}.so.1", "apt-get install flite"
        ) from error
