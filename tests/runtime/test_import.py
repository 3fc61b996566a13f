"""What importing costs, and what the main job never imports."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import sayclip

RUNTIME = Path(sayclip.__file__).parents[1]
NEVER = {
    "torch",
    "onnx",
    "onnxscript",
    "transformers",
    "optimum",
    "scipy",
    "librosa",
    "tokenizers",
    "requests",
    "httpx",
}
LATE = {"onnxruntime", "PIL", "soundfile", "soxr", "sqlite3", "usearch", "phonemizer"}


def python(code: str, *arguments: str, **settings: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), **settings}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_import_is_quick(tmp_path: Path) -> None:
    """At most 0.15 s more than numpy: medians of fresh processes, with the names that programs use.

    In time of the processor, so that other work on the machine does not matter; importing waits for nothing else.
    """
    code = (
        "import numpy; from time import process_time as now; start = now();"
        "import sayclip; sayclip.load, sayclip.Encoder, sayclip.Library, sayclip.InputError;"
        "print(now() - start)"
    )
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # as an installed package is
    python(code, **compiled)
    assert statistics.median(float(python(code, **compiled)) for _ in range(5)) <= 0.15


def test_import_brings_little() -> None:
    loaded = set(json.loads(python("import sayclip, sys, json; print(json.dumps(list(sys.modules)))")))
    assert not loaded & (LATE | NEVER | {"numpy"})
    code = "import sayclip, sys, json; sayclip.load, sayclip.Library; print(json.dumps(list(sys.modules)))"
    assert not set(json.loads(python(code))) & ((LATE - {"sqlite3"}) | NEVER)


def test_the_main_job_imports_nothing_heavy(tiny_bundle: Path, tmp_path: Path) -> None:
    """Index, search by everything, info: one process, and a look at what was imported."""
    code = """
import contextlib, io, json, sys
import numpy, soundfile
from PIL import Image
from sayclip.cli.main import main
bundle, folder = sys.argv[1:]
Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype="uint8")).save(folder + "/a.png")
soundfile.write(folder + "/a.wav", numpy.random.default_rng(0).normal(size=44100) * 0.1, 44100)
where = ["--bundle", bundle, "--library", folder + "/a.sqlite"]
query = ["red", "--speech", folder + "/a.wav", "--ipa", "kæt", "--image", folder + "/a.png"]
with contextlib.redirect_stdout(io.StringIO()):
    codes = [main(["index", folder, *where]), main(["search", *query, *where]), main(["info", bundle])]
print(json.dumps([codes, sorted({name.split(".")[0] for name in sys.modules})]))
"""
    codes, loaded = json.loads(python(code, str(tiny_bundle), str(tmp_path)))
    assert codes == [0, 0, 0]
    assert {"onnxruntime", "PIL", "soundfile", "soxr"} <= set(loaded)
    assert not set(loaded) & (NEVER | {"phonemizer", "matplotlib", "pandas"})


def test_a_spoken_query_brings_only_what_it_takes(tiny_bundle: Path, tmp_path: Path) -> None:
    """A plain recording and a choice made before: nothing that decodes, adds, logs or writes is imported."""
    code = """
import json, sys, wave
import numpy
import sayclip
bundle, folder = sys.argv[1:]
with wave.open(folder + "/a.wav", "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(16000)
    file.writeframes(numpy.random.default_rng(0).normal(0, 3000, 16000).astype("<i2").tobytes())
encoder = sayclip.load(bundle, backend="onnxruntime")
encoder.open("speech")
with sayclip.Library.open_or_create(folder + "/a.sqlite", encoder) as library:
    if not len(library):
        library.add(numpy.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype="uint8"))
    assert len(library.search(speech=folder + "/a.wav")) == 1
print(json.dumps(sorted(sys.modules)))
"""
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    python(code, str(tiny_bundle), str(tmp_path), **cache)
    loaded = set(json.loads(python(code, str(tiny_bundle), str(tmp_path), **cache)))
    unneeded = {"soundfile", "soxr", "PIL", "logging", "concurrent.futures", "tempfile", "zipfile", "numpy.ma"}
    assert not loaded & (unneeded | NEVER | {"sayclip.inputs.pictures", "sayclip.library.ingest", "usearch"})
    assert "onnxruntime" in loaded


def test_public_names() -> None:
    assert set(sayclip.__all__) <= set(dir(sayclip))
    for name in sayclip.__all__:
        assert getattr(sayclip, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sayclip.nothing
    for name in dir(sayclip.errors):
        error = getattr(sayclip.errors, name)
        if isinstance(error, type) and issubclass(error, Exception):
            assert getattr(sayclip, name) is error
    assert (RUNTIME / "sayclip" / "py.typed").exists()
