"""Which phonemes get an id, what becomes of the others, and how phonemes are confused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sayclip.errors import InputError, PhonemeError
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip_export.phonemes.chart import load_chart
from sayclip_training.distillation.noise import confusion, with_noise
from sayclip_training.distillation.symbols import RARE, choose


def test_the_runtime_reads_ipa_as_training_did(tmp_path: Path) -> None:
    said = ["tsaɪt", "pfeːɾt", "kæts", "vɛ̃ blɑ̃", "t͡ʃiːz"]
    symbols = choose(said, [], tmp_path / "phonemes.json")
    inventory = PhonemeInventory.from_file(tmp_path / "phonemes.json")
    assert {"ts", "pf", "tʃ", "ɛ̃", "ɑ̃"} <= set(inventory.symbols)
    for ipa in said:
        assert symbols.encode(ipa, 77) == inventory.encode(ipa)
    assert symbols.report == []
    assert symbols.encode("æ" * 0, 77) == symbols.encode(" ", 77) == []


def test_rare_symbols_count_as_the_nearest_or_as_their_parts(tmp_path: Path) -> None:
    often = ["tsædkv"] * int(2 / RARE)
    symbols = choose([*often, "βæ", "pfæ"], ["ʘæ"], tmp_path / "phonemes.json")
    inventory = PhonemeInventory.from_file(tmp_path / "phonemes.json")
    assert inventory.symbols == ("d", "k", "v", "ts", "æ")
    assert symbols.encode("βæ", 77) == symbols.encode("væ", 77) == inventory.encode("væ")
    assert symbols.encode("ʘæ", 77) == inventory.encode("ʘæ", nearest=True)
    assert symbols.encode("pfæ", 77) == inventory.encode("pfæ", nearest=True)
    assert len(symbols.encode("pfæ", 77)) == 5
    assert any("β as v" in line for line in symbols.report)
    assert any("parts" in line or "simpler" in line for line in symbols.report if "pf" in line)
    with pytest.raises(PhonemeError, match="unknown IPA symbol 'β'"):
        inventory.encode("βæ")


def test_what_is_outside_the_chart_is_mapped_and_reported(tmp_path: Path) -> None:
    symbols = choose(["bæd", "Ɓæd☃"], [], tmp_path / "phonemes.json")
    assert symbols.encode("Ɓæd☃", 77) == symbols.encode("bæd", 77)
    assert symbols.report == [
        "symbols outside the chart, read as the nearest on it: Ɓ as b",
        "symbols outside the chart and like nothing on it, left out: ☃",
    ]


def test_marks_of_stress_and_length_are_symbols_where_they_are_asked_for(tmp_path: Path) -> None:
    said = ["ʃtaːt", "ʃtat", "ˈæpəl"]
    plain = choose(said, [], tmp_path / "plain.json")
    assert plain.encode("ʃtaːt", 77) == plain.encode("ʃtat", 77)
    marked = choose(said, [], tmp_path / "phonemes.json", length=True, stress=True)
    inventory = PhonemeInventory.from_file(tmp_path / "phonemes.json")
    assert inventory.symbols[-2:] == ("ˈ", "ː"), "the marks that occur, last"
    long, short = marked.encode("ʃtaːt", 77), marked.encode("ʃtat", 77)
    assert long == inventory.encode("ʃta:t") != short == inventory.encode("ʃtat")
    assert len(long) == len(short) + 1
    assert marked.encode("ˈæpəl", 77) == inventory.encode("'æpəl")
    assert marked.encode("ˈ ː", 77) == []


def test_nothing_to_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no caption holds anything to say"):
        choose(["", "ː"], [], tmp_path / "phonemes.json")
    assert list(tmp_path.iterdir()) == []


def test_near_phonemes_replace_one_another_and_nothing_else(tmp_path: Path) -> None:
    chart = load_chart()
    symbols = choose(["ptkbdɡfvszʃʒmnŋlɹæɛɪʌ ˈaː"], [], tmp_path / "phonemes.json", length=True, stress=True)
    table = confusion(symbols.content)
    known = {e["symbol"]: e["id"] for e in symbols.content["symbols"] if e["id"] is not None}
    sounds = [s for s in known if s not in "ˈː"]
    assert torch.allclose(table[[known[s] for s in sounds]].sum(1), torch.ones(len(sounds)))
    assert not table[:5].any()
    assert not table[:, :5].any()
    assert not table[[known["ˈ"], known["ː"]]].any()
    assert not table.diagonal().any()
    for symbol in ("p", "s", "æ", "m"):
        row = table[known[symbol]]
        by_distance = sorted((s for s in sounds if s != symbol), key=lambda s: chart.distance(symbol, s))
        assert row[known[by_distance[0]]] == row.max()
        assert row[known[by_distance[0]]] > 5 * row[known[by_distance[-1]]]

    ids = torch.tensor([symbols.encode("pæt sæd", 77)] * 2000, dtype=torch.int32)
    torch.manual_seed(0)
    noisy = with_noise(ids, table, 0.2)
    changed = noisy != ids
    assert not changed[:, (ids[0] < 5)].any()
    assert changed[:, (ids[0] >= 5)].float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(with_noise(ids, table, 0.0), ids)
    torch.manual_seed(0)
    assert torch.equal(with_noise(ids, table, 0.2), noisy)
