"""CLIP's byte-pair encoding for checkpoints that come without: from a file, or from an installed open_clip_torch."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from sayclip.errors import SayclipError
from sayclip.text.vocabulary import read_merges
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.vocabulary import Merges, merges_alone, read_tokenizer_json, read_vocabulary

PUBLISHED = "bpe_simple_vocab_16e6.txt.gz"
_PACKAGE = "open_clip"
_CLIP_TOKENS = 49408
# Of its 48,894 merges, one a line: the part of the published file that CLIP uses.
_CLIP_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
_REMEDY = f"give CLIP's {PUBLISHED}, a tokenizer.json, or a folder with vocab.json and merges.txt to --vocabulary"


def clip_vocabulary(given: Path | None, size: int, context: int) -> Merges:
    """CLIP's merges for a token table of ``size`` rows: out of ``given``, else out of an installed open_clip_torch.

    Of that package one file is read and nothing is imported. Raises CheckpointError where neither is there, or where
    49,408 tokens are not those of CLIP.
    """
    merges = given_vocabulary(given or _packaged(), size, context)
    if size == _CLIP_TOKENS:
        lines = "\n".join(f"{first} {second}" for first, second in merges.pairs)
        seen = hashlib.sha256(lines.encode()).hexdigest()
        if seen != _CLIP_SHA256:
            raise refuse(
                f"{merges.paths[0]} holds merges of sha256 {seen[:12]}…, CLIP's own have {_CLIP_SHA256[:12]}…", _REMEDY
            )
    return merges


def given_vocabulary(path: Path, size: int, context: int) -> Merges:
    """The merges at ``path``: a folder's tokenizer, a ``tokenizer.json``, or a list of merges, gzip or plain.

    Raises CheckpointError.
    """
    if path.is_dir():
        return read_vocabulary(path, size, context)
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise refuse(f"the vocabulary {path} cannot be read ({error.strerror})", _REMEDY) from None
    if start.startswith(b"{"):
        return read_tokenizer_json(path, size, context)
    try:
        pairs = read_merges(path)
    except SayclipError as error:
        raise refuse(error.problem, _REMEDY) from None
    return merges_alone(pairs, path, size)


def _packaged() -> Path:
    """The vocabulary's place in an installed open_clip_torch, which is looked up and not imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    path = Path(spec.origin).with_name(PUBLISHED) if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise refuse(
            "this checkpoint comes without CLIP's vocabulary",
            f"`pip install --no-deps open_clip_torch`, whose {PUBLISHED} is then read, or name one with --vocabulary",
        )
    return path
