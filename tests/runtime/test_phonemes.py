"""IPA to segments and ids, what is refused and how, and words to IPA by espeak-ng."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.errors import BundleError, MissingDependencyError, PhonemeError
from sayclip.phonemes.g2p import EspeakG2P
from sayclip.phonemes.inventory import MAX_CHARACTERS, PhonemeInventory
from sayclip.phonemes.segments import Segmenter
from sayclip_export.phonemes.chart import load_chart, write_inventory

EMOJI = Path("/usr/share/unicode/emoji/emoji-test.txt")
KEYWORDS = Path("/usr/share/unicode/cldr/common/annotations/en.xml")
KNOWN = [*"pbtdkɡmnŋfvθðszʃʒhwɹjliuɪʊeoəɚɛɔʌæaɑ", "tʃ", "dʒ"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inventory") / "phonemes.json"
    write_inventory(path, load_chart(), KNOWN)
    return path


@pytest.fixture(scope="module")
def inventory(path: Path) -> PhonemeInventory:
    return PhonemeInventory.from_file(path)


SPLIT = {
    "ɹɛd æpəl": "ɹ ɛ d _ æ p ə l",
    "  ɹɛd\t\n æpəl ": "ɹ ɛ d _ æ p ə l",
    "/ɹˈɛd ˈæpəl/": "ɹ ɛ d _ æ p ə l",
    "[ɹɛd.æ.pəl]": "ɹ ɛ d æ p ə l",
    "//[t]//": "t",
    "t͡ʃɜːtʃ": "tʃ ɜ tʃ",
    "t͜ʃ ʧ d͡ʒ ʤ": "tʃ _ tʃ _ dʒ _ dʒ",
    "nʌt.ʃɛl hɒtˈʃɒt": "n ʌ t ʃ ɛ l _ h ɒ t ʃ ɒ t",
    "t͡s ʦ pf": "t s _ t s _ p f",
    "gɑ: ɡɑː": "ɡ ɑ _ ɡ ɑ",
    "'gɑ, ".rstrip(", "): "ɡ ɑ",
    "t̪ʰ kʷ n̪ ɑ̃ ã ẽ": "t _ k _ n _ ɑ _ a _ e",
    "ç c̟ c": "ç _ c _ c",
    "ɫ lˠ ǝ ʦ̪": "l _ l _ ə _ t s",
    "æpl̩ bʌʔn̩ n̩̪": "æ p ə l _ b ʌ ʔ ə n _ ə n",
    "bɜ˞d ə˞ fɑ˞ ɹ̩": "b ɝ d _ ɚ _ f ɑ ɹ _ ɚ",
    "a˥˩ b↗ k‖d e|f u‿v": "a _ b _ k _ d _ e _ f _ u v",
    "a\u200bɪ\u200dt\ufeff": "a ɪ t",
    "r ʁ ᵻ ɐ ɾ": "r _ ʁ _ ᵻ _ ɐ _ ɾ",
    "ɹ5d": "ɹ 5 d",
}


@pytest.mark.parametrize("ipa", SPLIT)
def test_segments(ipa: str, inventory: PhonemeInventory) -> None:
    assert " ".join("_" if token == " " else token for token in inventory.segments(ipa)) == SPLIT[ipa]


def test_ids(inventory: PhonemeInventory) -> None:
    first = {symbol: 5 + place for place, symbol in enumerate(inventory.symbols)}
    assert inventory.encode("ɹɛd æpəl") == [1, *(first[s] for s in "ɹɛd"), 3, *(first[s] for s in "æpəl"), 2]


def test_long_ipa_is_cut_and_keeps_its_end(inventory: PhonemeInventory) -> None:
    ids = inventory.encode("æ p" * 3000)
    assert (len(ids), ids[0], ids[-1]) == (77, 1, 2)
    assert inventory.encode("æp" * 50, context=9) == [*inventory.encode("æpæpæpæ", context=50)[:-1], 2]
    with pytest.raises(ValueError, match="at least 3"):
        inventory.encode("æ", context=2)


@pytest.mark.parametrize(
    ("ipa", "message"),
    [
        ("ɹXd", "unknown IPA symbol 'X' (U+0058) in 'ɹXd': the nearest known one is 'ʃ'"),
        ("ʘ", "unknown IPA symbol 'ʘ' (U+0298) in 'ʘ': the nearest known one is 'p'"),
        ("ræt", "unknown IPA symbol 'r' (U+0072) in 'ræt': the nearest known one is 'ɹ'"),
        ("bɝd", "unknown IPA symbol 'ɝ' (U+025D) in 'bɝd': the nearest known one is 'ɚ'"),
        ("Ɓ", "unknown IPA symbol 'Ɓ' (U+0181) in 'Ɓ': the nearest known one is 'b'"),
        ("æ☃", "unknown IPA symbol '☃' (U+2603) in 'æ☃': nothing known is near '☃', leave it out"),
        (
            "@S@,",
            "unknown IPA symbols '@' (U+0040), 'S' (U+0053), ',' (U+002C) in '@S@,': "
            "the nearest known ones are 'ə' for '@', 'ʃ' for 'S'; nothing known is near ',', leave it out",
        ),
    ],
)
def test_unknown_symbols_are_named_with_the_nearest_known_one(
    ipa: str, message: str, inventory: PhonemeInventory
) -> None:
    with pytest.raises(PhonemeError) as caught:
        inventory.encode(ipa)
    assert str(caught.value) == message


def test_nearest(inventory: PhonemeInventory) -> None:
    assert inventory.nearest("p") == ("p", 0.0)
    assert inventory.nearest("ɑː") == ("ɑ", 0.0)
    assert inventory.nearest("ɾ")[0] == "d"
    symbol, distance = inventory.nearest("β")
    assert (symbol, distance) == ("v", load_chart().distance("β", "v"))
    with pytest.raises(PhonemeError, match="is no IPA symbol"):
        inventory.nearest("☃")


@pytest.mark.parametrize("ipa", ["", "  ", "ˈˌː.", "//", "[]", "\u0301"])
def test_ipa_without_a_sound_is_refused(ipa: str, inventory: PhonemeInventory) -> None:
    with pytest.raises(PhonemeError, match="holds no sound"):
        inventory.encode(ipa)


@pytest.mark.parametrize("ipa", [None, 5, b"p", "a" * (MAX_CHARACTERS + 1)])
def test_what_is_no_ipa_is_refused(ipa: Any, inventory: PhonemeInventory) -> None:
    with pytest.raises(PhonemeError, match=r"wanted a str|at most 10,000"):
        inventory.encode(ipa)


@pytest.mark.parametrize("unit", ["ə", "中", "\u0301\u0316", "˞", "X", "ˈ", "t͡ʃ "])
def test_time_of_the_longest_ipa_is_bounded(unit: str, inventory: PhonemeInventory) -> None:
    started = time.process_time()
    with suppress(PhonemeError):
        assert len(inventory.encode(unit * (MAX_CHARACTERS // len(unit)))) == 77
    assert time.process_time() - started < 0.5


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("tʃdʒæɹ ː̩͡ˈ.'/[]˞çX", max_size=60))
def test_any_text_gives_ids_or_one_line_that_says_why(text: str) -> None:
    inventory = PhonemeInventory(_content())
    ids = []
    refused = ""
    try:
        ids = inventory.encode(text)
    except PhonemeError as error:
        refused = str(error)
    if refused:
        assert len(refused.splitlines()) == 1
        return
    assert (ids[0], ids[-1]) == (1, 2)
    assert 3 <= len(ids) <= 77
    assert all(number == 3 or 5 <= number < inventory.size for number in ids[1:-1])


@settings(deadline=None)
@given(st.lists(st.sampled_from(load_chart().symbols), min_size=1, max_size=30))
def test_segments_joined_by_syllable_dots_are_read_back(symbols: list[str]) -> None:
    assert Segmenter(load_chart().symbols).split(".".join(symbols)) == symbols


_CACHE: dict[str, Any] = {}


def _content() -> dict[str, Any]:
    if not _CACHE:
        chart = load_chart()
        ids = {symbol: 5 + n for n, symbol in enumerate(s for s in chart.symbols if s in KNOWN)}
        rows = zip(chart.symbols, chart.matrix.tolist(), strict=True)
        _CACHE.update(
            chart_sha256=chart.sha256,
            attributes=chart.attributes,
            special={"<pad>": 0, "<sot>": 1, "<eot>": 2, " ": 3, "<unk>": 4},
            symbols=[{"symbol": symbol, "id": ids.get(symbol), "vector": vector} for symbol, vector in rows],
        )
    return json.loads(json.dumps(_CACHE))  # type: ignore[no-any-return]


def _damaged(what: str) -> Any:
    content = _content()
    symbols = content["symbols"]
    if what == "no symbols":
        del content["symbols"]
    elif what == "no known symbol":
        for entry in symbols:
            entry["id"] = None
    elif what == "a symbol twice":
        symbols.append(dict(symbols[1], id=None))
    elif what == "an id twice":
        symbols[0]["id"] = symbols[1]["id"]
    elif what == "an id that is text":
        symbols[0]["id"] = "5"
    elif what == "short vector":
        symbols[3]["vector"].pop()
    elif what == "short vectors":
        for entry in symbols:
            entry["vector"].pop()
    elif what == "NaN":
        symbols[3]["vector"][0] = float("nan")
    elif what == "huge number":
        symbols[3]["vector"][0] = 10**400
    elif what == "other specials":
        content["special"]["<eot>"] = 1
    elif what == "a mark as a segment":
        symbols[2]["symbol"] = "ː"
    elif what == "an empty symbol":
        symbols[2]["symbol"] = ""
    elif what == "a list":
        return [content]
    return content


@pytest.mark.parametrize(
    "what",
    [
        "no symbols",
        "no known symbol",
        "a symbol twice",
        "an id twice",
        "an id that is text",
        "short vector",
        "short vectors",
        "NaN",
        "huge number",
        "other specials",
        "a mark as a segment",
        "an empty symbol",
        "a list",
    ],
)
def test_a_malformed_inventory_is_refused(what: str, tmp_path: Path) -> None:
    PhonemeInventory(_content())
    path = tmp_path / "phonemes.json"
    path.write_text(json.dumps(_damaged(what)), encoding="utf-8")
    with pytest.raises(BundleError, match="is malformed") as caught:
        PhonemeInventory.from_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "phonemes.json"
    path.write_bytes(data)
    with pytest.raises(BundleError, match="no JSON"):
        PhonemeInventory.from_file(path)
    with pytest.raises(BundleError, match="cannot be read"):
        PhonemeInventory.from_file(tmp_path / "missing.json")


def unavailable(what: str) -> NoReturn:
    """Skips, except in continuous integration, where everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed; see .ci/run and `make test`")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="module")
def espeak() -> EspeakG2P:
    if importlib.util.find_spec("phonemizer") is None:
        unavailable("phonemizer")
    return EspeakG2P()


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Names of emoji and their English keywords."""
    if not (EMOJI.is_file() and KEYWORDS.is_file()):
        unavailable("unicode-data and unicode-cldr-core")
    found = re.findall(r"# \S+ E[\d.]+ (.+)", EMOJI.read_text(encoding="utf-8"))
    for group in re.findall(r"<annotation [^>]*>([^<]*)<", KEYWORDS.read_text(encoding="utf-8")):
        found += [keyword.strip() for keyword in group.split("|")]
    return sorted(set(found))


def test_words_to_ipa(espeak: EspeakG2P) -> None:
    assert (espeak.name, espeak.language) == ("espeak-ng", "en-us")
    assert re.fullmatch(r"1\.5\d(\.\d+)?", espeak.version)
    assert espeak(["a red apple", "robot"]) == ["ɐ ɹɛd æpəl", "ɹoʊbɑːt"]
    assert espeak(["red", "", "  \n", "!?", "blue"]) == ["ɹɛd", "", "", "", "bluː"]
    assert espeak(["2 red\napples!", "red\x00apple"]) == ["tuː ɹɛd æpəlz", "ɹɛd æpəl"]
    assert espeak([]) == []


def test_british_words(espeak: EspeakG2P) -> None:
    assert EspeakG2P("en-gb")(["a tomato"]) != espeak(["a tomato"])


@pytest.mark.parametrize("texts", ["red", ["red", 5], ["a\ud800"], ["a" * (MAX_CHARACTERS + 1)]])
def test_what_is_no_list_of_texts_is_refused(texts: Any, espeak: EspeakG2P) -> None:
    with pytest.raises(PhonemeError):
        espeak(texts)


def test_an_unknown_language_is_refused(espeak: EspeakG2P) -> None:
    with pytest.raises(PhonemeError, match="no language 'en-xx'"):
        EspeakG2P("en-xx")


def test_four_threads_give_what_one_gives(espeak: EspeakG2P, names: list[str]) -> None:
    """A backend shared by threads returns wrong phonemes; these start together and take long enough to overlap."""
    texts = names[:: len(names) // 400][:400]
    alone = [espeak([text])[0] for text in texts]
    start = threading.Barrier(4)
    results: dict[int, list[str]] = {}

    def work(number: int) -> None:
        start.wait()
        results[number] = [espeak([text])[0] for text in texts[number:] + texts[:number]]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 1, 2, 3]
    for number, result in results.items():
        assert result == alone[number:] + alone[:number]


@pytest.mark.parametrize(
    ("language", "every"), [("en-us", 1), ("en-gb", 1), ("en-gb-scotland", 8), ("en-gb-x-rp", 8), ("en-029", 8)]
)
def test_the_chart_has_every_symbol_that_english_gets(
    language: str, every: int, espeak: EspeakG2P, names: list[str]
) -> None:
    chart = set(load_chart().symbols)
    segmenter = Segmenter(chart)
    for name, ipa in zip(names[::every], EspeakG2P(language)(names[::every]), strict=True):
        tokens = segmenter.split(ipa)
        assert tokens or not re.search("[a-z]", name), name
        assert set(tokens) <= chart | {" "}, (name, ipa)


def test_without_phonemizer_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "phonemizer"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "phonemizer", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sayclip\[phonemes\]'"):
        EspeakG2P()


WITHOUT_LOADER = """
import sys
sys.modules["espeakng_loader"] = None
from sayclip.errors import MissingDependencyError
from sayclip.phonemes.g2p import EspeakG2P
if sys.argv[1:] == ["none"]:
    import ctypes.util
    ctypes.util.find_library = lambda name: None
try:
    print(EspeakG2P()(["red"])[0])
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize("library", ["of the system", "none"])
def test_without_the_loader_the_library_of_the_system_is_used_if_any(library: str, espeak: EspeakG2P) -> None:
    """In a process of its own: the dynamic linker would hand out the loader's library again."""
    found = library != "none" and ctypes.util.find_library("espeak-ng")
    command = [sys.executable, "-c", WITHOUT_LOADER, *([] if found else ["none"])]
    answer = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=60).stdout.strip()
    wanted = "turning words into IPA needs the espeak-ng library: pip install 'sayclip[phonemes]'"
    assert answer == ("ɹɛd" if found else wanted)


MARKED = [*KNOWN, "ts", "pf", "ɑ̃", "ɛ̃"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> PhonemeInventory:
    """An inventory with affricates, nasal vowels, stress and length."""
    path = tmp_path_factory.mktemp("wide") / "phonemes.json"
    write_inventory(path, load_chart(), MARKED, ["ˈ", "ː"])
    return PhonemeInventory.from_file(path)


@pytest.mark.parametrize(
    ("ipa", "wanted"),
    [
        ("tsaɪt", "ts a ɪ t"),
        ("t͡sat ʦat nʌt.sɛt", "ts a t _ ts a t _ n ʌ t s ɛ t"),
        ("pfat", "pf a t"),
        ("dzat", "d z a t"),
        ("vɛ̃ blɑ̃ bɔ̃", "v ɛ̃ _ b l ɑ̃ _ b ɔ"),
        ("ʃtaːt ʃtat ʃta:t", "ʃ t a ː t _ ʃ t a t _ ʃ t a ː t"),
        ("ˈæpəl 'æpəl ˌæpˑəl", "ˈ æ p ə l _ ˈ æ p ə l _ æ p ə l"),
        ("ɑ̃ː", "ɑ̃ ː"),
    ],
)
def test_what_an_encoder_was_trained_with_is_kept(ipa: str, wanted: str, wide: PhonemeInventory) -> None:
    assert " ".join("_" if token == " " else token for token in wide.segments(ipa)) == wanted
    assert len(wide.encode(ipa)) == len(wanted.split()) + 2


def test_marks_alone_are_no_sound(wide: PhonemeInventory) -> None:
    for ipa in ("ˈ", "ː ː", "ˈˈ"):
        with pytest.raises(PhonemeError, match="holds no sound"):
            wide.encode(ipa)
    assert wide.nearest("p") == ("p", 0.0)
    assert wide.nearest("ã")[0] in ("ɑ̃", "ɛ̃")
    assert "ː" not in {wide.nearest(symbol)[0] for symbol in load_chart().symbols}


def test_the_nearest_known_symbol_is_taken_where_it_is_asked_for(inventory: PhonemeInventory) -> None:
    assert inventory.encode("ræt", nearest=True) == inventory.encode("ɹæt")
    assert inventory.encode("ɹXd", nearest=True) == inventory.encode("ɹʃd")
    assert inventory.encode("ʘβ", nearest=True) == inventory.encode("pv")
    assert inventory.encode("ɹɛd", nearest=True) == inventory.encode("ɹɛd")
    with pytest.raises(PhonemeError, match=r"unknown IPA symbol '☃' .* nothing known is near '☃', leave it out"):
        inventory.encode("r☃", nearest=True)


def test_stress_is_marked_where_it_is_asked_for(espeak: EspeakG2P) -> None:
    assert espeak(["apple pie"]) == ["æpəl paɪ"]
    assert EspeakG2P(stress=True)(["apple pie"])[0].count("ˈ") >= 1


def test_numbers_of_tones_are_no_sounds() -> None:
    (ipa,) = EspeakG2P("cmn")(["你好"])
    assert ipa
    assert not any(character.isdigit() for character in ipa)


def test_an_unknown_language_is_answered_with_its_variants(espeak: EspeakG2P) -> None:
    with pytest.raises(PhonemeError, match=r"no language 'fr': use one such as 'fr-be', 'fr-ch', 'fr-fr'"):
        EspeakG2P("fr")
    with pytest.raises(PhonemeError, match=r"no language 'xx': use one such as 'en-us', 'en-gb'"):
        EspeakG2P("xx")


@pytest.mark.parametrize("language", ["de", "fr-fr", "es", "pl", "it", "nl", "pt", "sv"])
def test_the_chart_has_every_symbol_that_other_languages_get(language: str, espeak: EspeakG2P) -> None:
    words = ["Apfel", "Zeit", "vin blanc", "pizza", "Bach", "jeu", "czas", "niño", "mañana", "øl", "schön", "pão"]
    chart = load_chart()
    segmenter = Segmenter(chart.symbols)
    for ipa in EspeakG2P(language)(words):
        assert set(segmenter.split(ipa)) <= {*chart.symbols, " "}, ipa
