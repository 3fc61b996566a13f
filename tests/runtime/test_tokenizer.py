"""The tokenizer against `tokenizers`' own CLIP pipeline, its limits, and files that are no vocabulary."""

from __future__ import annotations

import gzip
import importlib.util
import os
import random
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.errors import BundleError, SayclipError, TextError
from sayclip.text.normalise import decompose, normalise, split_words
from sayclip.text.tokenizer import MAX_CHARACTERS, Tokenizer
from sayclip.text.vocabulary import byte_characters, read_merges

SCRIPTS = Path(__file__).with_name("unicode13_scripts.txt")
STRINGS = 100_000
HEADER = "#version: test\n"
SMALL = [
    ("a", "n"),
    ("an", "d</w>"),
    ("r", "e"),
    ("re", "d</w>"),
    ("a", "p"),
    ("ap", "p"),
    ("l", "e</w>"),
    ("app", "le</w>"),
]
WORDS = (
    "red apple",
    "I'm",
    "you're",
    "DON'T",
    "it's",
    "we'll",
    "they've",
    "he'd",
    "café",
    "naïve",
    "10,000",
    "3.5",
    "</w>",
)


def unavailable(what: str) -> NoReturn:
    """Skips, except in continuous integration, where everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed; `make test` installs it")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="module")
def clip_file() -> Path:
    """CLIP's vocabulary inside open_clip, which is found and not imported."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        unavailable("open_clip_torch")
    return Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")


@pytest.fixture(scope="module")
def clip(clip_file: Path) -> Tokenizer:
    return Tokenizer.from_file(clip_file)


@pytest.fixture
def small() -> Tokenizer:
    return Tokenizer(SMALL)


def reference(merges: list[tuple[str, str]]) -> Any:
    """Hugging Face's CLIP tokenizer over any merges, except that special tokens in a text are text."""
    if importlib.util.find_spec("tokenizers") is None:
        unavailable("tokenizers")
    from tokenizers import Regex, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Reference

    characters = list(byte_characters().values())
    tokens = [*characters, *(c + "</w>" for c in characters), *(a + b for a, b in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False)
    tokenizer = Reference(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


def read_scripts() -> dict[str, str]:
    scripts = {}
    for line in SCRIPTS.read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            name, ranges = line.split(": ")
            ends = [part.split("-") for part in ranges.split()]
            scripts[name] = "".join(chr(c) for end in ends for c in range(int(end[0], 16), int(end[-1], 16) + 1))
    return scripts


def many_strings(number: int) -> Iterator[str]:
    """Every character assigned in Unicode 13 once, then strings of one script, of several, and of nearly English."""
    rng = random.Random(13)
    scripts = read_scripts()
    everything = list("".join(scripts.values()))
    assert len(scripts) == 156
    assert len(everything) == 143_924
    rng.shuffle(everything)
    for start in range(0, len(everything), 20):
        number -= 1
        yield "".join(everything[start : start + 20])
    names = list(scripts)
    ascii_text = "".join(map(chr, range(128)))
    for turn in range(number):
        kind = turn % 4
        script = scripts[names[turn // 4 % len(names)]]
        length = rng.randint(1, 24)
        if kind == 0:
            yield "".join(rng.choices(script, k=length))
        elif kind == 1:
            yield "".join(
                rng.choices(rng.choice([script, scripts["Common"], scripts["Inherited"], " '"]), k=1)[0]
                for _ in range(length)
            )
        elif kind == 2:
            yield " ".join(
                "".join(rng.choices(rng.choice([script, ascii_text]), k=rng.randint(0, 8))) for _ in range(4)
            )
        else:
            yield rng.choice(["", " ", "\t", "!", "'"]).join(rng.choices(WORDS, k=rng.randint(1, 5))) + rng.choice(
                ascii_text
            )


def uncut(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids without start and end; none for a blank text."""
    try:
        return tokenizer.encode(text)[1:-1]
    except TextError:
        return []


@pytest.mark.slow
def test_equals_tokenizers_on_100_000_strings_of_every_script(clip_file: Path) -> None:
    merges = read_merges(clip_file)
    ours, theirs = Tokenizer(merges, context=1000), reference(merges)
    strings = list(many_strings(STRINGS))
    assert len(strings) == STRINGS
    for start in range(0, STRINGS, 5000):
        batch = strings[start : start + 5000]
        for text, wanted in zip(batch, theirs.encode_batch(batch), strict=True):
            assert uncut(ours, text) == wanted.ids, ascii(text)


@pytest.mark.parametrize(
    "make", [lambda: "a" * 9000, lambda: "ab" * 4500, lambda: "\u0301\u0316" * 5000, lambda: "😀🍎" * 5000]
)
def test_equals_tokenizers_on_one_endless_word(make: Callable[[], str], clip_file: Path) -> None:
    merges = read_merges(clip_file)
    assert uncut(Tokenizer(merges, context=100_000), make()) == reference(merges).encode(make()).ids


_PARTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=60)


@settings(deadline=None)
@given(_PARTS, st.lists(st.text("ab ", min_size=1, max_size=40), min_size=1, max_size=5))
def test_equals_tokenizers_for_any_merges(parts: list[tuple[int, int]], texts: list[str]) -> None:
    """Also where one token is made in two ways, and where a merge comes before those that make its parts common."""
    tokens = ["a", "b", "a</w>", "b</w>"]
    merges: list[tuple[str, str]] = []
    for first, second in parts:
        starts = [token for token in tokens if not token.endswith("</w>")]
        pair = (starts[first % len(starts)], tokens[second % len(tokens)])
        if pair not in merges:
            merges.append(pair)
            tokens.append(pair[0] + pair[1])
    ours, theirs = Tokenizer(merges, context=1000), reference(merges)
    for text in texts:
        assert uncut(ours, text) == theirs.encode(text).ids


def test_published_ids_of_clip(clip: Tokenizer) -> None:
    assert (clip.vocabulary_size, clip.sot, clip.eot) == (49408, 49406, 49407)
    assert clip.encode("a photo of a cat") == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert clip.encode("!") == [49406, 256, 49407]


def test_newer_marks_are_neither_reordered_nor_composed(clip_file: Path) -> None:
    """The `tokenizers` releases that the runtime is held against normalise by Unicode 9."""
    texts = ["a\u1df6\u1df5", "\U00011935\U00011930", "e\u1df9\u0301\u0316", "x\u0301\u1abf\u0316"]
    merges = read_merges(clip_file)
    ours, theirs = Tokenizer(merges), reference(merges)
    assert [uncut(ours, text) for text in texts] == [encoded.ids for encoded in theirs.encode_batch(texts)]
    assert normalise(texts[0]) != unicodedata.normalize("NFC", texts[0])


def test_special_tokens_in_a_text_are_text(clip: Tokenizer) -> None:
    ids = clip.encode("a <|endoftext|> <|startoftext|> b")
    assert ids.count(clip.eot) == ids.count(clip.sot) == 1
    assert clip.decode(ids) == "a <| endoftext |> <| startoftext |> b"


def test_ids_of_a_small_vocabulary(small: Tokenizer) -> None:
    assert small.vocabulary_size == 256 + 256 + len(SMALL) + 2
    assert small.encode("Red\tAPPLE  and") == [small.sot, 515, 519, 513, small.eot]
    assert small.decode([small.sot, 515, 519, small.eot, 513]) == "red apple and"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's 2024, you’re", ["it", "'s", "2", "0", "2", "4", ",", "you", "’", "re"]),
        ("don''t!!?", ["don", "''", "t", "!!?"]),
        ("ΣΑΣ İx", ["σασ", "i", "\u0307", "x"]),
        ("e\u0301\u2028\x85 \u200bz", ["é", "\u200b", "z"]),
        ("½Ⅷ五", ["½", "ⅷ", "五"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(normalise(text)) == words


@pytest.mark.parametrize("text", ["", " ", "\t\r\n\u3000\x85"])
def test_blank_text_is_refused(text: str, small: Tokenizer) -> None:
    with pytest.raises(TextError, match="empty or blank"):
        small.encode(text)


def test_a_text_of_10_000_characters_is_cut_and_a_longer_one_refused(small: Tokenizer) -> None:
    text = "apple " * 2000
    ids = small.encode(text[:MAX_CHARACTERS])
    assert len(ids) == 77
    assert (ids[0], ids[1], ids[-2], ids[-1]) == (small.sot, 519, 519, small.eot)
    with pytest.raises(TextError, match=r"10,001 characters, at most 10,000"):
        small.encode(text[: MAX_CHARACTERS + 1])


@pytest.mark.parametrize("text", [5, None, b"apple", "a\ud800b", "\udcff"])
def test_what_is_no_text_is_refused(text: Any, small: Tokenizer) -> None:
    with pytest.raises(TextError) as caught:
        small.encode(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ids", [[-1], [522]])
def test_decoding_an_id_beyond_the_vocabulary_is_refused(ids: list[int], small: Tokenizer) -> None:
    with pytest.raises(TextError, match="not in the vocabulary of 522"):
        small.decode(ids)


def test_a_context_without_room_for_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        Tokenizer(SMALL, context=2)


@settings(deadline=None)
@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12), min_size=1, max_size=20))
def test_decoding_gives_the_words_back(words: list[str]) -> None:
    tokenizer = Tokenizer(SMALL, context=1000)
    assert tokenizer.decode(tokenizer.encode(" ".join(words))) == " ".join(words)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_ids_or_an_error_with_a_remedy(text: str) -> None:
    tokenizer = Tokenizer(SMALL)
    try:
        ids = tokenizer.encode(text)
    except TextError:
        assert not text.strip() or any("\ud800" <= character <= "\udfff" for character in text)
        return
    assert 3 <= len(ids) <= 77
    assert (ids[0], ids[-1]) == (tokenizer.sot, tokenizer.eot)
    assert all(0 <= number < tokenizer.sot for number in ids[1:-1])


@settings(deadline=None)
@given(st.text("aeplnrd '!é", min_size=1, max_size=120).filter(str.strip), st.integers(3, 60), st.integers(0, 60))
def test_a_cut_is_the_beginning_of_a_longer_one(text: str, context: int, more: int) -> None:
    cut, longer = Tokenizer(SMALL, context=context).encode(text), Tokenizer(SMALL, context=context + more).encode(text)
    assert longer[: len(cut) - 1] == cut[:-1]
    assert len(cut) == min(len(Tokenizer(SMALL, context=1000).encode(text)), context)


@settings(deadline=None)
@given(st.text(st.characters(categories=["Mn", "Mc", "Lo", "Ll"]), max_size=40).map(lambda text: text * 12))
def test_linear_decomposition_is_nfd(text: str) -> None:
    assert decompose(text) == unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("make", [lambda: "a" * 10_000, lambda: "\u0301\u0316" * 5000, lambda: "\U0001d160" * 10_000])
def test_time_of_the_worst_texts_is_bounded(make: Callable[[], str], clip: Tokenizer) -> None:
    """0.01 to 0.06 s of processor time; merging or sorting marks in quadratic time takes far more."""
    text = make()
    started = time.process_time()
    assert len(clip.encode(text)) == 77
    assert time.process_time() - started < 0.5


def test_short_queries_and_loading_are_quick(clip: Tokenizer, clip_file: Path) -> None:
    """Processor time, the best of several, since a busy machine says nothing about the code: 3 µs and 0.1 s."""

    def best(call: Callable[[], object], times: int) -> float:
        taken = []
        for _ in range(3):
            started = time.process_time()
            for _ in range(times):
                call()
            taken.append((time.process_time() - started) / times)
        return min(taken)

    assert best(lambda: clip.encode("a red apple on a wooden table"), 1000) < 50e-6
    assert best(lambda: Tokenizer.from_file(clip_file), 1) < 0.3


def small_file(merges: list[tuple[str, str]]) -> bytes:
    return (HEADER + "".join(f"{first} {second}\n" for first, second in merges)).encode()


@pytest.mark.parametrize("name", ["tokenizer.txt", "tokenizer.txt.gz"])
def test_both_forms_of_a_file_and_foreign_line_ends(name: str, tmp_path: Path) -> None:
    data = small_file(SMALL).replace(b"\n", b"\r\n")
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data.rstrip())
    assert Tokenizer.from_file(path, context=5).encode("red apple and an") == [520, 515, 519, 513, 521]


def test_only_the_merges_that_clip_uses_are_read(clip_file: Path) -> None:
    lines = gzip.decompress(clip_file.read_bytes()).decode().split("\n")
    assert len(lines) == 262_146
    merges = read_merges(clip_file)
    assert len(merges) == 48_894
    assert (merges[0], merges[-1]) == (("i", "n"), ("jeky", "ll</w>"))


DAMAGED = {
    "empty": b"",
    "header only": HEADER.encode(),
    "line of one token": small_file(SMALL) + b"apple",
    "line of three tokens": HEADER.encode() + b"a b c\n",
    "blank line": HEADER.encode() + b"a n\n\na p\n",
    "part that no line made": HEADER.encode() + b"a n\nxy z\n",
    "not UTF-8": HEADER.encode() + b"a \xff\n",
    "binary": bytes(range(256)),
    "gzip cut short": gzip.compress(small_file(SMALL))[:-9],
    "gzip header alone": b"\x1f\x8b\x08\x00",
    "gzip with a flipped byte": bytes(b ^ (i == 30) * 64 for i, b in enumerate(gzip.compress(small_file(SMALL)))),
    "gzip bomb": gzip.compress(bytes(65 * 2**20), 9),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_vocabulary_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.txt"
    path.write_bytes(DAMAGED[what])
    with pytest.raises(BundleError) as caught:
        Tokenizer.from_file(path)
    assert str(path) in str(caught.value)
    assert "export the bundle anew" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_vocabulary_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.txt", tmp_path):
        with pytest.raises(SayclipError, match="cannot be read"):
            Tokenizer.from_file(path)
