"""What is in the tree belongs there: no paths of one machine, no hosts that pip is to ask, no large strays."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(rb"(?<![\w.$}/-])/(?:wo" + rb"rk|tm" + rb"p/\w+|ro" + rb"ot|home/\w+|Us" + rb"ers/\w+)/")
REGISTRIES = re.compile(rb"py" + rb"pi\.org|python" + rb"hosted\.org|download\.py" + rb"torch\.org")
DATA = {".onnx", ".data", ".npz", ".wav", ".webp", ".png"}


def tracked() -> list[Path]:
    """Files that are committed or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def found(pattern: re.Pattern[bytes], text: bytes) -> list[str]:
    """Each hit with its line number."""
    return [
        f"{number}: {hit[0].decode(errors='replace')}"
        for number, line in enumerate(text.splitlines(), 1)
        for hit in pattern.finditer(line)
    ]


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRIES], ids=["machine paths", "registries"])
def test_no_trace_of_one_machine(pattern: re.Pattern[bytes]) -> None:
    hits = {str(path.relative_to(ROOT)): found(pattern, path.read_bytes()) for path in tracked()}
    assert {name: lines for name, lines in hits.items() if lines} == {}


@pytest.mark.parametrize(
    "text", [b"open('/wo" + b"rk/x')", b"cd /ro" + b"ot/y", b"/home/" + b"ann/z", b"/tmp/d" + b"ev/bin"]
)
def test_a_machine_path_is_found(text: bytes) -> None:
    assert found(MACHINE_PATHS, text)


@pytest.mark.parametrize(
    "text", [b"/usr/share/unicode/emoji", b"demo/wo" + b"rk/x", b"wo" + b"rk/", b"$HOME/ro" + b"ot/"]
)
def test_other_paths_pass(text: bytes) -> None:
    assert not found(MACHINE_PATHS, text)


def test_modules_are_short() -> None:
    """About 300 lines, one idea each."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked()
        if path.suffix == ".py" and "tests" not in path.parts
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 330
    }
    assert long == {}


def test_large_files_are_data_of_the_demo() -> None:
    strays = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.stat().st_size > 300_000 and (path.suffix not in DATA or ROOT / "demo" not in path.parents)
    ]
    assert strays == []


def test_scripts_can_be_run() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
