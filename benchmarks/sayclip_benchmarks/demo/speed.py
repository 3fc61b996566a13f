"""How fast the demo bundle answers, in fresh processes and in bulk."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sayclip
from sayclip_benchmarks.demo.data import Demo
from sayclip_benchmarks.host import environment as host_environment

_ENVIRONMENT = ("cpu", "vnni", "cores", "python", "system", "numpy", "onnxruntime", "pillow", "soundfile", "soxr")
_IMPORT = "import numpy, time; t = time.perf_counter(); import sayclip; print(time.perf_counter() - t)"
_FIRST = """
import sys, sayclip
encoder = sayclip.load(sys.argv[1])
with sayclip.Library.open(sys.argv[2], encoder) as library:
    print(library.search(speech=sys.argv[3], k=5)[0].source)
"""


def environment() -> dict[str, Any]:
    """Processor, cores, Python and the versions that matter: those of ``host.environment`` that stay as they are."""
    found = host_environment.environment()
    return {key: found[key] for key in _ENVIRONMENT if key in found}


def measure(demo: Demo, turns: int = 7) -> dict[str, float]:
    """Seconds (medians of fresh processes, p90 beside them), pictures a second, milliseconds of one query each."""
    bundle = demo.folder / "bundle"
    recording = sorted((demo.folder / "queries").glob("*.wav"))[0]
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.sqlite"
        with sayclip.load(bundle) as encoder:
            encoder.open("image")
            with sayclip.Library.create(path, encoder) as library:
                started = time.perf_counter()
                library.add_many(list(demo.pictures))
                result["pictures_per_second"] = len(demo.pictures) / (time.perf_counter() - started)
                result |= _queries(encoder, library, demo, recording)
        imports, firsts = [], []
        for _ in range(turns):
            imports.append(float(_run([sys.executable, "-c", _IMPORT])[1]))
            firsts.append(_run([sys.executable, "-c", _FIRST, str(bundle), str(path), str(recording)])[0])
    result["import_seconds"] = statistics.median(imports)
    result["first_result_seconds"] = statistics.median(firsts)
    result["first_result_seconds_p90"] = sorted(firsts)[int(0.9 * len(firsts))]
    result["bundle_mb"] = sum(file.stat().st_size for file in bundle.iterdir()) / 1e6
    return result


def _queries(encoder: Any, library: Any, demo: Demo, recording: Path) -> dict[str, float]:
    asks: dict[str, Callable[[], Any]] = {
        "image": lambda: encoder.image(demo.pictures[0]),
        "text": lambda: encoder.text("smiling face with sunglasses"),
        "pronunciation": lambda: encoder.pronunciation("ɹɛd æpəl"),
        "speech": lambda: encoder.speech(recording),
    }
    found: dict[str, float] = {}
    vector = encoder.text("fruit")[0]
    asks["search"] = lambda: library.search_vector(vector, 10)
    for name, ask in asks.items():
        for _ in range(5):
            ask()
        times = []
        for _ in range(60):
            started = time.perf_counter()
            ask()
            times.append(1000 * (time.perf_counter() - started))
        times.sort()
        found[f"{name}_ms"] = statistics.median(times)
        found[f"{name}_ms_p90"] = times[int(0.9 * len(times))]
    return found


def _run(command: list[str]) -> tuple[float, str]:
    """Wall seconds of a fresh process and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, done.stdout.strip()
