"""The IPA chart: its rows against the phonetic facts, distances, and the inventories made from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sayclip.errors import PhonemeError
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip.phonemes.segments import Segmenter
from sayclip_export.phonemes.chart import (
    ATTRIBUTES,
    MANNERS,
    PLACES,
    folded_matrix,
    inventory_sha256,
    load_chart,
    write_inventory,
)

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo" / "bundle"

# English's 24 consonants: place, manner, voiced; and its vowels: height, backness, round, rhotic.
CONSONANTS = {
    "p": ("bilabial", "plosive", 0),
    "b": ("bilabial", "plosive", 1),
    "t": ("alveolar", "plosive", 0),
    "d": ("alveolar", "plosive", 1),
    "k": ("velar", "plosive", 0),
    "ɡ": ("velar", "plosive", 1),
    "tʃ": ("postalveolar", "affricate", 0),
    "dʒ": ("postalveolar", "affricate", 1),
    "f": ("labiodental", "fricative", 0),
    "v": ("labiodental", "fricative", 1),
    "θ": ("dental", "fricative", 0),
    "ð": ("dental", "fricative", 1),
    "s": ("alveolar", "fricative", 0),
    "z": ("alveolar", "fricative", 1),
    "ʃ": ("postalveolar", "fricative", 0),
    "ʒ": ("postalveolar", "fricative", 1),
    "h": ("glottal", "fricative", 0),
    "m": ("bilabial", "nasal", 1),
    "n": ("alveolar", "nasal", 1),
    "ŋ": ("velar", "nasal", 1),
    "l": ("alveolar", "lateral approximant", 1),
    "ɹ": ("alveolar", "approximant", 1),
    "j": ("palatal", "approximant", 1),
    "w": ("labial-velar", "approximant", 1),
}
VOWELS = {
    "i": (0, 0, 0, 0),
    "ɪ": (1 / 6, 0.15, 0, 0),
    "ɛ": (4 / 6, 0, 0, 0),
    "æ": (5 / 6, 0, 0, 0),
    "ɑ": (1, 1, 0, 0),
    "ɔ": (4 / 6, 1, 1, 0),
    "ʌ": (4 / 6, 1, 0, 0),
    "ʊ": (1 / 6, 0.85, 1, 0),
    "u": (0, 1, 1, 0),
    "ɝ": (4 / 6, 0.5, 0, 1),
    "e": (2 / 6, 0, 0, 0),
    "a": (1, 0, 0, 0),
    "o": (2 / 6, 1, 1, 0),
    "ə": (3 / 6, 0.5, 0, 0),
}
ENGLISH = [*CONSONANTS, *VOWELS]


def test_size_and_form() -> None:
    chart = load_chart()
    assert chart.matrix.shape == (len(chart.symbols), len(ATTRIBUTES)) == (143, 31)
    assert chart.matrix.dtype == np.float32
    assert not chart.matrix.flags.writeable
    assert chart.matrix.min() == 0.0
    assert chart.matrix.max() == 1.0
    assert len(chart.sha256) == 64
    assert load_chart() is chart


def test_every_segment_is_read_as_itself_and_is_like_no_other() -> None:
    chart = load_chart()
    assert Segmenter(chart.symbols).split(".".join(chart.symbols)) == chart.symbols
    assert all(chart.nearest(symbol)[1] > 0 for symbol in chart.symbols)


@pytest.mark.parametrize("symbol", CONSONANTS)
def test_consonants_of_english(symbol: str) -> None:
    place, manner, voiced = CONSONANTS[symbol]
    wanted = dict.fromkeys(ATTRIBUTES, 0.0) | {"consonant": 1.0, "voiced": voiced}
    for name in ("bilabial", "velar") if place == "labial-velar" else (place,):
        wanted["place." + name] = 0.5 if place == "labial-velar" else 1.0
    for name in ("plosive", "fricative") if manner == "affricate" else (manner,):
        wanted["manner." + name] = 0.5 if manner == "affricate" else 1.0
    if symbol == "ɹ":
        wanted["rhotic"] = 1.0
    chart = load_chart()
    assert dict(zip(ATTRIBUTES, chart.matrix[chart.row(symbol)].tolist(), strict=True)) == wanted


@pytest.mark.parametrize("symbol", VOWELS)
def test_vowels_of_english(symbol: str) -> None:
    chart = load_chart()
    row = dict(zip(ATTRIBUTES, chart.matrix[chart.row(symbol)].tolist(), strict=True))
    assert (row["consonant"], row["vowel"], row["voiced"]) == (0, 1, 1)
    assert [row[name] for name in ("height", "back", "round", "rhotic")] == pytest.approx(VOWELS[symbol], abs=1e-6)
    assert all(row["place." + place] == 0 for place in PLACES)
    assert all(row["manner." + manner] == 0 for manner in MANNERS)


def test_distance_is_a_metric() -> None:
    chart = load_chart()
    points = chart.symbols[::5]
    for a in points:
        assert chart.distance(a, a) == 0
        for b in points:
            assert chart.distance(a, b) == chart.distance(b, a)
            for c in points:
                assert chart.distance(a, c) <= chart.distance(a, b) + chart.distance(b, c) + 1e-5


@pytest.mark.parametrize("pair", ["pb", "td", "kɡ", "sz", "fv", "θð", "ʃʒ"])
def test_voicing_is_one(pair: str) -> None:
    assert load_chart().distance(*pair) == 1


@pytest.mark.parametrize(
    ("near", "nearer"),
    [
        ("pk", "pt"),
        ("iɑ", "iɪ"),
        ("ld", "lɹ"),
        ("rd", "rɹ"),
        ("mk", "mn"),
        ("ɑɡ", "ɑʌ"),
        ("ɬm", "ɬs"),
        ("ɓk", "ɓb"),
        ("ɝɛ", "ɝɚ"),
        ("xt", "xh"),
    ],
)
def test_what_is_nearer(near: str, nearer: str) -> None:
    chart = load_chart()
    assert chart.distance(*nearer) < chart.distance(*near)


def test_nearest_and_neighbours() -> None:
    chart = load_chart()
    assert chart.nearest("ʀ", ["ɹ", "r", "ɡ"]) == ("r", 1.0)
    assert chart.nearest("p", ["p", "b"]) == ("b", 1.0)
    pairs = chart.neighbours(ENGLISH)
    assert set(pairs) == set(ENGLISH)
    assert {symbol: pairs[symbol] for symbol in "mfsiɛ"} == {"m": "n", "f": "θ", "s": "θ", "i": "ɪ", "ɛ": "æ"}
    for symbol, other in pairs.items():
        assert other != symbol
        others = [third for third in ENGLISH if third != symbol]
        assert chart.distance(symbol, other) == min(chart.distance(symbol, third) for third in others)
    with pytest.raises(PhonemeError, match="there is no segment"):
        chart.nearest("p", ["p"])
    with pytest.raises(PhonemeError, match="not on the IPA chart"):
        chart.distance("p", "P")


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    text = (Path(load_chart.__wrapped__.__code__.co_filename).parent / "chart.tsv").read_text(encoding="utf-8")
    same, other = tmp_path / "same.tsv", tmp_path / "other.tsv"
    same.write_text("# a comment\n\n" + text, encoding="utf-8")
    other.write_text(text.replace("\nʌ\tvowel\t-\t-\t1\t4/6\t1", "\nʌ\tvowel\t-\t-\t1\t4/6\t0.5"), encoding="utf-8")
    assert load_chart(same).sha256 == load_chart().sha256 != load_chart(other).sha256


HEADER = "symbol\ttype\tplace\tmanner\tvoiced\theight\tback\tround\trhotic\tname\n"
GOOD = "p\tconsonant\tbilabial\tplosive\t0\t-\t-\t-\t0\tvoiceless bilabial plosive\n"


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        "t\tconsonant\tnowhere\tplosive\t0\t-\t-\t-\t0\tt\n",
        "t\tconsonant\talveolar:0.5\tplosive\t0\t-\t-\t-\t0\tt\n",
        "t\tconsonant\t-\tplosive\t0\t-\t-\t-\t0\tt\n",
        "t\tglide\talveolar\tplosive\t0\t-\t-\t-\t0\tt\n",
        "t\tconsonant\talveolar\tplosive\t2\t-\t-\t-\t0\tt\n",
        "t\tconsonant\talveolar\tplosive\tx\t-\t-\t-\t0\tt\n",
        "i\tvowel\t-\t-\t1\t1/0\t0\t0\t0\ti\n",
        "i\tvowel\tvelar\t-\t1\t0\t0\t0\t0\ti\n",
        "i\tvowel\n",
        GOOD.replace("p\t", "t\t", 1).replace("\n", "\tmore\n"),
    ],
)
def test_a_malformed_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "chart.tsv"
    path.write_text("# comment\n" + HEADER + GOOD + line, encoding="utf-8")
    with pytest.raises(PhonemeError, match="line 4 of the IPA chart is malformed"):
        load_chart(path)


def test_an_inventory_is_what_the_runtime_reads(tmp_path: Path) -> None:
    chart, path = load_chart(), tmp_path / "phonemes.json"
    content = write_inventory(path, chart, [*reversed(ENGLISH), " ", "p"])
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert content["chart_sha256"] == chart.sha256
    assert content["special"] == {"<pad>": 0, "<sot>": 1, "<eot>": 2, " ": 3, "<unk>": 4}
    known = {entry["symbol"]: entry["id"] for entry in content["symbols"] if entry["id"] is not None}
    assert list(known) == [symbol for symbol in chart.symbols if symbol in ENGLISH]
    assert list(known.values()) == list(range(5, 5 + len(ENGLISH)))

    inventory = PhonemeInventory.from_file(path)
    assert inventory.symbols == tuple(known)
    assert inventory.size == 5 + len(ENGLISH)
    assert inventory.chart_sha256 == chart.sha256
    assert inventory.encode("t͡ʃa p") == [1, known["tʃ"], known["a"], 3, known["p"], 2]
    for symbol in chart.symbols:
        wanted = (symbol, 0.0) if symbol in known else chart.nearest(symbol, known)
        assert inventory.nearest(symbol) == wanted


def test_the_matrix_by_id(tmp_path: Path) -> None:
    chart = load_chart()
    content = write_inventory(tmp_path / "phonemes.json", chart, ENGLISH)
    matrix = folded_matrix(content)
    assert matrix.shape == (5 + len(ENGLISH), 31)
    assert matrix.dtype == np.float32
    assert not matrix[:5].any()
    for entry in content["symbols"]:
        if entry["id"] is not None:
            assert np.allclose(matrix[entry["id"]], chart.matrix[chart.row(entry["symbol"])], atol=1e-6)


def test_a_symbol_that_is_not_on_the_chart_makes_no_inventory(tmp_path: Path) -> None:
    path = tmp_path / "phonemes.json"
    with pytest.raises(PhonemeError, match="'X' is not on the IPA chart"):
        write_inventory(path, load_chart(), ["p", "X"])
    assert not path.exists()


# The consonants of the chart's table (2020), place by place, voiceless and voiced, and the letters beside it.
PULMONIC = "pb td ʈɖ cɟ kɡ qɢ ʔ m ɱ n ɳ ɲ ŋ ɴ ʙ r ʀ ⱱ ɾ ɽ ɸβ fv θð sz ʃʒ ʂʐ çʝ xɣ χʁ ħʕ hɦ ɬɮ ʋ ɹ ɻ j ɰ l ɭ ʎ ʟ"
OTHERS = "ʍ w ɥ ʜ ʢ ʡ ɕʑ ɺ ɧ ʘǀǃǂǁ ɓɗʄɠʛ"
CHART_VOWELS = "iy ɨʉ ɯu ɪʏ ʊ eø ɘɵ ɤo ə ɛœ ɜɞ ʌɔ æ ɐ aɶ ɑɒ"
AFFRICATES = "pf bv tθ dð ts dz tʃ dʒ tʂ dʐ tɕ dʑ cç ɟʝ kx ɡɣ qχ ɢʁ tɬ dɮ"


def test_every_symbol_of_the_ipa_chart_has_attributes() -> None:
    chart = load_chart()
    kinds = {name: chart.matrix[:, chart.attributes.index(name)] for name in ("consonant", "vowel", "nasal")}
    for letters, kind in ((PULMONIC, "consonant"), (OTHERS, "consonant"), (CHART_VOWELS, "vowel")):
        for symbol in letters.replace(" ", ""):
            assert kinds[kind][chart.row(symbol)] == 1, symbol
    for vowel in "ãẽĩõũ":
        assert (kinds["vowel"][chart.row(vowel)], kinds["nasal"][chart.row(vowel)]) == (1, 1)


@pytest.mark.parametrize("symbol", AFFRICATES.split(" "))
def test_an_affricate_lies_between_its_parts(symbol: str) -> None:
    chart = load_chart()
    plosive, fricative = symbol
    whole = chart.matrix[chart.row(symbol)]
    manner = [i for i, name in enumerate(chart.attributes) if name.startswith("manner.")]
    parts = chart.matrix[[chart.row(plosive), chart.row(fricative)]]
    assert np.allclose(whole[manner], parts[:, manner].mean(0))
    assert whole[chart.attributes.index("voiced")] == chart.matrix[chart.row(plosive), chart.attributes.index("voiced")]
    apart = chart.distance(plosive, fricative)
    assert chart.distance(symbol, plosive) < apart
    assert chart.distance(symbol, fricative) < apart


def test_marks_have_attributes_and_are_no_segments() -> None:
    chart = load_chart()
    assert list(chart.marks) == ["ˈ", "ˌ", "ː", "ˑ"]
    found = {mark: {a: v for a, v in zip(ATTRIBUTES, row, strict=True) if v} for mark, row in chart.marks.items()}
    assert found == {"ˈ": {"stress": 1}, "ˌ": {"stress": 0.5}, "ː": {"length": 1}, "ˑ": {"length": 0.5}}
    assert not set(chart.marks) & set(chart.symbols)


def test_an_inventory_lists_the_marks_that_are_asked_for(tmp_path: Path) -> None:
    chart, path = load_chart(), tmp_path / "phonemes.json"
    content = write_inventory(path, chart, ["a", "p"], ["ː"])
    inventory = PhonemeInventory(content)
    assert inventory.symbols == ("p", "a", "ː")
    assert inventory.encode("paː") == [1, 5, 6, 7, 2]
    assert folded_matrix(content)[7].tolist() == chart.marks["ː"]
    assert inventory_sha256(content) == inventory_sha256(json.loads(path.read_text(encoding="utf-8"))) == chart.sha256
    with pytest.raises(PhonemeError, match="'˥' is no mark"):
        write_inventory(path, chart, ["a"], ["˥"])


def test_bundles_of_an_older_chart_keep_their_meaning() -> None:
    """The demo's is of a chart without affricates, nasal vowels and marks; its hash still fits its content."""
    content = json.loads((DEMO / "phonemes.json").read_text(encoding="utf-8"))
    assert inventory_sha256(content) == content["chart_sha256"] != load_chart().sha256
    inventory = PhonemeInventory(content)
    assert inventory.segments("tsaɪt pfeːt ɑ̃ tʃ") == [*"tsaɪt", " ", *"pfet", " ", "ɑ", " ", "tʃ"]
    chart = load_chart()
    columns = [chart.attributes.index(name) for name in content["attributes"]]
    for entry in content["symbols"]:
        assert chart.matrix[chart.row(entry["symbol"]), columns].tolist() == np.float32(entry["vector"]).tolist()
    content["symbols"][0]["vector"][0] = 0.5
    assert inventory_sha256(content) != content["chart_sha256"]
