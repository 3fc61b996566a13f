"""``sayclip[cpu]`` resolves to wheels alone on the Pythons and machines it is meant for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]
GLIBC = range(28, 16, -1)  # 2.28, which every supported system has, down to what older wheels name

pytestmark = pytest.mark.network


def requirements(*extras: str) -> list[str]:
    """The runtime's own requirements and those of ``extras``; pip refuses folders together with --only-binary."""
    project = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(line for e in extras for line in project["optional-dependencies"][e])]


def resolve(wanted: list[str], python: str, machine: str, tmp_path: Path) -> dict[str, str]:
    """What pip would install: the wheel's file name by distribution. Nothing is installed."""
    report = tmp_path / "report.json"
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", python),
            *(word for platform in platforms for word in ("--platform", platform)),
            *("--target", str(tmp_path / "target"), "--report", str(report), *wanted),
        ],
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {item["metadata"]["name"].lower(): item["download_info"]["url"].rsplit("/", 1)[-1] for item in chosen}


@pytest.mark.parametrize(
    ("python", "machine", "extras"),
    [
        ("3.10", "x86_64", ["cpu"]),
        ("3.10", "aarch64", ["cpu"]),
        ("3.12", "x86_64", ["cpu"]),
        ("3.12", "aarch64", ["cpu"]),
        ("3.10", "aarch64", ["cpu", "phonemes", "index"]),  # JetPack 6, with everything that is optional
    ],
)
def test_wheels_alone(python: str, machine: str, extras: list[str], tmp_path: Path) -> None:
    wheels = resolve(requirements(*extras), python, machine, tmp_path)
    assert {"numpy", "pillow", "soundfile", "soxr"} <= wheels.keys()
    for name, wheel in wheels.items():
        assert wheel.endswith(".whl"), f"{name} comes as {wheel}"
        assert wheel.endswith("-any.whl") or machine in wheel, f"{name} is for another machine: {wheel}"
    assert f"-cp{python.replace('.', '')}-" in wheels["numpy"]
    assert f"-cp{python.replace('.', '')}-" in wheels["onnxruntime"]
    assert not {"torch", "onnx", "transformers", "scipy", "librosa"} & wheels.keys()


def test_an_impossible_requirement_is_noticed(tmp_path: Path) -> None:
    """The check above can fail: no release of onnxruntime later than 1.23 has wheels for Python 3.10."""
    with pytest.raises(AssertionError, match="onnxruntime"):
        resolve(["onnxruntime>=1.24,<2"], "3.10", "x86_64", tmp_path)
