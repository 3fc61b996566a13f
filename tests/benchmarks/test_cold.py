"""Cold starts of the demo bundle over a few pictures, in real processes."""

from __future__ import annotations

import importlib.util
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sayclip
from sayclip.errors import InputError
from sayclip_benchmarks.cold import child as cold_child
from sayclip_benchmarks.cold import demo as cold
from sayclip_benchmarks.cold import starting
from sayclip_benchmarks.cold.demo import Candidate
from sayclip_benchmarks.demo.data import Demo, read_demo

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ("emoji_u1f34e.webp", "emoji_u1f431.webp", "emoji_u1f692.webp", "emoji_u1f3b8.webp")
OURS, TORCH = Candidate("sayclip", "onnxruntime"), Candidate("torch")
with_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch")


@pytest.fixture(scope="module")
def demo() -> Demo:
    return read_demo(ROOT / "demo" / "sayclip_demo")


@pytest.fixture(scope="module")
def library(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cold") / "library.sqlite"
    with (
        sayclip.load(demo.folder / "bundle", backend="onnxruntime", precision="fp32") as encoder,
        sayclip.Library.create(path, encoder) as made,
    ):
        made.add_many([demo.folder / "pictures" / name for name in PICTURES])
    return path


@pytest.fixture(scope="module")
def apple(demo: Demo) -> Path:
    return demo.folder / "queries" / "02-red-apple.wav"


@with_torch
def test_a_start_is_split_and_sums_up(demo: Demo, library: Path, apple: Path) -> None:
    ours, torch = cold.starts(demo.folder / "bundle", library, apple, 1, [OURS, TORCH])
    assert ours["candidate"].startswith("onnxruntime ")
    assert torch["candidate"] == "torch fp32"
    for start in (ours, torch):
        assert (start["status"], start["why"], start["runs"]) == ("ok", "", 1)
        assert start["what"] == "spoken query over the demo library"
        assert all(start[key] > 0 for key in ("import_s", "load_s", "first_s", "steady_s"))
        assert math.isclose(start["total_s"], start["import_s"] + start["load_s"] + start["first_s"])
        assert start["steady_s"] < start["total_s"] < 60
        assert 20_000_000 < start["rss_bytes"] < 2_000_000_000
    # What PyTorch brings along is far more than all of what sayclip does.
    assert ours["total_s"] < torch["total_s"]
    assert ours["rss_bytes"] < torch["rss_bytes"]


def test_what_is_timed_finds_the_picture(demo: Demo, library: Path, apple: Path) -> None:
    told = child("sayclip", "0.0", str(library), str(apple), str(demo.folder / "bundle"), "onnxruntime")
    assert Path(told["found"]).name == "emoji_u1f34e.webp"
    assert told["backend"] == "onnxruntime"


@with_torch
def test_pytorch_is_the_same_encoder_and_hears_the_same_wave(
    demo: Demo, library: Path, apple: Path, tmp_path: Path
) -> None:
    import onnx

    from sayclip.bundle.manifest import Manifest
    from sayclip.preparation import Preparation

    bundle = demo.folder / "bundle"
    told = child("prepare", str(bundle), str(apple), str(tmp_path))
    weights = onnx.load(str(bundle / "speech.fp32.onnx")).graph.initializer
    held = sum(math.prod(tensor.dims) for tensor in weights if not tensor.name.startswith("tower.front."))
    assert told["parameters"] == pytest.approx(held, rel=0.02)
    [wave] = Preparation(Manifest.read(bundle)).recordings(None, [apple])
    heard = cold_child.samples(str(tmp_path / "query.wav"))
    assert heard.shape == wave.shape
    assert np.abs(heard - wave).max() < 1e-4
    assert told["same"] is True
    paths = (str(library), str(tmp_path / "query.wav"), told["module"], str(tmp_path / "module.pt"))
    assert Path(child("torch", "0.0", *paths, "1")["found"]).name == "emoji_u1f34e.webp"


def child(*arguments: str) -> dict[str, Any]:
    return starting.answer(arguments, 60.0)


def test_the_pytorch_side_imports_nothing_of_sayclip() -> None:
    code = (
        "import sys; import sayclip_benchmarks.cold.child, sayclip_export.models.phonetic;"
        "print([name for name in ('sayclip', 'onnx', 'onnxruntime', 'transformers', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_cannot_run_is_a_record(demo: Demo, library: Path, apple: Path) -> None:
    absent = Candidate("sayclip", "openvino", "OpenVINO cannot be imported")
    nowhere = Candidate("sayclip", "no-such-backend")
    first, second = cold.starts(demo.folder / "bundle", library, apple, 1, [absent, nowhere])
    assert (first["candidate"], first["status"], first["why"]) == (
        "openvino",
        "missing",
        "OpenVINO cannot be imported",
    )
    assert second["status"] == "failed"
    assert "no backend 'no-such-backend'" in second["why"]
    assert "total_s" not in second


def test_an_empty_library_is_told(demo: Demo, apple: Path, tmp_path: Path) -> None:
    bundle = demo.folder / "bundle"
    with sayclip.load(bundle) as encoder:
        sayclip.Library.create(tmp_path / "empty.sqlite", encoder).close()
    [start] = cold.starts(bundle, tmp_path / "empty.sqlite", apple, 1, [OURS])
    assert (start["status"], start["why"]) == ("failed", "the library holds no pictures")


def other_child(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the processes that are started do something else."""
    (folder / "other_child.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(starting, "_CHILD", "other_child")


def test_a_start_that_hangs_is_ended(
    demo: Demo, library: Path, apple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_child("import time; time.sleep(30)", tmp_path, monkeypatch)
    begun = time.monotonic()
    [start] = cold.starts(demo.folder / "bundle", library, apple, 1, [OURS], limit_s=0.5)
    assert time.monotonic() - begun < 10
    assert start["status"] == "failed"
    assert start["why"] == "no result within 0.5 s, so its process was ended"


def test_a_process_that_is_killed_is_told(
    demo: Demo, library: Path, apple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_child(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", tmp_path, monkeypatch)
    [start] = cold.starts(demo.folder / "bundle", library, apple, 1, [OURS])
    assert (start["status"], start["why"]) == ("failed", "its process ended by signal 9, without a result")


def test_no_runs_are_refused(demo: Demo, library: Path, apple: Path) -> None:
    with pytest.raises(InputError, match="runs is 0"):
        cold.starts(demo.folder / "bundle", library, apple, 0)


def test_peak_memory_is_the_programs_own() -> None:
    """Not its parent's, which Linux counts in ``getrusage`` of what it starts."""
    ballast = np.ones(300_000_000, np.uint8)
    code = "from sayclip_benchmarks.host import peak; print(peak.memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ballast.all()
    assert 1_000_000 < int(done.stdout) < 100_000_000


def test_candidates_are_told_even_where_they_cannot_run() -> None:
    found = cold.all_candidates()
    assert [one.label for one in found][:1] == ["auto"]
    assert {"onnxruntime", "openvino", "torch fp32"} <= {one.label for one in found}


def test_the_demo_library_is_made_once(demo: Demo, tmp_path: Path) -> None:
    few = replace(demo, pictures=demo.pictures[:3])
    path = cold.demo_library(few, tmp_path / "work")
    stamp = path.stat().st_mtime_ns
    assert cold.demo_library(few, tmp_path / "work") == path
    assert path.stat().st_mtime_ns == stamp


def test_every_start_has_compiled_byte_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed package has it, even where the environment forbids to write any."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "import sys; from sayclip import errors; print(errors.__cached__, sys.dont_write_bytecode)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=starting.environment(tmp_path / "bytecode")
    )
    cached, forbidden = done.stdout.split()
    assert forbidden == "False"
    assert Path(cached).is_relative_to(tmp_path / "bytecode")
    assert Path(cached).is_file()
