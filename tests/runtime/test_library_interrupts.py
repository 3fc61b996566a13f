"""Interrupts that wait until nothing is half done, each case in a process of its own.

Where PyTorch and OpenVINO were used in one process, the system cannot deliver an interrupt on the small stack that one
of them set aside for signals once the other asked for wider registers, and ends the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("interrupt_cases.py")
NAMES = [line[4:].split("(")[0] for line in CASES.read_text(encoding="utf-8").splitlines() if line.startswith("def ")]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "interrupt"])
def test_interrupts(name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(CASES), name], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
