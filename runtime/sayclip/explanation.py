"""What a speech encoder heard in a recording: the embedding and the keywords that one run of its graph gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.text.keywords import Keyword


@dataclass(frozen=True, eq=False)
class Explanation:
    """One recording as a speech encoder heard it; `Encoder.explain` makes them.

    ``source``: the recording as it was given. ``space``: id of the embedding space. ``embedding``: float32 [width], of
    length 1, what `Encoder.speech` gives. ``units``: the keywords heard, in their order, with times from
    the beginning of the recording.

    A search by speech takes it in place of its recording, and the graph is not run again.
    """

    source: Any
    space: str
    embedding: NDArray[np.float32]
    units: tuple[Keyword, ...]
