"""Recordings on disk: recognised by their first bytes, refused by their header, decoded by libsndfile or ``wave``."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import AudioError, MissingDependencyError
from sayclip.inputs.files import InputFile
from sayclip.inputs.plain_wave import open_plain

_SUPPORTED = "WAV, FLAC, OGG or MP3"
# Offset, bytes, name: what libsndfile reads. MP3 without a tag is recognised by its frame header, see below.
_READABLE = (
    (8, b"WAVE"),
    (8, b"AIFF"),
    (8, b"AIFC"),
    (0, b"fLaC"),
    (0, b"OggS"),
    (0, b"ID3"),
    (0, b".snd"),
    (0, b"caff"),
    (0, b"riff\x2e\x91\xcf\x11"),  # Sony Wave64
)
_UNREADABLE = (
    (4, b"ftyp", "an M4A, MP4 or 3GP file"),
    (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"\x30\x26\xb2\x75", "a WMA file"),
    (0, b"ADIF", "an AAC file"),
    (0, b"MThd", "a MIDI file"),
    (8, b"AVI ", "an AVI film"),
)
_BLOCK_VALUES = 1 << 18
# libsndfile's answer where a header does not give the length is its largest count.
_LENGTH_UNKNOWN = 1 << 60


def decode(
    file: InputFile,
    max_seconds: float,
    check_header: Callable[[float, int | None], None],
    each_block: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> tuple[NDArray[np.float32], int, str]:
    """Decode ``file`` block by block, never more than just over ``max_seconds`` of it.

    ``check_header(sample_rate, frames)`` is called before anything is decoded, with ``frames=None`` where the header
    does not say; ``each_block`` turns float32 [frames, channels] into mono float32 [frames]. Both refuse by raising.

    Returns mono float32 [S], the sample rate in Hz, and libsndfile's name of the sample format (``PCM_16``, …). Where
    a file ends before its header says, S is what is there. Raises AudioError for what cannot be decoded.
    """
    _refuse_foreign(file)
    if file.path.lower().endswith(".raw"):  # soundfile goes by this one suffix, whatever the file holds
        raise AudioError(f"{file.name} has the suffix of samples without a header", "rename it, for example to .wav")
    plain = open_plain(file)
    if plain is not None:
        try:
            with plain:
                return _decoded(plain, plain.read, max_seconds, check_header, each_block)
        except OSError as reason:
            raise AudioError(f"{file.name} cannot be read ({reason.strerror})", "check the disk it lies on") from None
    library = _soundfile()
    try:
        with library.SoundFile(file.path if os.name == "nt" else os.fsencode(file.path)) as sound:
            # soundfile seeks after every read where it can, which fails in a FLAC cut short or of unknown length.
            sound.seekable = lambda: False
            read = functools.partial(sound.read, dtype="float32", always_2d=True)
            return _decoded(sound, read, max_seconds, check_header, each_block)
    except library.SoundFileError as reason:
        words = str(getattr(reason, "error_string", reason)).strip().rstrip(".") or "unreadable data"
        raise AudioError(f"{file.name} is damaged or cut short ({words})", f"save it again as {_SUPPORTED}") from None


def _decoded(
    sound: Any,
    read: Callable[[int], NDArray[np.float32]],
    max_seconds: float,
    check_header: Callable[[float, int | None], None],
    each_block: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> tuple[NDArray[np.float32], int, str]:
    """``decode`` of an open ``PlainWave`` or ``soundfile.SoundFile``."""
    rate = int(sound.samplerate)
    check_header(rate, None if sound.frames >= _LENGTH_UNKNOWN else int(sound.frames))
    left = int(max_seconds * rate) + 1
    size = max(1, _BLOCK_VALUES // int(sound.channels))
    blocks: list[NDArray[np.float32]] = []
    while left > 0:
        block = read(min(size, left))
        if not len(block):
            break
        blocks.append(each_block(block))
        left -= len(block)
    mono = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    return mono, rate, str(sound.subtype)


def _refuse_foreign(file: InputFile) -> None:
    """Let only known formats through: libsndfile tries everything as MP3, and its MP3 decoder writes on stderr."""
    head = file.head
    if any(head.startswith(magic, offset) for offset, magic in _READABLE) or _is_mpeg(head):
        return
    what = next((words for offset, magic, words in _UNREADABLE if head.startswith(magic, offset)), None)
    if what is None and head[0] == 0xFF and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        what = "an AAC file"
    if what is not None:
        raise AudioError(
            f"{file.name} is {what}, wanted is {_SUPPORTED}",
            "convert it, for example with: ffmpeg -i RECORDING recording.wav",
        )
    raise AudioError(f"{file.name} is not a recording, or its header is damaged", f"give a {_SUPPORTED} file")


def _is_mpeg(head: bytes) -> bool:
    """Whether ``head`` starts with a possible header of an MPEG audio frame, layer I to III."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer != 0 and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as reason:  # OSError: the wheel without libsndfile
        raise MissingDependencyError(
            f"soundfile, which decodes recordings, cannot be loaded ({reason})",
            "install it with: pip install --force-reinstall soundfile",
        ) from None
    return soundfile
