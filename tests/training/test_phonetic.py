"""What the tower hears is kept whole, confusions stay distributions, and the branch learns to spell from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip_export.models.phonetic import PhoneticBranch, PhoneticConfig
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_training import phonetic
from sayclip_training.corpus import Corpus
from sayclip_training.demo_data.strings import Strings
from sayclip_training.ranks import Rank

PHONEMES, WORDS = 9, 12


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Forty utterances of twelve words, noise of 20 to 60 frames."""
    rng = np.random.default_rng(0)
    counts = rng.integers(20, 60, 40)
    frames = rng.standard_normal((int(counts.sum()), 80)).astype(np.float16)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Corpus(frames, offsets, np.arange(40, dtype=np.int32) % WORDS, np.array([""] * 40))


@pytest.fixture(scope="module")
def tower() -> SpeechTower:
    torch.manual_seed(0)
    return SpeechTower(SpeechConfig(width=32, layers=2, heads=4, hidden=48, head_heads=4, head_hidden=48, embedding=16,
                                    phonemes=PHONEMES, phoneme_layer=1))  # fmt: skip


def test_every_frame_that_is_heard_is_kept(corpus: Corpus, tower: SpeechTower) -> None:
    batches = [np.arange(0, 20), np.arange(20, 40)]
    heard = phonetic.hear(tower, corpus, batches, 3)
    assert len(heard) == 40
    assert heard.strings.tolist() == corpus.strings.tolist()
    assert heard.posteriors.shape == (heard.offsets[-1], PHONEMES)
    assert torch.allclose(heard.posteriors.float().sum(-1), torch.ones(1), atol=5e-3)
    assert torch.equal(phonetic.hear(tower, corpus, batches, 3).posteriors, heard.posteriors), "the same seed"
    posteriors, mask = heard.batch(np.array([3, 11]))
    for row, pick in enumerate((3, 11)):
        own = heard.posteriors[heard.offsets[pick] : heard.offsets[pick + 1]].float()
        assert torch.equal(posteriors[row, : len(own)], own)
        assert mask[row].sum() == len(own)
        assert not posteriors[row, len(own) :].any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_confused_posteriors_are_still_distributions(seed: int) -> None:
    torch.manual_seed(seed)
    posteriors = (torch.randn(8, 25, PHONEMES) * 4).softmax(-1)
    close = torch.stack([(torch.arange(PHONEMES) + 1) % PHONEMES, (torch.arange(PHONEMES) + 2) % PHONEMES], 1)
    close[0] = 0  # a blank stays a blank
    confused = phonetic.confuse(posteriors, close)
    assert (confused.sum(-1) - 1).abs().max() < 1e-5
    assert confused.min() >= 0
    changed = ((confused - posteriors).abs().amax(-1) > 1e-6).float().mean()
    assert changed > 0


def test_the_branch_learns_which_word_was_spelled(corpus: Corpus, tower: SpeechTower, tmp_path: Path) -> None:
    """From posteriors that spell twelve words it learns to tell them apart; a finished run only loads."""
    torch.manual_seed(1)
    words = [torch.randint(1, PHONEMES, (6,)) for _ in range(WORDS)]

    def hear(*_: object) -> phonetic.Heard:
        rows = [torch.stack([words[i % WORDS], torch.zeros(6, dtype=torch.long)], 1).flatten() for i in range(24)]
        posteriors = torch.nn.functional.one_hot(torch.cat(rows), PHONEMES).half()
        return phonetic.Heard(posteriors, np.arange(25) * 12, np.arange(24, dtype=np.int32) % WORDS)

    target = np.eye(WORDS, dtype=np.float32)
    strings = Strings(tuple("abcdefghijkl"), np.ones(WORDS, bool), target, np.zeros((WORDS, WORDS), bool))
    space = torch.nn.functional.normalize(torch.randn(WORDS, 16), dim=-1)
    close = {number: [1 + number % (PHONEMES - 1)] for number in range(1, PHONEMES)}

    def train() -> PhoneticBranch:
        torch.manual_seed(2)
        branch = PhoneticBranch(PhoneticConfig(PHONEMES, width=32, layers=1, kernel=3, pools=2, embedding=16))
        return phonetic.train(Rank(), tower, branch, corpus, corpus, strings, space, space, close, tmp_path, 150)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phonetic, "hear", hear)
        patch.setattr(phonetic, "AVERAGE", 0.9)
        branch = train().eval()
    posteriors, mask = hear().batch(np.arange(WORDS))
    with torch.no_grad():
        nearest = (branch(posteriors, mask)[0] @ space.T).argmax(-1)
        assert nearest.tolist() == list(range(WORDS))
        again = train().eval()  # does not listen: the state in the folder is whole
        assert torch.equal(again(posteriors, mask)[0], branch(posteriors, mask)[0])
