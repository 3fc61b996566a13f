"""Golden checkpoints of SpeechCLIP: tiny, of random weights, with what upstream's own code makes of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from speechclip_parts import Golden

# Helpers beside the tests; pytest's importlib mode leaves the path alone.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def golden_speechclip() -> Callable[[str], Golden]:
    """``golden_speechclip(name)``: a checkpoint and its vectors, read once."""
    from speechclip_parts import Golden

    known: dict[str, Golden] = {}

    def get(name: str) -> Golden:
        if name not in known:
            known[name] = Golden(name)
        return known[name]

    return get


@pytest.fixture(scope="session")
def speech_graph(
    golden_speechclip: Callable[[str], Golden], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """``speech_graph(name)``: the exported graph of a golden checkpoint, made once."""
    from speechclip_parts import export

    known: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in known:
            path = tmp_path_factory.mktemp(name) / "speech.fp32.onnx"
            known[name] = export(golden_speechclip(name).checkpoint.speech, path)
        return known[name]

    return get
