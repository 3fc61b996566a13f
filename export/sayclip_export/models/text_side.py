"""What a frozen transformer must have for units to be read by it: a token-embedding interface.

CLIP's text tower has one, and so has RoBERTa. Whoever writes units knows no more of it than this.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn


class TextSizes(Protocol):
    """Sizes of a text side; a frozen dataclass.

    ``vocabulary`` V rows of ``width`` W in the token table; ``embedding`` D, the width of the space; ``start`` and
    ``end``, the rows that begin and end a text; ``special``, the rows that can never be a word, these among them;
    ``units``, how many fit between start and end; ``in_space``, whether what is read lies in the space already, so that
    it has D numbers. Where it does not, it has W, and the head learns to bring it there.
    """

    @property
    def vocabulary(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def embedding(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def special(self) -> tuple[int, ...]: ...
    @property
    def units(self) -> int: ...
    @property
    def in_space(self) -> bool: ...
    def build(self) -> TextSide:
        """A text side of these sizes, with random weights and without dropout."""
        ...

    def to_dict(self) -> dict[str, object]: ...


class TextSide(nn.Module):
    """``features`` reads embedded tokens; ``token_embedding`` holds the table f32 [V,W]."""

    config: Any  # a TextSizes
    token_embedding: nn.Embedding

    def features(self, embedded: Tensor, length: Tensor) -> Tensor:
        """What is read in start, units and end, f32 [B,D] or [B,W], see ``in_space``; not normalised.

        ``embedded`` f32 [B,L,W]: rows where the token table's lie, before positions are added; ``length`` i32 [B]: how
        many are real. What comes after these changes nothing.
        """
        raise NotImplementedError
