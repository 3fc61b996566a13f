"""An interrupt that a destructor swallows is raised at the next turn, and the handler of before comes back."""

from __future__ import annotations

import signal
import threading

import pytest

from sayclip_training.testbed.heeded import _seen, check, heeded


class Swallows:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def interrupted_while_it_is_destroyed(turn: bool) -> list[str]:
    """How far this comes: an interrupt in a destructor is printed and forgotten."""
    reached = []
    with heeded():
        swallows = Swallows()
        del swallows
        reached.append("destroyed")
        with pytest.raises(KeyboardInterrupt):
            check()
        reached.append("checked")
        if not turn:
            _seen.clear()
    return reached


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_is_swallowed_is_raised_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert interrupted_while_it_is_destroyed(turn=False) == ["destroyed", "checked"]
    with pytest.raises(KeyboardInterrupt):
        interrupted_while_it_is_destroyed(turn=True)
    assert signal.getsignal(signal.SIGINT) is before
    with heeded():
        check()


def goes_on() -> None:
    with heeded():
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")


def test_an_interrupt_that_is_not_comes_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        goes_on()


def test_other_threads_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with heeded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
