"""The recordings that most devices make, WAV files of 16-bit PCM, read with Python's own ``wave``.

libsndfile reads them too, and whatever else there is; loading it takes as long as a search does, so it is left alone
where a start meets nothing but these.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sayclip.inputs.files import InputFile

if TYPE_CHECKING:
    from wave import Wave_read

_PCM = 1
_BITS = 16


class PlainWave:
    """An open file, its facts under the names that ``soundfile.SoundFile`` has; a context manager closes it."""

    subtype = "PCM_16"

    def __init__(self, sound: Wave_read, stream: IO[bytes]) -> None:
        self._sound, self._stream = sound, stream
        self.samplerate, self.frames, self.channels = sound.getframerate(), sound.getnframes(), sound.getnchannels()

    def read(self, frames: int) -> NDArray[np.float32]:
        """The next samples [frames, channels], in [-1, 1); fewer at the end. Raises OSError."""
        data = self._sound.readframes(frames)  # in the machine's own order of bytes
        count = len(data) // (2 * self.channels)  # whole ones
        values = np.frombuffer(data, np.int16, count * self.channels).reshape(count, self.channels)
        scaled: NDArray[np.float32] = values * np.float32(1 / 32768)
        return scaled

    def __enter__(self) -> PlainWave:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def open_plain(file: InputFile) -> PlainWave | None:
    """``file`` where it is such a WAV file and whole; None for any other, which libsndfile is to read or to refuse."""
    head = file.head
    if not (head.startswith(b"RIFF") and head.startswith(b"WAVEfmt ", 8) and len(head) >= 36):
        return None
    form, channels, _, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", head, 20)
    if (form, bits, frame_bytes) != (_PCM, _BITS, 2 * channels) or not channels:
        return None
    import wave

    with ExitStack() as closing:
        try:
            stream = closing.enter_context(open(file.path, "rb"))
            sound = wave.open(stream)  # noqa: SIM115 - holds nothing but the stream
            held = os.fstat(stream.fileno()).st_size
        except (wave.Error, EOFError, OSError, RuntimeError):  # the last for a part longer than the whole
            return None
        # Where a header was never completed, or promises more than there is, libsndfile knows what recorders mean.
        end = min(held, struct.unpack_from("<I", head, 4)[0] + 8)
        if not 0 < sound.getnframes() * frame_bytes <= end - stream.tell():
            return None
        closing.pop_all()
        return PlainWave(sound, stream)
