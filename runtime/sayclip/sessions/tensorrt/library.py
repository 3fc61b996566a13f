"""The TensorRT library that was asked for by name, imported, and its version."""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any

from sayclip.errors import BackendError, MissingDependencyError

# From the first version that is meant to work up to the first that is not.
SUPPORTED = {"tensorrt": ((10, 3), (12,)), "tensorrt_rtx": ((1, 4), (2,))}
TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
INSTALL = {
    "tensorrt": "on a Jetson `apt install python3-libnvinfer` and a venv with --system-site-packages, "
    "elsewhere `pip install 'sayclip[tensorrt]'`",
    "tensorrt_rtx": "`pip install 'sayclip[rtx]'`",
}


def installed(name: str) -> bool:
    """Whether a package of this name can be found; whether it can be imported is another matter."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    # A folder that happens to have the name is found too, but has no origin.
    return spec is not None and spec.origin is not None


def load(name: str) -> Any:
    """The module ``tensorrt`` or ``tensorrt_rtx``.

    Raises MissingDependencyError where it is missing or lacks its own libraries, BackendError for a version that is
    not supported.
    """
    if name not in SUPPORTED:
        raise BackendError(f"there is no TensorRT library {name!r}", f"use one of {', '.join(SUPPORTED)}")
    if not installed(name):
        raise MissingDependencyError(f"{TITLES[name]} is not installed", INSTALL[name])
    try:
        module = importlib.import_module(name)
    except Exception as error:  # bindings without libnvinfer or libnvonnxparser raise ImportError, or OSError
        said = " ".join(str(error).split()) or type(error).__name__
        raise MissingDependencyError(
            f"{TITLES[name]} is installed but cannot be imported ({said})", INSTALL[name]
        ) from None
    least, limit = SUPPORTED[name]
    if not least <= version(module) < limit:
        raise BackendError(
            f"{TITLES[name]} {version_text(module)} is installed, wanted {_dotted(least)} or later and "
            f"below {_dotted(limit)}",
            INSTALL[name],
        )
    return module


def version_text(trt: Any) -> str:
    """The library's own version, such as ``10.3.0``."""
    return str(getattr(trt, "__version__", "")) or "of unknown version"


def version(trt: Any) -> tuple[int, ...]:
    """The version as numbers, such as (10, 3, 0, 30); what follows the numbers is left out."""
    found = re.match(r"\d+(\.\d+)*", version_text(trt))
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def logger(trt: Any) -> Any:
    """A logger that keeps the last errors in ``errors`` and prints nothing; what goes wrong is raised with them."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 does not take super()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors = [*self.errors[-7:], " ".join(str(message).split())]

    return Log()


def said(log: Any, otherwise: str) -> str:
    """What a logger heard, each error once and not at any length; ``otherwise`` where it heard nothing."""
    text = "; ".join(dict.fromkeys(log.errors)) or otherwise
    return text if len(text) <= 500 else text[:497] + "..."
