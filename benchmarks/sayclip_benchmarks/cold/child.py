"""A fresh process from its start to the first spoken result, and what the other sides need made beforehand.

    python -m sayclip_benchmarks.cold.child sayclip STARTED LIBRARY RECORDING BUNDLE BACKEND
    python -m sayclip_benchmarks.cold.child torch STARTED LIBRARY RECORDING MODULE WEIGHTS THREADS
    python -m sayclip_benchmarks.cold.child prepare BUNDLE RECORDING FOLDER
    python -m sayclip_benchmarks.cold.child speech STARTED RECORDING BUNDLE PRECISION
    python -m sayclip_benchmarks.cold.child optimum STARTED RECORDING MODEL
    python -m sayclip_benchmarks.cold.child export FOLDER

STARTED is the clock (``time.monotonic``) when the process was asked for. The last line of stdout is JSON. What a side
does not need is not imported before its last moment is taken: this module itself imports next to nothing.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

K = 10
_LATER = 5
_EMPTY = "the library holds no pictures"


class _Moments:
    """The clock after imports, after loading and after the first result, and what a later result takes."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._seen: list[float] = []

    def passed(self) -> None:
        self._seen.append(time.monotonic())

    def told(self, again: Callable[[], Any], **more: Any) -> dict[str, Any]:
        later = []
        for _ in range(_LATER):
            begun = time.monotonic()
            again()
            later.append(time.monotonic() - begun)
        imported, loaded, first = self._seen
        from sayclip_benchmarks.host import peak

        return {
            "import_s": imported - self._started,
            "load_s": loaded - imported,
            "first_s": first - loaded,
            "steady_s": sorted(later)[_LATER // 2],
            "rss_bytes": peak.memory(),
            **more,
        }


def _sayclip(started: str, database: str, recording: str, bundle: str, backend: str) -> dict[str, Any]:
    moments = _Moments(float(started))
    from sayclip import Library, load

    moments.passed()
    encoder = load(bundle, backend=backend)
    encoder.open("speech")
    library = Library.open(database, encoder)
    moments.passed()

    def ask() -> str:
        hits = library.search(speech=recording, k=K)
        if not hits:
            raise ValueError(_EMPTY)
        return hits[0].source

    best = ask()
    moments.passed()
    told = moments.told(ask, found=best)
    chosen = encoder.info()["encoders"]["speech"]
    return {**told, "backend": chosen["backend"], "precision": chosen["precision"]}


def _torch(started: str, database: str, recording: str, module: str, weights: str, threads: str) -> dict[str, Any]:
    moments = _Moments(float(started))
    import importlib
    import sqlite3

    import numpy as np
    import torch

    for name in ("wave", module):
        importlib.import_module(name)
    moments.passed()
    torch.set_num_threads(int(threads))
    # A module that `prepare` wrote just now: the quickest way to have one, without making up weights first.
    model = torch.load(weights, weights_only=False)
    connection = sqlite3.connect(database)
    found = connection.execute("SELECT item_id, vector FROM vectors ORDER BY id").fetchall()
    if not found:
        raise ValueError(_EMPTY)
    rows = np.frombuffer(b"".join(vector for _, vector in found), np.float16).reshape(len(found), -1)
    vectors = rows.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    moments.passed()

    def ask() -> str:
        heard = samples(recording)
        with torch.inference_mode():
            made = model(torch.from_numpy(heard)[None], torch.tensor([len(heard)], dtype=torch.int32))
        query = (made[0] if isinstance(made, tuple) else made)[0].numpy()
        scores = vectors @ query
        best = np.argpartition(-scores, min(K, len(scores)) - 1)[:K]
        ids = [found[place][0] for place in best[np.argsort(-scores[best])]]
        return str(connection.execute("SELECT source FROM items WHERE id = ?", ids[:1]).fetchone()[0])

    best = ask()
    moments.passed()
    return moments.told(ask, found=best)


def _speech(started: str, recording: str, bundle: str, precision: str) -> dict[str, Any]:
    moments = _Moments(float(started))
    from sayclip import load

    moments.passed()
    encoder = load(bundle, precision=precision)
    encoder.open("speech")
    moments.passed()
    encoder.speech(recording)
    moments.passed()
    told = moments.told(lambda: encoder.speech(recording))
    chosen = encoder.info()["encoders"]["speech"]
    return {**told, "backend": chosen["backend"], "precision": chosen["precision"]}


def _optimum(started: str, recording: str, folder: str) -> dict[str, Any]:
    moments = _Moments(float(started))
    import numpy as np
    import torch
    from optimum.onnxruntime import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        ORTModelForFeatureExtraction,
    )

    moments.passed()
    model = ORTModelForFeatureExtraction.from_pretrained(folder)
    moments.passed()

    def ask() -> Any:
        heard = torch.from_numpy(samples(recording))
        return np.asarray(model(input_values=heard[None])[0])  # frames; what a user makes of them is not counted

    ask()
    moments.passed()
    return moments.told(ask)


def _prepare(bundle: str, recording: str, folder: str) -> dict[str, Any]:
    from sayclip_benchmarks.cold.prepare import prepare

    return prepare(bundle, recording, folder)


def _export(folder: str) -> dict[str, Any]:
    """Have optimum export its speech encoder, where that has not been done under ``folder``."""
    from pathlib import Path

    from sayclip_benchmarks.suite.optimum_side import exported

    path = exported("speech", Path(folder))
    return {"folder": str(path.parent), "model_bytes": path.stat().st_size}


def samples(path: str) -> Any:
    """A WAV file of 16-bit PCM and one channel, f32 [S]."""
    import wave

    import numpy as np

    with wave.open(path) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32767


_SIDES: dict[str, Callable[..., dict[str, Any]]] = {
    "sayclip": _sayclip,
    "torch": _torch,
    "prepare": _prepare,
    "speech": _speech,
    "optimum": _optimum,
    "export": _export,
}


def main(arguments: list[str]) -> int:
    import json

    try:
        told = _SIDES[arguments[0]](*arguments[1:])
    except Exception as error:
        from sayclip.errors import MissingDependencyError

        why = " ".join(str(getattr(error, "problem", error)).split())[:300] or type(error).__name__
        print(json.dumps({"error": why, "missing": isinstance(error, (ImportError, MissingDependencyError))}))
        return 1
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
