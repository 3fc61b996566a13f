"""Heads trained on the small test bed, by the command."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sayclip.cli.main import main
from sayclip_training import loop
from sayclip_training.demo_data import names
from sayclip_training.demo_data.pictures import FONT
from sayclip_training.heads import boundaries, recipe

sys.path.append(str(Path(__file__).parent))  # for helpers beside the tests

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def material() -> None:
    """What the test bed is made of; in continuous integration it is there."""
    have = (
        *(FONT.exists(), names.EMOJI_TEST.exists(), names.CLDR.exists(), shutil.which("flite") is not None),
        importlib.util.find_spec("phonemizer") is not None,
    )
    if not all(have) and "CI" not in os.environ:
        pytest.skip("Debian's data, flite, phonemizer")


@pytest.fixture(scope="session")
def bed(material: None, quick_testbed: tuple[Path, dict[str, Any]]) -> Path:
    """The folder of the small test bed."""
    return quick_testbed[0]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def short_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors that learn little: how much they can is for others to test."""
    monkeypatch.setattr(boundaries, "STEPS", 8)


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str], tmp_path: Path, bed: Path, kept: Path) -> Train:
    """``train("--steps", 3)``: status, stdout and stderr of ``sayclip train speech`` on the small test bed."""

    def call(*arguments: object) -> tuple[int, str, str]:
        given = list(map(str, arguments))
        pairs, out = bed / "speech.tsv", tmp_path / "head.safetensors"
        for name, value in {
            "--pairs": pairs, "--clip": DEMO, "--out": out, "--cache": kept, "--steps": 3, "--batch": 12,
        }.items():  # fmt: skip
            if name not in given:
                given += [name, str(value)]
        capsys.readouterr()
        status = main(["train", "speech", *given])
        printed, err = capsys.readouterr()
        return status, printed, err

    return call


@pytest.fixture
def stopped(train: Train, monkeypatch: pytest.MonkeyPatch) -> Train:
    """``stopped("--steps", 6)``: the command with these options, stopped in its fifth step and begun again."""

    def call(*arguments: object) -> tuple[int, str, str]:
        losses, steps = recipe.Learner.losses, iter(range(100))

        def stop(*given: Any) -> Any:
            if next(steps) == 4:
                raise KeyboardInterrupt
            return losses(*given)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "SAVE_SECONDS", -1.0)
            patch.setattr(recipe.Learner, "losses", stop)
            status, _, err = train(*arguments)
        assert status == 130, err
        return train(*arguments)

    return call
