"""Interrupts that wait until nothing is half done: run by name, `python interrupt_cases.py NAME`, one a process."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from sayclip.library.interrupts import Interrupts


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def the_first_is_held_until_asked_for():
    reached = []

    def run() -> None:
        with Interrupts() as interrupts:
            interrupt()
            reached.append("after it")
            interrupts.check()
            reached.append("after the check")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert reached == ["after it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def the_end_of_the_block_asks():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        interrupt()


def an_error_is_not_hidden_by_it():
    def run() -> None:
        with Interrupts():
            interrupt()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


def the_second_is_raised_at_once():
    reached = []

    def run() -> None:
        with Interrupts():
            interrupt()
            reached.append(1)
            interrupt()
            reached.append(2)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert reached == [1]


def one_in_foreign_code_is_raised_at_once_and_one_before_it_too():
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.let_through():
            interrupt()
        interrupt()
        with pytest.raises(KeyboardInterrupt), interrupts.let_through():
            raise AssertionError("it began")
        interrupts.check()  # each was raised once


def a_handler_of_the_program_stays():
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    with Interrupts() as interrupts:
        interrupt()
        interrupts.check()
    assert seen == [signal.SIGINT]


def other_threads_leave_the_handler_alone():
    seen = []

    def work() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    globals()[sys.argv[1]]()
