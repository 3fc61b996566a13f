"""Runs in the interpreter that has nvidia-modelopt, and nothing of sayclip: quantises one graph over given inputs.

``python -c <this> FOLDER``. The folder holds ``request.json`` (``graph``, ``out``, ``feeds``, ``large``) and the inputs
in ``<number>.npz``. Writes ``out`` and ``answer.json`` (``version``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    """Quantise as NVIDIA's tool does it by itself: its own choice of layers, method and weights."""
    import modelopt
    import numpy
    from modelopt.onnx.quantization import quantize

    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))

    class Reader:
        """What ONNX Runtime's calibration reads from; inputs differ in length, which plain arrays cannot."""

        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

        def get_first(self) -> dict[str, Any] | None:
            self.rewind()
            return self.get_next()

        def rewind(self) -> None:
            self._feeds = iter(_load(numpy, folder / f"{number}.npz") for number in range(request["feeds"]))

    quantize(
        str(folder / request["graph"]),
        quantize_mode="int8",
        calibration_data_reader=Reader(),
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        use_external_data_format=request["large"],
        output_path=str(folder / request["out"]),
        log_level="ERROR",
    )
    (folder / "answer.json").write_text(json.dumps({"version": modelopt.__version__}), encoding="utf-8")


def _load(numpy: Any, path: Path) -> dict[str, Any]:
    with numpy.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
