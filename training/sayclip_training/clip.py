"""Trains the demo's small CLIP: contrastive over pictures, names and keywords (Radford et al. 2021, arXiv 2103.00020).

Two stages. First both towers together, with proxies that stand for all pictures. Then the picture tower is frozen and
the text tower goes on against the embeddings of the pictures as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sayclip.text.tokenizer import Tokenizer
from sayclip_export.models.layers import unit
from sayclip_export.models.picture import PictureTower
from sayclip_export.models.text import TextTower
from sayclip_training.demo_data import renders
from sayclip_training.demo_data.strings import Strings
from sayclip_training.loop import run
from sayclip_training.losses import bank_loss, recall

PREFIXES = ("a ", "the ", "an ", "my ", "some ", "a picture of a ", "a picture of ", "show me ", "find ", "find the ")
MAX_SCALE = 4.0  # log


@dataclass
class ClipTraining:
    """What both stages need: ``layers`` f32 [P,4,96,96], ``pixels`` f32 [P,3,H,W] as the runtime sees the pictures."""

    image: PictureTower
    text: TextTower
    tokenizer: Tokenizer
    strings: Strings
    layers: Tensor
    pixels: Tensor
    folder: Path
    log_scale: nn.Module = field(default_factory=lambda: Scale())

    def __post_init__(self) -> None:
        self.proxies = nn.Embedding(len(self.pixels), self.image.config.embedding)
        self.target = torch.from_numpy(self.strings.target)
        self.ignored = torch.from_numpy(self.strings.ignored)
        self.by_picture = [np.flatnonzero(column) for column in self.strings.target.T]
        self.own_name = {int(self.strings.target[i].argmax()): int(i) for i in self.strings.names}

    def contrastive(self, steps: int, batch: int = 128) -> None:
        """Stage one: CLIP's symmetric loss in the batch, plus every view and every text against one proxy a picture.

        The proxies (Movshovitz-Attias et al. 2017, arXiv 1703.07464) stand for all pictures at every step, which a
        batch of 128 cannot.
        """
        pictures = len(self.pixels)
        decay = [p for m in (self.image, self.text) for p in m.parameters() if p.ndim > 1]
        plain = [p for m in (self.image, self.text, self.log_scale) for p in m.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": 0.05},
                {"params": plain, "weight_decay": 0.0},
                {"params": list(self.proxies.parameters()), "weight_decay": 0.0, "lr": 6e-3},
            ],
            lr=2e-3,
        )
        self.image.train()
        self.text.train()

        def step(number: int) -> dict[str, float]:
            rng = np.random.default_rng(number)
            picks = rng.choice(pictures, batch, replace=False)
            index = torch.from_numpy(picks)
            pixels = renders.views(self.layers[index], self.pixels.shape[-1])
            untouched = torch.rand(batch) < 0.2
            pixels[untouched] = self.pixels[index[untouched]]
            image = self.image(pixels.contiguous(memory_format=torch.channels_last))
            rows, said = self._texts_for(picks, rng)
            text = self.text(*pad_tokens(self.tokenizer, said))
            scale, proxies = self.log_scale(), unit(self.proxies.weight)
            text_rows = torch.from_numpy(rows)
            target, ignored = self.target[text_rows], self.ignored[text_rows]
            text_to_proxy = bank_loss(scale * text @ proxies.T, target, ignored)
            image_to_proxy = nn.functional.cross_entropy(scale * image @ proxies.T, index)
            logits = scale * text @ image.T
            here, hidden = target[:, index], ignored[:, index]
            to_image = bank_loss(logits, here / here.sum(1, keepdim=True), hidden)
            has_text = here.sum(0) > 0
            to_text = bank_loss(logits.T[has_text], (here / here.sum(0)).T[has_text], hidden.T[has_text])
            loss = text_to_proxy + image_to_proxy + 0.5 * (to_image + to_text)
            loss.backward()
            return {
                "text_to_proxy": text_to_proxy.item(),
                "image_to_proxy": image_to_proxy.item(),
                "to_image": to_image.item(),
                "to_text": to_text.item(),
                "scale": scale.item(),
            }

        modules = {"image": self.image, "text": self.text, "scale": self.log_scale, "proxies": self.proxies}
        run("clip", self.folder, modules, optimizer, steps, step, evaluate=self.scores, evaluate_every=300)

    def finish_text(self, steps: int, batch: int = 384) -> None:
        """Stage two: the text tower against the frozen pictures."""
        bank = self.embed_pictures()
        optimizer = torch.optim.AdamW(self.text.parameters(), lr=1e-3, weight_decay=0.02)
        scale = self.log_scale().detach()
        self.text.train()

        def step(number: int) -> dict[str, float]:
            rng = np.random.default_rng(10_000_000 + number)
            rows = rng.choice(len(self.strings.texts), batch)
            said, target, ignored = self._described(rows, rng)
            text = self.text(*pad_tokens(self.tokenizer, said))
            loss = bank_loss(scale * text @ bank.T, target, ignored)
            loss.backward()
            return {"to_image": loss.item()}

        run("text", self.folder, {"text": self.text}, optimizer, steps, step, evaluate=self.scores)

    def _described(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[list[str], Tensor, Tensor]:
        """What is typed for each row, sometimes with a second string of one of its pictures: then it means both."""
        said, target, ignored = [], self.target[rows].clone(), self.ignored[rows].clone()
        for i, row in enumerate(rows):
            text = self.strings.texts[row]
            if rng.random() < 0.25:
                weights = self.strings.target[row]
                mine = self.by_picture[int(rng.choice(np.flatnonzero(weights)))]
                other = int(rng.choice(mine))
                if other != row:
                    both = self.target[row] * self.target[other]
                    target[i] = both / both.sum()
                    ignored[i] = (self.ignored[row] | self.ignored[other]) & (both == 0)
                    second = self.strings.texts[other]
                    text = f"{text} {second}" if rng.random() < 0.5 else f"{second} {text}"
            said.append(vary(text, rng))
        return said, target, ignored

    def embed_pictures(self) -> Tensor:
        """Embeddings f32 [P,D] of the pictures as they are."""
        training = self.image.training
        self.image.eval()
        with torch.inference_mode():
            rows = torch.cat([self.image(part) for part in self.pixels.split(256)])
        self.image.train(training)
        return rows.clone()

    def scores(self) -> dict[str, float]:
        """R@1 of trained names and share of trained keywords with a right picture among five."""
        pictures = self.embed_pictures().numpy()
        texts = embed_texts(self.text, self.tokenizer, self.strings.texts).numpy()
        scores, right = texts @ pictures.T, self.strings.target > 0
        names = self.strings.is_name
        own = self.strings.target >= self.strings.target.max(1, keepdims=True)
        return {
            "name_r1": recall(scores[names], own[names], 1),
            "keyword_r5": recall(scores[~names], right[~names], 5),
        }

    def _texts_for(self, picks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """Two strings a picture: its name where it may be used, and one of its strings at random."""
        rows: list[int] = []
        for pick in picks:
            mine = self.by_picture[int(pick)]
            if int(pick) in self.own_name:
                rows.append(self.own_name[int(pick)])
            if len(mine):
                rows.append(int(rng.choice(mine)))
        return np.array(rows), [vary(self.strings.texts[row], rng) for row in rows]


class Scale(nn.Module):
    """CLIP's learned temperature: ``exp(log_scale)``, at most exp(4)."""

    def __init__(self, start: float = 1 / 0.07) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor([np.log(start)], dtype=torch.float32))

    def forward(self) -> Tensor:
        return self.log_scale.clamp(max=MAX_SCALE).exp()


def vary(text: str, rng: np.random.Generator) -> str:
    """What a person might type for ``text``: an article or request in front, a slip of the finger."""
    if rng.random() < 0.12:
        text = str(rng.choice(PREFIXES)) + text
    if rng.random() < 0.08 and len(text) > 4:
        at = int(rng.integers(1, len(text) - 1))
        slip = rng.integers(3)
        text = (
            text[:at]
            + ("" if slip == 0 else text[at] * 2 if slip == 1 else text[at + 1] + text[at])
            + (text[at + 1 :] if slip < 2 else text[at + 2 :])
        )
    return text


def pad_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids i32 [B,L] padded with 0 to the longest, and lengths i32 [B]."""
    return pad_ids([tokenizer.encode(text) for text in texts])


def pad_ids(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids i32 [B,L] padded with 0 to the longest, and lengths i32 [B]."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int32)
    return ids, lengths


def embed_texts(tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Embeddings f32 [N,D] of ``texts`` in evaluation mode."""
    training = tower.training
    tower.eval()
    with torch.inference_mode():
        parts = [texts[i : i + 512] for i in range(0, len(texts), 512)]
        rows = torch.cat([tower(*pad_tokens(tokenizer, part)) for part in parts])
    tower.train(training)
    return rows.clone()
