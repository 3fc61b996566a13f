"""Work cut into parts, each done by a fresh process and left as one JSON file: a stopped run goes on where it stopped.

A process for every part, because the synthesisers carry state from one utterance to the next: only in a new one do the
same calls give the same samples, whoever did what before.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sayclip.errors import InputError, SayclipError
from sayclip_training.testbed import heeded
from sayclip_training.testbed.files import write

_PRELOADED = ("sayclip_training.testbed.speech", "sayclip_training.testbed.words")


@dataclass(frozen=True)
class Part:
    """``work(*arguments)`` returns what ``name.json`` will hold; it must be a function of a module."""

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


def run(
    parts: Sequence[Part], folder: Path, workers: int, progress: Callable[[int, int], None] | None = None
) -> list[Any]:
    """Do the parts that have no file yet, ``workers`` at a time; the contents of all, in the order of ``parts``.

    The first part that fails stops the run: SayclipError and OSError come back as InputError with the same words,
    anything else as RuntimeError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [part for part in parts if not (folder / f"{part.name}.json").exists()]
    done = len(parts) - len(missing)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    running: dict[int, tuple[BaseProcess, Connection]] = {}
    waiting = iter(missing)
    try:
        while True:
            while len(running) < workers and (part := next(waiting, None)) is not None:
                process, ear = _start(context, part, folder)
                running[process.sentinel] = (process, ear)
            if not running:
                break
            heeded.check()
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                process, ear = running.pop(sentinel)
                process.join()
                _check(process, ear)
                done += 1
                if progress:
                    progress(done, len(parts))
    finally:
        for process, _ in running.values():
            process.terminate()
    return [json.loads((folder / f"{part.name}.json").read_text(encoding="utf-8")) for part in parts]


def _start(context: Any, part: Part, folder: Path) -> tuple[BaseProcess, Connection]:
    ear, mouth = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(part, folder, mouth), daemon=True)
    process.start()
    mouth.close()
    return process, ear


def _do(part: Part, folder: Path, mouth: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    problem = remedy = ""
    try:
        content = json.dumps(part.work(*part.arguments), ensure_ascii=False)
        write(folder / f"{part.name}.json", content.encode())
    except SayclipError as error:
        problem, remedy = error.problem, error.remedy
    except OSError as error:
        problem = f"{error.filename or folder} cannot be written ({error.strerror or error})"
        remedy = "make room for it"
    except Exception:
        problem = traceback.format_exc()
    with suppress(BrokenPipeError):  # the parent was killed; what was made is there
        mouth.send((problem, remedy))


def _check(process: BaseProcess, ear: Connection) -> None:
    try:
        problem, remedy = ear.recv()
    except EOFError:
        problem, remedy = f"a process ended with status {process.exitcode}", ""
    finally:
        ear.close()
    if remedy:
        raise InputError(problem, remedy)
    if problem:
        raise RuntimeError(problem)
