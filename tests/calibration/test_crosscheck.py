"""The other tool runs in a process of its own: missing or broken, it is a line; installed, it is compared."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayclip.errors import BackendError, MissingDependencyError
from sayclip_calibration import crosscheck as module
from sayclip_calibration.crosscheck import PYTHON, crosscheck, interpreter
from sayclip_calibration.data import Sample
from sayclip_calibration.gates import Gate, Limits

HAVE = bool(os.environ.get(PYTHON)) or importlib.util.find_spec("modelopt") is not None


def samples(count: int) -> list[Sample]:
    rng = np.random.default_rng(count)
    found = []
    for number in range(count):
        ids = rng.integers(0, 500, (1, 3 + number), dtype=np.int32)
        feed: dict[str, Any] = {"token_ids": ids, "length": np.array([ids.shape[1]], np.int32)}
        found.append(Sample(f"text {number}", frozenset(), feed, f"{number:064x}"))
    return found


def stand_in(path: Path, body: str) -> str:
    """A program that takes ``-c SOURCE FOLDER`` as a Python would, and does something else."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PYTHON, str(tmp_path / "nowhere" / "python"))
    with pytest.raises(
        MissingDependencyError, match=r"cannot be run \(No such file or directory\): pip install"
    ) as error:
        interpreter()
    assert "nowhere" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_interpreter_that_cannot_be_executed_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PYTHON, str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"cannot be run \(Permission denied\)"):
        interpreter()


@pytest.mark.parametrize("body", ["echo 'No module named modelopt' >&2; exit 1", "kill -9 $$"])
def test_a_broken_interpreter_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    monkeypatch.setenv(PYTHON, stand_in(tmp_path / "python", body))
    with pytest.raises(
        MissingDependencyError, match=r"needs nvidia-modelopt, which .*python .* does not have"
    ) as error:
        interpreter()
    assert "\n" not in str(error.value)


def test_without_it_this_python_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    monkeypatch.setattr(module, "_PROBE", "import a_package_that_nobody_has")
    with pytest.raises(MissingDependencyError, match=r"this Python does not have .*a_package_that_nobody_has"):
        interpreter()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'Segmentation fault' >&2; exit 139", r"ends with status 139 for text.fp32.onnx \(Segmentation fault\)"),
        ("exit 0", r"ends with status 0 for text.fp32.onnx"),  # and wrote nothing
    ],
)
def test_a_tool_that_fails_is_one_line_and_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, body: str, message: str
) -> None:
    python, room = stand_in(tmp_path / "python", body), tmp_path / "room"
    room.mkdir()
    graph = tiny_bundle / "text.fp32.onnx"
    before = graph.read_bytes()
    with pytest.raises(BackendError, match=message):
        crosscheck(python, graph, [], samples(4), samples(3), Gate(), 1, room)
    assert list(room.iterdir()) == []
    assert graph.read_bytes() == before


def test_what_the_tool_writes_is_judged_by_the_same_gate(tiny_bundle: Path, tmp_path: Path) -> None:
    """With a stand-in that gives the graph back as it is, and looks whether it got all the inputs."""
    body = 'cd "$3" && [ -f 3.npz ] && [ ! -f 4.npz ] && cp text.fp32.onnx made/int8.onnx && '
    body += """printf '{"version": "9"}' > answer.json"""
    python = stand_in(tmp_path / "python", body)
    graph = tiny_bundle / "text.fp32.onnx"
    names = tuple(sample.name for sample in samples(3))
    found = crosscheck(python, graph, [], samples(4), samples(3), Gate(Limits(), samples=names), 1, tmp_path)
    assert found["passed"]
    assert found["tool"] == "nvidia-modelopt"
    assert found["version"] == "9"
    assert found["mean_cosine"] == pytest.approx(1.0)
    assert found["worst_sample"] in names
    assert found["bytes"] == graph.stat().st_size


@pytest.mark.skipif(not HAVE, reason=f"nvidia-modelopt is not installed, and ${PYTHON} names no Python that has it")
def test_the_real_tool_quantises_and_the_bundle_stays_as_it_is(tiny_bundle: Path, tmp_path: Path) -> None:
    graph = tiny_bundle / "image.fp32.onnx"
    before, room = graph.read_bytes(), tmp_path / "room"
    room.mkdir()
    rng = np.random.default_rng(0)
    pictures = [
        Sample(str(n), frozenset(), {"pixels": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)}, f"{n:064x}")
        for n in range(12)
    ]
    found = crosscheck(interpreter(), graph, [], pictures[:8], pictures[8:], Gate(Limits(0, 0)), 1, room)
    assert found["version"]
    assert 0.9 < found["mean_cosine"] <= 1.0
    assert list(room.iterdir()) == []
    assert graph.read_bytes() == before
