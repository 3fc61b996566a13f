"""What the library asks of an encoder.

`sayclip.Encoder` is one; anything with these attributes and methods can stand in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EncoderLike(Protocol):
    """Encoders of one embedding space. Embeddings are float32 `[n, width]`, L2-normalised."""

    @property
    def space(self) -> str:
        """Id of the embedding space; vectors of two spaces never meet."""

    @property
    def width(self) -> int:
        """Length of an embedding."""

    @property
    def names(self) -> Sequence[str]:
        """The encoders at hand, of `image`, `text`, `pronunciation` and `speech`."""

    def image(self, pictures: Any, /) -> NDArray[np.float32]:
        """Embed one picture or a list of pictures (paths, arrays, Pillow images)."""

    def text(self, texts: Any, /) -> NDArray[np.float32]:
        """Embed one text or a list of texts."""

    def pronunciation(
        self, ipa: Any = None, *, words: Any = None, language: str | None = None, nearest: bool = False
    ) -> NDArray[np.float32]:
        """Embed IPA strings, or words (of a `language`) that are turned into IPA first.

        With `nearest` a symbol that is not known counts as the nearest that is.
        """

    def speech(self, waves: Any, /, *, sample_rate: int | None = None) -> NDArray[np.float32]:
        """Embed one recording or a list of recordings (paths, arrays)."""

    def prepare_image(self, source: Any, /) -> NDArray[np.float32]:
        """Read and preprocess one picture into float32 `[3, H, W]`; called from worker threads.

        Raises `InputError` for a picture that cannot be used, so that one bad picture never fails a batch.
        """

    def image_prepared(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Embed prepared pictures, float32 `[n, 3, H, W]`."""

    def graph_sha256(self, name: str, /) -> str:
        """sha256 (hex) of the graph that the named encoder runs."""
