"""The README does what it says: links lead somewhere, targets exist, commands and Python run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Environment

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {"index", "search", "info", "doctor", "build", "export", "calibrate", "train", "bench"}


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[str]:
    """Lines of the shell blocks that start with ``program``, without their comments."""
    lines = (line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines())
    return [line for line in lines if line.split(" ")[0] == program]


@pytest.mark.parametrize("document", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("*.md")))
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("https://", "#")):
            assert (ROOT / target.split("#")[0]).exists(), target


def test_folders_named_in_tables_exist() -> None:
    folders = re.findall(r"^\| `([a-z]+)/` \|", README, re.MULTILINE)
    assert {"runtime", "export", "calibration", "training", "benchmarks", "demo"} <= set(folders)
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", README, re.MULTILINE))
    assert {"demo", "test", "lint", "bench-demo"} <= named
    for target in named:
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), f"no target {target}"


def test_commands_named_in_the_text_exist() -> None:
    named = set(re.findall(r"(?:^|`)sayclip ([a-z]+)", README, re.MULTILINE))
    assert {"search", "index"} <= named <= COMMANDS


def test_extras_named_in_the_text_exist() -> None:
    project = "".join((ROOT / place / "pyproject.toml").read_text(encoding="utf-8") for place in ("runtime", "."))
    for extras in re.findall(r"\[([a-z,]+)\][`'/]", README):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"no extra {extra}"


def test_figures_have_their_place() -> None:
    for section in ("figures", "int8", "bench"):
        assert README.count(f"<!-- {section}:begin -->") == README.count(f"<!-- {section}:end -->") == 1
        assert README.index(f"<!-- {section}:begin -->") < README.index(f"<!-- {section}:end -->")


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help", f"PYTHON={sys.executable}"], cwd=ROOT, text=True, capture_output=True
    )
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[0].split()
    assert [line.split()[1] for line in shown.stdout.splitlines()] == phony


@pytest.fixture(scope="module")
def newcomer(clean_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the recording and the pictures that the README names."""
    home = tmp_path_factory.mktemp("newcomer")
    data = clean_environment.site / "sayclip_demo"
    pictures = sorted((data / "pictures").glob("*.webp"))
    (home / "Pictures").mkdir()
    for path in pictures[:20]:
        shutil.copy(path, home / "Pictures")
    names = set(re.findall(r'"(\w+\.webp)"', "".join(blocks("python"))))
    assert names
    for name, path in zip(sorted(names), pictures, strict=False):
        shutil.copy(path, home / name)
    shutil.copy(min((data / "queries").glob("*.wav")), home / "my.wav")
    return home


@pytest.mark.network
@pytest.mark.slow
def test_commands_run_as_they_stand(clean_environment: Environment, newcomer: Path) -> None:
    lines = commands("sayclip")
    assert len(lines) >= 3
    for line in lines:
        done = clean_environment.shell(line, home=newcomer)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert done.stdout.strip()


@pytest.mark.network
@pytest.mark.slow
def test_the_python_version_runs_as_it_stands(clean_environment: Environment, newcomer: Path) -> None:
    [source] = blocks("python")
    done = clean_environment.run("-c", source, cwd=newcomer)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(-?\d\.\d{3} \S+\.webp\n){2}", done.stdout), done.stdout
