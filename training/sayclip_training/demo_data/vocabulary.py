"""The demo's own BPE vocabulary, in the format of CLIP's ``bpe_simple_vocab`` file.

Trained with the ``tokenizers`` library (the runtime reads the result with its own code).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

MERGES = 1600


def write_vocabulary(texts: Iterable[str], target: Path, merges: int = MERGES) -> int:
    """Learn merges from ``texts`` under CLIP's normalisation and word split; write them. Returns how many there are."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=512 + merges,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in learned][:merges]
    target.write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")
    return len(pairs)
