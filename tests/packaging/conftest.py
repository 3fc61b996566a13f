"""Wheels built from a copy of the tree, and an environment that holds nothing but the runtime and the demo."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its interpreter, its site-packages, and the bytes that the installation added there."""

    python: Path
    site: Path
    added_bytes: int
    demo_bytes: int

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python in ``cwd``, with none of the caller's Python settings."""
        return self._start([str(self.python), *arguments], cwd)

    def sayclip(self, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
        """Run the installed command in ``home``, where it also keeps its cache and its data."""
        return self._start([str(self.python.with_name("sayclip")), *arguments], home)

    def shell(self, line: str, home: Path) -> subprocess.CompletedProcess[str]:
        """Run one shell command in ``home``, with the environment's commands first."""
        return self._start(["sh", "-c", f'PATH="{self.python.parent}:$PATH"; {line}'], home)

    @staticmethod
    def _start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        of_the_caller = ("PYTHON", "VIRTUAL_ENV", "SAYCLIP", "XDG_")
        settings = {k: v for k, v in os.environ.items() if not k.startswith(of_the_caller)} | {"HOME": str(folder)}
        return subprocess.run(command, cwd=folder, env=settings, text=True, capture_output=True, timeout=300)


def folder_bytes(folder: Path) -> int:
    """Sum of the sizes of all files below ``folder``."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def build_wheel(project: Path, out: Path) -> Path:
    """The wheel of ``project``, built from a copy so that the tree stays clean and no old build folder gets in."""
    copy = out / f"source-{project.name}"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("build", "out", "*.egg-info", "__pycache__"))
    wheels = out / f"wheel-{project.name}"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(copy)],
        check=True,
        timeout=300,
    )
    [wheel] = wheels.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def runtime_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's wheel."""
    return build_wheel(ROOT / "runtime", tmp_path_factory.mktemp("runtime-wheel"))


@pytest.fixture(scope="session")
def demo_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's wheel."""
    return build_wheel(ROOT / "demo", tmp_path_factory.mktemp("demo-wheel"))


@pytest.fixture(scope="session")
def clean_environment(runtime_wheel: Path, demo_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A new environment with ``sayclip[cpu]`` and ``sayclip-demo`` from their wheels, and nothing else."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    [site] = (folder / "lib").glob("python*/site-packages")
    before = folder_bytes(site)
    # -E: with a PYTHONPATH of the caller's pip would find the packages in the tree and install nothing.
    install = [str(python), "-E", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, f"{runtime_wheel}[cpu]"], check=True, timeout=600)
    added = folder_bytes(site) - before
    subprocess.run([*install, str(demo_wheel)], check=True, timeout=300)
    return Environment(python, site, added, folder_bytes(site) - before - added)
