"""Captions become IPA in one or several languages, once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sayclip.errors import InputError, MissingDependencyError, PhonemeError
from sayclip.phonemes.g2p import EspeakG2P
from sayclip_training.distillation import speaking
from sayclip_training.distillation.captions import Caption


def caption(text: str, language: str = "", line: int = 1) -> Caption:
    return Caption(text, language, text, "train", "", "captions.tsv", line)


def test_each_in_its_language_and_the_others_in_all_that_are_asked_for(tmp_path: Path) -> None:
    said = speaking.say(
        [caption("red apple"), caption("Apfel", "de"), caption("vin", "fr")], ["en-us", "en-gb"], tmp_path
    )
    assert said.spoken == [
        [("en-us", "ɹɛd æpəl"), ("en-gb", EspeakG2P("en-gb")(["red apple"])[0])],
        [("de", "apfəl")],
        [("fr-fr", "vɛ̃")],
    ]
    assert said.g2p.name == "espeak-ng"
    assert said.g2p.version == EspeakG2P().version
    assert said.g2p.languages == ("en-us", "en-gb", "de", "fr-fr")


def test_by_default_english_and_where_all_captions_have_a_language_theirs(tmp_path: Path) -> None:
    assert speaking.say([caption("cat")], [], tmp_path).g2p.languages == ("en-us",)
    said = speaking.say([caption("Katze", "de"), caption("cat", "en")], [], tmp_path)
    assert said.g2p.languages == ("de", "en-us")


def test_stress_is_marked_where_it_is_asked_for(tmp_path: Path) -> None:
    assert speaking.say([caption("apple")], [], tmp_path).spoken == [[("en-us", "æpəl")]]
    assert speaking.say([caption("apple")], [], tmp_path, stress=True).spoken == [[("en-us", "ˈæpəl")]]


def test_ipa_is_kept_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [caption("red apple"), caption("!"), caption("blue car")]
    first = speaking.say(captions, ["en-us"], tmp_path)
    assert first.spoken[1] == [("en-us", "")]

    def fail(self: EspeakG2P, texts: list[str]) -> list[str]:
        raise AssertionError(texts)

    monkeypatch.setattr(EspeakG2P, "__call__", fail)
    assert speaking.say(captions, ["en-us"], tmp_path) == first
    with pytest.raises(AssertionError):
        speaking.say([*captions, caption("tree")], ["en-us"], tmp_path)


def test_languages_of_no_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PhonemeError, match=r"captions.tsv, line 7: espeak-ng has no language 'xx'"):
        speaking.say([caption("cat"), caption("chat", "xx", 7)], [], tmp_path)
    with pytest.raises(PhonemeError, match=r"^espeak-ng has no language 'en-xx': use one such as 'en-029', "):
        speaking.say([caption("cat")], ["en-xx"], tmp_path)
    with pytest.raises(InputError, match="no caption is in the language fr-fr"):
        speaking.say([caption("cat", "en")], ["en-us", "fr"], tmp_path)


def test_without_espeak_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "phonemizer"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "phonemizer", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sayclip\[phonemes\]'"):
        speaking.say([caption("cat")], [], tmp_path)
