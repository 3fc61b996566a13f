"""Words to IPA by espeak-ng, through phonemizer: both optional, and under the GPL.

espeak-ng keeps its state in global variables, so a backend used by two threads at once returns wrong phonemes without
any error. Here every call has a backend to itself: idle ones are kept and lent out, and there are never more of them
than calls at the same time.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sayclip.errors import MissingDependencyError, PhonemeError

MAX_CHARACTERS = 10_000
_INSTALL = "pip install 'sayclip[phonemes]'"
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
_NO_SOUNDS = re.compile("[\u200b-\u200d\u2060\ufeff0-9]")  # invisible characters, and numbers of tones
_STARTING = threading.Lock()  # the paths of the library are class attributes of phonemizer's wrapper


class EspeakG2P:
    """Words to IPA, with marks of stress or (the default) without.

    ``name`` is ``"espeak-ng"``, ``version`` the library's (``"1.52.0"``), ``language`` a code such as ``"en-us"`` or
    ``"de"``, ``stress`` whether ``ˈ`` and ``ˌ`` are written.
    The library and data of ``espeakng-loader`` are used where installed, else those of the system; the environment
    variable ``PHONEMIZER_ESPEAK_LIBRARY`` goes before both.
    """

    name = "espeak-ng"

    def __init__(self, language: str = "en-us", *, stress: bool = False) -> None:
        """``MissingDependencyError`` without phonemizer or espeak-ng; ``PhonemeError`` for an unknown language."""
        self.language, self.stress = language, stress
        self._idle: list[Any] = []
        self._logger = logging.getLogger("sayclip.phonemes")
        self._logger.addHandler(logging.NullHandler())
        backend = self._start()
        self.version = ".".join(str(number) for number in backend.version())
        self._idle.append(backend)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """IPA of every text, words separated by one blank; ``""`` for a text without anything to say.

        May be called by several threads at once. ``PhonemeError`` for more than 10,000 characters.
        """
        if isinstance(texts, str):
            raise PhonemeError("the texts are one str, wanted a list of them", "pass [text]")
        cleaned = [self._checked(text) for text in texts]
        spoken = [place for place, text in enumerate(cleaned) if text]
        result = [""] * len(cleaned)
        if spoken:
            with self._backend() as backend:
                answers = backend.phonemize([cleaned[place] for place in spoken], strip=True)
            for place, ipa in zip(spoken, answers, strict=True):
                result[place] = _BLANKS.sub(" ", _NO_SOUNDS.sub("", ipa)).strip()
        return result

    @staticmethod
    def _checked(text: str) -> str:
        if not isinstance(text, str):
            raise PhonemeError(f"a text is a {type(text).__name__}, wanted a str", "pass a list of strings")
        if len(text) > MAX_CHARACTERS:
            raise PhonemeError(
                f"the text has {len(text):,} characters, at most {MAX_CHARACTERS:,} are taken", "give a few words"
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PhonemeError(
                f"the text is not valid Unicode (a lone surrogate at character {error.start + 1})",
                "pass text decoded from UTF-8",
            ) from error
        return _BLANKS.sub(" ", text).strip()

    @contextmanager
    def _backend(self) -> Iterator[Any]:
        try:
            backend = self._idle.pop()
        except IndexError:
            backend = self._start()
        try:
            yield backend
        finally:
            self._idle.append(backend)

    def _start(self) -> Any:
        try:
            from phonemizer.backend import EspeakBackend
            from phonemizer.backend.espeak.wrapper import EspeakWrapper
        except ImportError as error:
            raise MissingDependencyError("turning words into IPA needs phonemizer and espeak-ng", _INSTALL) from error
        with _STARTING:
            if "PHONEMIZER_ESPEAK_LIBRARY" not in os.environ:
                try:
                    import espeakng_loader
                except ImportError:
                    pass  # the system's library, if there is one
                else:
                    EspeakWrapper.set_library(espeakng_loader.get_library_path())
                    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
            if not EspeakBackend.is_available():
                raise MissingDependencyError("turning words into IPA needs the espeak-ng library", _INSTALL)
            known = EspeakBackend.supported_languages()
            if self.language not in known:
                raise PhonemeError(
                    f"espeak-ng has no language {self.language!r}", f"use {_alike(self.language, known)}"
                )
            return EspeakBackend(
                self.language, with_stress=self.stress, language_switch="remove-flags", logger=self._logger
            )


def _alike(language: str, known: Iterable[str]) -> str:
    """Codes of the same language as a hint, or English ones where there are none."""
    alike = sorted(code for code in known if code.partition("-")[0] == language.lower().partition("-")[0])
    return f"one such as {', '.join(map(repr, alike[:4] or ('en-us', 'en-gb')))}"
