"""How captions are said: their IPA in one or several languages, by the runtime's own espeak-ng."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sayclip.bundle.entries import G2P
from sayclip.errors import InputError, PhonemeError
from sayclip.phonemes.g2p import EspeakG2P
from sayclip_training.distillation import cache
from sayclip_training.distillation.captions import Caption

DEFAULT = "en-us"
# espeak-ng has no language of these names alone.
_USUAL = {"en": "en-us", "fr": "fr-fr", "zh": "cmn", "no": "nb"}


@dataclass(frozen=True)
class Said:
    """``spoken``: of every caption, (language, IPA) for each language that it is said in; no IPA for nothing to say."""

    spoken: list[list[tuple[str, str]]]
    g2p: G2P


def say(
    captions: Sequence[Caption],
    languages: Sequence[str],
    folder: Path,
    *,
    stress: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Said:
    """Say every caption in its own language, or in each of ``languages`` where it has none; IPA is kept in ``folder``.

    The first of ``languages``, else of the captions' own, is the one in which words are read at run time by default.
    Raises PhonemeError for a language that espeak-ng does not have, naming the line, and MissingDependencyError.
    """
    voices = _voices(captions, languages, stress)
    names = list(dict.fromkeys(voice.language for voice in voices.values()))
    unnamed = list(dict.fromkeys(voices[name].language for name in languages or [DEFAULT] if name in voices))
    spoken_in = [[voices[c.language].language] if c.language else unnamed for c in captions]
    ipa: dict[tuple[str, str], str] = {}
    for done, name in enumerate(names):
        voice = next(voice for voice in voices.values() if voice.language == name)
        wanted = list(dict.fromkeys(c.text for c, spoken in zip(captions, spoken_in, strict=True) if name in spoken))
        for text, said in zip(wanted, transcribe(voice, wanted, folder, stress=stress), strict=True):
            ipa[name, text] = said
        progress(done + 1, len(names))
    silent = [name for name in names if not any(name in spoken for spoken in spoken_in)]
    if silent:
        raise InputError(f"no caption is in the language {silent[0]}", "leave it out, or give captions in it")
    first = next(iter(voices.values()))
    return Said(
        [[(name, ipa[name, c.text]) for name in spoken] for c, spoken in zip(captions, spoken_in, strict=True)],
        G2P(first.name, first.version, names[0], tuple(names[1:])),
    )


def _voices(captions: Sequence[Caption], languages: Sequence[str], stress: bool) -> dict[str, EspeakG2P]:
    """A voice for every name of a language that is used, in the order of use."""
    if "" in languages:
        raise InputError("the name of a language is empty", "give one such as en-us or de")
    unnamed = any(not c.language for c in captions)
    wanted = dict.fromkeys(languages or ([DEFAULT] if unnamed else []))
    first_line = {}
    for caption in captions:
        if caption.language and caption.language not in first_line:
            first_line[caption.language] = caption
            wanted[caption.language] = None
    voices: dict[str, EspeakG2P] = {}
    for name in wanted:
        code = _USUAL.get(name, name)
        try:
            voices[name] = next((v for v in voices.values() if v.language == code), None) or EspeakG2P(
                code, stress=stress
            )
        except PhonemeError as error:
            where = f"{first_line[name].place}: " if name in first_line and name not in languages else ""
            raise PhonemeError(f"{where}{error.problem}", error.remedy) from None
    return voices


def transcribe(voice: EspeakG2P, texts: Sequence[str], folder: Path, *, stress: bool = False) -> list[str]:
    """The IPA of ``texts``, which is kept in ``folder``; ``stress``: whether ``voice`` marks it."""
    identity = f"{voice.name} {voice.version} {voice.language} stress={stress}"
    made: list[str] = []
    for start in range(0, len(texts), cache.AT_ONCE):
        some = texts[start : start + cache.AT_ONCE]
        made += cache.texts(folder, "ipa", identity, some, lambda some=some: voice(some))  # type: ignore[misc]
    return made
