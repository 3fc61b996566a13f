"""ONNX Runtime 1.31 and later keep an id of the device and look for a server to send it to: not under sayclip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sayclip
from pathlib import Path
encoder = sayclip.load({bundle!r})
print(encoder.text("a cat").shape)
"""


def test_nothing_is_kept_and_nobody_called(tiny_bundle: Path, tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"} | folders
    code = CODE.format(bundle=str(tiny_bundle))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    left = [path for path in tmp_path.rglob("*") if "icrosoft" in path.name or "onnxruntime" in path.name.lower()]
    assert left == []
