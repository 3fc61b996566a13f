"""Fixtures of the command line's tests."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from sayclip.cli.main import main

Run = Callable[..., "tuple[int, str, str]"]
Draw = Callable[[Path, int], Path]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("search", "cat")`` gives the exit status, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def draw() -> Draw:
    """``draw(path, seed)`` writes a random picture, different for every seed, and returns its path."""

    def write(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def pictures(draw: Draw, tmp_path: Path) -> Path:
    """A folder with three pictures, one of them in a folder below, and a text."""
    for seed, name in enumerate(("a.png", "b.png", "below/c.png")):
        draw(tmp_path / "pictures" / name, seed)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "said.wav", np.random.default_rng(0).normal(size=8000) * 0.1, 16000)
    return tmp_path / "said.wav"


@pytest.fixture
def bundle(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle, as the one that is meant when none is named."""
    monkeypatch.setenv("SAYCLIP_BUNDLE", str(tiny_bundle_master))
    return tiny_bundle_master


@pytest.fixture
def demo(draw: Draw, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed sayclip_demo with the tiny bundle and four pictures; the folder of the package."""
    package = tmp_path / "site" / "sayclip_demo"
    shutil.copytree(tiny_bundle, package / "bundle")
    (package / "__init__.py").write_text("")
    rows = ["file\tname\tkeywords"]
    for seed, name in enumerate(("red apple", "cat", "violin", "tornado")):
        draw(package / "pictures" / f"{seed}.webp", seed)
        rows.append(f"{seed}.webp\t{name}\t{name.split()[-1]}|thing")
    (package / "pictures" / "captions.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "sayclip_demo", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return package
