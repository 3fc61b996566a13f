"""An interrupt that a destructor swallows is raised at the next turn, and the handler of before comes back.

Each case is a process of its own: where PyTorch and OpenVINO share one, a signal may end it.
"""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from sayclip_training.testbed.heeded import heeded

BEGINNING = """
import signal
from sayclip_training.testbed.heeded import check, heeded

class Swallows:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

before = signal.getsignal(signal.SIGINT)
try:
    with heeded():
"""
ENDING = """
except KeyboardInterrupt:
    print("interrupted")
print(signal.getsignal(signal.SIGINT) is before)
"""


@pytest.mark.parametrize(
    ("lines", "printed"),
    [
        (["swallows = Swallows()", "del swallows", "print('goes on')", "check()", "print('too far')"], ["goes on"]),
        (["swallows = Swallows()", "del swallows", "print('goes on')"], ["goes on"]),
        (["signal.raise_signal(signal.SIGINT)", "print('too far')"], []),
    ],
    ids=["at the next turn", "at the end", "at once"],
)
def test_no_interrupt_is_lost(lines: list[str], printed: list[str]) -> None:
    code = BEGINNING + "".join(f"        {line}\n" for line in lines) + ENDING
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n") == [*printed, "interrupted", "True", ""]
    assert ("Exception ignored" in done.stderr) == bool(printed)


def test_without_an_interrupt_nothing_happens() -> None:
    code = BEGINNING + "        check()\n" + ENDING
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


def test_other_threads_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with heeded():
            seen.append("there")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["there"]
