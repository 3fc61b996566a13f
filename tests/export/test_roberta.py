"""RoBERTa as a text side: what transformers makes of the same embeddings, its vocabulary, and folders of no use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from unimodal_folders import MERGES, ROWS, TOKENS, configured, library, weights, write_roberta

from sayclip_export.models.roberta import RobertaConfig
from sayclip_export.models.segmental import HeadConfig
from sayclip_export.models.segmental.units import UnitReader
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.roberta import read_roberta

SPACE = 16
TEXTS = ("red apple", "It's 12, café -- naïve!  東京 don't", "a red\tcat's face", "apple-pie", "ΣΣ ² a" * 40)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("roberta") / "tiny-roberta"
    return folder, write_roberta(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Free to be damaged."""
    write_roberta(tmp_path / "tiny-roberta")
    return tmp_path / "tiny-roberta"


def first_of(model: Any, embedded: Tensor, length: Tensor) -> Tensor:
    """What transformers' model has at the first position, padding masked."""
    mask = torch.arange(embedded.shape[1])[None] < length[:, None]
    with torch.no_grad():
        return model(inputs_embeds=embedded, attention_mask=mask.long()).last_hidden_state[:, 0]


def test_reads_what_transformers_reads_and_no_padding(master: tuple[Path, Any]) -> None:
    tower = read_roberta(master[0], SPACE).tower
    embedded = torch.randn(4, 38, 24, generator=torch.Generator().manual_seed(0))
    length = torch.tensor([38, 12, 3, 2], dtype=torch.int32)
    with torch.no_grad():
        read = tower.features(embedded, length)
        noise = torch.where(torch.arange(38)[None, :, None] < length[:, None, None], embedded, 9.0)
        assert torch.allclose(tower.features(noise, length), read, atol=1e-5)
    assert (read - first_of(master[1], embedded, length)).abs().max() < 1e-5
    assert (read[1] - first_of(master[1], embedded[1:2, :12], length[1:2])[0]).abs().max() < 1e-5


def test_units_that_are_tokens_read_as_typed_text_does(master: tuple[Path, Any]) -> None:
    """Between ``<s>`` and ``</s>``, as transformers' own tokenizer and embedding have it; then on to the space."""
    checkpoint = read_roberta(master[0], SPACE)
    reader = UnitReader(HeadConfig(32, checkpoint.tower.config), 1, "none", checkpoint.tower).eval()
    tokenizer = library().RobertaTokenizer.from_pretrained(master[0], add_prefix_space=True)
    typed = tokenizer(["red apple", "a cat"], padding=True, return_tensors="pt")
    ids = [checkpoint.vocabulary.encode(text) for text in ("red apple", "a cat")]
    real = [row[row != 1].tolist() for row in typed["input_ids"]]
    assert real == [[0, *row, 2] for row in ids]
    count = torch.tensor([len(row) for row in ids], dtype=torch.int32)
    units = torch.full((2, 5, 24), 7.0)  # what lies past the count must not be read
    for row, found in enumerate(ids):
        units[row, : len(found)] = checkpoint.tower.token_embedding.weight[found]
    with torch.no_grad():
        wanted = master[1](**typed).last_hidden_state[:, 0]
        assert (checkpoint.tower.features(*reader.between(units, count)) - wanted).abs().max() < 1e-5
        assert reader.to_space is not None
        assert (reader.embed(units, count) - wanted @ reader.to_space.weight.T).abs().max() < 1e-5
        alone = reader.embed(units[:1, : len(ids[0])], None)
    assert torch.allclose(alone[0], (wanted @ reader.to_space.weight.T)[0], atol=1e-5)
    assert (reader.barred[[0, 1, 2]] < 0).all()
    assert [parameter.requires_grad for parameter in reader.to_space.parameters()] == [True]


def test_a_model_built_on_one_is_read_too(master: tuple[Path, Any], tmp_path: Path) -> None:
    write_roberta(tmp_path / "lm", "RobertaForMaskedLM")
    read = read_roberta(tmp_path / "lm", SPACE)
    model = library().RobertaModel.from_pretrained(tmp_path / "lm", add_pooling_layer=False).eval()
    embedded, length = torch.randn(2, 6, 24), torch.tensor([6, 4], dtype=torch.int32)
    with torch.no_grad():
        assert (read.tower.features(embedded, length) - first_of(model, embedded, length)).abs().max() < 1e-5


def test_says_what_it_is(master: tuple[Path, Any]) -> None:
    read = read_roberta(master[0], SPACE)
    config = read.tower.config
    assert (config.vocabulary, config.width, config.positions, config.embedding) == (ROWS, 24, 40, SPACE)
    assert config.units == 40 - 2 - 2
    assert (config.start, config.end, config.padding, config.eps) == (0, 2, 1, 1e-12)
    assert set(read.files) == {"config.json", "model.safetensors", "vocab.json", "merges.txt"}
    assert not any(parameter.requires_grad for parameter in read.tower.parameters())
    (master[0] / "notes.txt").write_text("not read")
    assert read_roberta(master[0], SPACE).sha256 == read.sha256


def test_words_become_the_ids_of_transformers(master: tuple[Path, Any], tmp_path: Path) -> None:
    vocabulary = read_roberta(master[0], SPACE).vocabulary
    tokenizer = library().RobertaTokenizer.from_pretrained(master[0], add_prefix_space=True)
    for text in TEXTS:
        wanted = tokenizer(" ".join(text.split()), add_special_tokens=False)["input_ids"]
        assert vocabulary.encode(text) == wanted, text
    assert vocabulary.encode("") == []
    write_roberta(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "whole" / name).unlink(missing_ok=True)
    whole = read_roberta(tmp_path / "whole", SPACE)
    assert (whole.vocabulary.tokens, list(whole.vocabulary.merges)) == (vocabulary.tokens, list(vocabulary.merges))
    assert "tokenizer.json" in whole.files


def test_ids_become_words_and_special_ones_none(master: tuple[Path, Any]) -> None:
    words = read_roberta(master[0], SPACE).vocabulary.words()
    by_token = {TOKENS[number]: word for number, word in words.items()}
    assert len(words) == 256 + len(MERGES)
    assert not {"<s>", "<pad>", "</s>", "<unk>", "<mask>"} & by_token.keys()
    told = {"Ġapple": "apple", "Ġred": "red", "red": "-red", "!": "!", "-": "-", "Ġ": "<20>", "Ċ": "<0a>", "é": "<e9>"}
    assert {token: by_token[token] for token in told} == told
    assert all(word.isprintable() and word.strip() for word in words.values())


def vocabulary(**changed: Any) -> Callable[[Path], None]:
    """``vocab.json`` with other ids; None takes a token out."""

    def change(folder: Path) -> None:
        tokens = {**json.loads((folder / "vocab.json").read_text()), **changed}
        kept = {token: number for token, number in tokens.items() if number is not None}
        (folder / "vocab.json").write_text(json.dumps(kept))

    return change


def whole(**changed: Any) -> Callable[[Path], None]:
    """A ``tokenizer.json`` that is RoBERTa's but for what is changed."""

    def change(folder: Path) -> None:
        model = {"type": "BPE", "vocab": json.loads((folder / "vocab.json").read_text()), "merges": list(MERGES)}
        document = {"model": model, "pre_tokenizer": {"type": "ByteLevel"}, "normalizer": None, **changed}
        (folder / "tokenizer.json").write_text(json.dumps(document))

    return change


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "holds none of model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"cut"), "is damaged or no safetensors file"),
        (configured(model_type="bert"), "model_type is 'bert', wanted 'roberta'"),
        (configured(hidden_size=32), r"word_embeddings.weight has the shape \[278, 24\], wanted \[278, 32\]"),
        (configured(num_attention_heads=5), "text width is 24 for 5 heads, wanted a multiple"),
        (configured(num_hidden_layers=3), "lacks encoder.layer.2.attention.self.query.weight"),
        (configured(num_hidden_layers=1), "holds encoder.layer.1.attention.* that no part of the model"),
        (configured(max_position_embeddings=4), "positions is 4, wanted at least 5, for start, a unit and end"),
        (configured(max_position_embeddings=41), r"position_embeddings.weight has the shape \[40, 24\], wanted \[41,"),
        (configured(position_embedding_type="relative_key"), "position_embedding_type is 'relative_key'"),
        (configured(hidden_act="relu"), "hidden_act is 'relu'"),
        (configured(is_decoder=True), "is_decoder is True, wanted false"),
        (configured(pad_token_id=2), r"start, end and padding are \(0, 2, 2\), wanted three rows"),
        (configured(eos_token_id=999), "end is 999, wanted a row of 278"),
        (configured(eos_token_id=-1), "eos_token_id is -1, wanted a whole number from 0 on"),
        (weights(lambda t: t.pop(QUERY)), f"lacks {QUERY}"),
        (weights(lambda t: t.update({QUERY: torch.full((24, 24), torch.nan)})), f"{QUERY} holds NaN or infinity"),
        (weights(lambda t: t.update(more=torch.zeros(3))), r"holds more \[3\] that no part of the model takes"),
        (lambda f: (f / "vocab.json").unlink(), "holds no tokenizer.json and no vocab.json"),
        (lambda f: (f / "merges.txt").unlink(), "holds no tokenizer.json and no merges.txt"),
        (lambda f: (f / "merges.txt").write_text("#version: 0.2\nr e x\n"), "merge 0 is 'r e x', wanted two tokens"),
        (lambda f: (f / "merges.txt").write_text("#version: 0.2\nre d\n"), "merge 0 is of 're' and 'd', wanted bytes"),
        (vocabulary(red=278), "'red' has the id 278, wanted one of its own below 278"),
        (vocabulary(red="5"), "'red' has the id 5, wanted one of its own"),
        (vocabulary(red=10), "'.*' has the id 10, wanted one of its own"),
        (vocabulary(red=None), "has no 'red', which is a byte or made by a merge"),
        (vocabulary(x=None), "has no 'x', which is a byte"),
        (vocabulary(**{"<s>": 276}), "'<s>' has the id 276, the model's is 0"),
        (vocabulary(**{"<s>": None, "red": 0}), "'red' has the id 0, which begins or ends texts"),
        (whole(normalizer={"type": "Lowercase"}), "wanted ByteLevel alone"),
        (whole(pre_tokenizer={"type": "Whitespace"}), "wanted ByteLevel alone"),
        (whole(model={"type": "Unigram"}), "holds no byte-level byte-pair encoding"),
        (whole(model={"type": "BPE", "vocab": 3}), "holds no vocabulary"),
    ],
)
def test_folders_of_no_use_are_refused_in_a_line(damage: Callable[[Path], Any], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_roberta(folder, SPACE)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.remedy


def test_the_undamaged_one_is_taken(folder: Path) -> None:
    """What the cases above begin with, a whole ``tokenizer.json`` too."""
    whole()(folder)
    assert read_roberta(folder, SPACE).vocabulary.paths == (folder / "tokenizer.json",)


def test_a_head_asks_no_more_of_it_than_it_can_read() -> None:
    text = RobertaConfig(60, width=24, layers=1, heads=4, hidden=24, positions=24, embedding=SPACE)
    HeadConfig(32, text, slots=20, keywords=8)
    with pytest.raises(ValueError, match="slots is 21, wanted 1 to 20, what the text side can read"):
        HeadConfig(32, text, slots=21)
    with pytest.raises(ValueError, match="text width is 24 for 5 heads"):
        replace(text, heads=5)
