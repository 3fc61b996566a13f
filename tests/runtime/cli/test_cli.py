"""The command line as a whole: usage, errors, the toolkit's commands, processes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sayclip
from sayclip.cli import output
from sayclip.cli.main import main

RUNTIME = Path(sayclip.__file__).parents[1]
Run = Callable[..., "tuple[int, str, str]"]
Draw = Callable[[Path, int], Path]
ONE_LINE = re.compile(r"sayclip.*\n")


@pytest.mark.parametrize("command", ["export", "calibrate", "train", "bench"])
def test_commands_of_the_toolkit_say_what_to_install(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **how: ())
    toolkit_installed(None, monkeypatch)
    status, out, err = run(command, "x", "--any", "thing")
    assert (status, out) == (2, "")
    assert "pip install ./runtime[cpu] ." in err
    assert ONE_LINE.fullmatch(err)
    assert f"\n    {command}" in run("--help")[1]


def toolkit_installed(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the distribution sayclip-toolkit be there in ``version``, or not at all."""

    def find(name: str) -> str:
        if name != "sayclip-toolkit" or version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr("importlib.metadata.version", find)


def test_a_toolkit_without_the_command_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing what is installed would not help."""
    toolkit_installed("0.1.0", monkeypatch)
    points = [Point("train", lambda commands: commands.add_parser("train")), Point("bench", ImportError("no torch"))]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    status, out, err = run("calibrate", "bundle", "--any", "thing")
    assert (status, out) == (2, "")
    assert "`sayclip calibrate` is not in this version of the toolkit yet (0.1.0 is installed)" in err
    assert "it has bench, train" in err
    assert "pip install" not in err
    assert ONE_LINE.fullmatch(err)
    status, out, _ = run("--help")
    assert status == 0
    assert "not in this version of the toolkit" in " ".join(out.split())
    assert "pip install" not in out


class Point:
    """An entry point of an installed toolkit."""

    def __init__(self, name: str, add: Callable[[Any], None] | Exception) -> None:
        self.name, self.add = name, add

    def load(self) -> Callable[[Any], None]:
        if isinstance(self.add, Exception):
            raise self.add
        return self.add


def test_commands_of_an_installed_toolkit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(commands: Any) -> None:
        parser = commands.add_parser("export", help="really export")
        parser.add_argument("what")
        parser.set_defaults(run=lambda arguments: print(f"exported {arguments.what}"))

    def fails(commands: Any) -> None:
        commands.add_parser("bench").set_defaults(run=lambda arguments: 2)

    points = [Point("export", add), Point("train", ImportError("no torch")), Point("bench", fails), Point("info", add)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == "sayclip.commands" else [])
    assert run("export", "clip") == (0, "exported clip\n", "")
    assert run("bench")[0] == 2
    status, _, err = run("train")
    assert (status, "`sayclip train` cannot start (no torch)" in err) == (2, True)
    status, out, _ = run("--help")
    assert status == 0
    assert "really export" in out
    assert "calibrate" in out


def test_usage(run: Run) -> None:
    assert run("--version") == (0, f"sayclip {sayclip.__version__}\n", "")
    status, out, err = run()
    assert (status, err) == (0, "")
    assert "usage: sayclip" in out
    status, out, err = run("find")
    assert (status, out) == (2, "")
    assert "there is no command 'find': use one of index, search, info, build, doctor, export" in err
    assert ONE_LINE.fullmatch(err)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyError("x"), 1, "this is a bug (KeyError: 'x'); SAYCLIP_DEBUG=1 shows where"),
        (ValueError("a\nb\x1b[2J"), 1, "this is a bug (ValueError: a b [2J)"),
        (MemoryError(), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (sayclip.InputError("a\nb", "c"), 2, "sayclip: a b: c"),
    ],
)
def test_whatever_happens_is_one_line(
    error: BaseException, status: int, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("sayclip.encoder.load", fail)
    seen, out, err = run("info")
    assert (seen, out) == (status, "")
    assert message in err
    assert ONE_LINE.fullmatch(err)
    if status == 1:
        with pytest.raises(type(error)):
            main(["--debug", "info"])
        os.environ.pop("SAYCLIP_DEBUG")


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with output.Progress("indexing") as progress:
        progress(1, 4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with output.Progress("indexing") as progress:
        progress(1, 4)
        progress(2, 4)  # too soon to be worth drawing
        progress(4, 4)
    drawn = capsys.readouterr().err.split("\r")
    assert drawn[1].startswith("indexing [######..................] 1/4")
    assert drawn[2].startswith("indexing [########################] 4/4")
    assert drawn[-1] == ""
    with output.Progress("reading") as progress:
        progress(7, None)
    assert "reading 7" in capsys.readouterr().err


def test_sizes() -> None:
    assert [output.size(count) for count in (0, 999, 1000, 2_500_000, 10**13)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "10000.0 GB",
    ]


def process(*arguments: object, **how: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), **how.pop("env", {})}
    command = [sys.executable, "-m", "sayclip", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)


def test_a_process_ends_with_two_and_one_line(tmp_path: Path) -> None:
    running = process("search", "cat", "--bundle", tmp_path)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (2, "")
    assert "holds no bundle.json" in err
    assert ONE_LINE.fullmatch(err)


def test_a_reader_that_goes_away_is_no_error(bundle: Path) -> None:
    running = process("info", "--json")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.wait(60) == 141


def test_terminals_of_few_characters(bundle: Path, pictures: Path, run: Run) -> None:
    run("index", pictures)
    running = process("search", "--ipa", "kæt", env={"PYTHONIOENCODING": "ascii"})
    assert running.wait(60) == 0
    running = process("search", "--ipa", "kæt", "--json", env={"PYTHONIOENCODING": "ascii"})
    assert json.loads(running.communicate(timeout=60)[0])["queries"][0]["query"] == "kæt"


def test_interrupted_indexing_keeps_what_it_has(draw: Draw, bundle: Path, tmp_path: Path, run: Run) -> None:
    for seed in range(300):
        draw(tmp_path / "many" / f"{seed}.png", seed)
    library = tmp_path / "a.sqlite"
    # A bar is drawn only on a terminal, so look at the library itself for the first commit.
    running = process("index", tmp_path / "many", "--library", library)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        if library.exists() and library.with_name("a.sqlite-wal").exists():
            break
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    if running.returncode != 0:  # else it was faster
        assert running.returncode == 130
        assert err == "sayclip: interrupted; what was stored is kept\n"
    status, out, _ = run("index", tmp_path / "many", "--library", library)
    assert status == 0
    assert "holds 300 pictures" in out
