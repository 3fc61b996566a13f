"""The ``sayclip`` command: finds the subcommand, runs it, and turns every error into one line and an exit status.

0 is success, 2 what the user can mend, 130 an interruption, 1 a bug of sayclip. Subcommands of the toolkit come through
the entry-point group ``sayclip.commands``: each is a function ``add(subparsers)`` that adds one parser and calls its
``set_defaults(run=function)``, where ``function(arguments)`` returns the exit status or None for 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sayclip import __version__
from sayclip.cli import build, doctor, index, info, search
from sayclip.cli.output import error_line, printable_streams
from sayclip.errors import InputError, MissingDependencyError, SayclipError

GROUP = "sayclip.commands"
OWN = {"index": index.add, "search": search.add, "info": info.add, "build": build.add, "doctor": doctor.add}
TOOLKIT = {
    "export": "turn a published checkpoint into a bundle",
    "calibrate": "add int8 graphs to a bundle",
    "train": "train encoders",
    "bench": "measure speed and accuracy",
}
_INSTALL = "`pip install ./runtime[cpu] .` in sayclip's source folder"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, error_line(f"{message} (see `{self.prog} --help`)", self.prog) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own); returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    printable_streams()
    if not os.environ.get("SAYCLIP_DEBUG"):
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what a damaged picture lacks is reported as an error
    try:
        try:
            status = _run(arguments)
        finally:
            sys.stdout.flush()
        return status
    except SystemExit as stop:  # argparse, after --help or an error of usage
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BrokenPipeError:
        # The reader went away, as `head` does. Nothing may be written any more, not even by the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print(error_line("interrupted; what was stored is kept"), file=sys.stderr)
        return 130
    except SayclipError as error:
        print(error_line(str(error)), file=sys.stderr)
        return 2
    except OSError as error:  # what no part foresaw: a full disk behind stdout, a folder that cannot be made
        if os.environ.get("SAYCLIP_DEBUG"):
            raise
        where = f" {error.filename}" if error.filename else ""
        print(error_line(f"{error.strerror or error}{where}: make room, or name another place"), file=sys.stderr)
        return 2
    except MemoryError:
        print(error_line("out of memory: give less at a time, or use a smaller bundle"), file=sys.stderr)
        return 2
    except Exception as error:
        if os.environ.get("SAYCLIP_DEBUG"):
            raise
        seen = f"{type(error).__name__}: {error}"
        print(error_line(f"this is a bug ({seen}); SAYCLIP_DEBUG=1 shows where, please report it"), file=sys.stderr)
        return 1


def _run(arguments: list[str]) -> int:
    parser = Parser(prog="sayclip", description="Search pictures by speaking, typing or IPA.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sayclip {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error came from (as SAYCLIP_DEBUG=1)")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for add in OWN.values():
        add(commands)
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command not in OWN:  # looking for the toolkit takes longer than everything else here
        _add_toolkit(commands, command)
    chosen = parser.parse_args(arguments)
    if chosen.debug:
        os.environ["SAYCLIP_DEBUG"] = "1"
    run: Callable[[argparse.Namespace], int | None] | None = getattr(chosen, "run", None)
    if run is None:
        parser.print_help()
        return 0
    return run(chosen) or 0


def _add_toolkit(commands: Any, command: str | None) -> None:
    """Add the toolkit's ``command``, or all of them where none is named and help will be shown."""
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP) if point.name not in OWN}
    if command is not None and command not in found:
        if command in TOOLKIT:
            version = _toolkit_version()
            if version:
                has = ", ".join(sorted(found)) or "no command"
                raise InputError(
                    f"`sayclip {command}` is not in this version of the toolkit yet ({version} is installed)",
                    f"it has {has}; a newer source folder of sayclip may have it",
                )
            raise MissingDependencyError(f"`sayclip {command}` belongs to the toolkit, not installed here", _INSTALL)
        known = ", ".join(dict.fromkeys([*OWN, *TOOLKIT, *found]))
        raise InputError(f"there is no command {command!r}", f"use one of {known}")
    names = [command] if command is not None else [*found, *(name for name in TOOLKIT if name not in found)]
    missing = any(name not in found for name in names)
    lacking = "not in this version of the toolkit" if missing and _toolkit_version() else _INSTALL
    for name in names:
        if name not in found:
            commands.add_parser(name, help=f"{TOOLKIT[name]} ({lacking})")
            continue
        try:
            found[name].load()(commands)
        except ImportError as error:
            if command is not None:
                raise MissingDependencyError(f"`sayclip {name}` cannot start ({error})", _INSTALL) from error
            commands.add_parser(name, help=f"{TOOLKIT.get(name, name)} (cannot start: {error})")


def _toolkit_version() -> str:
    """The version of the installed toolkit, or nothing."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sayclip-toolkit")
    except PackageNotFoundError:
        return ""
