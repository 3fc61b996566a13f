"""TensorRT, NVIDIA's own or JetPack's (``tensorrt``) and the one for RTX desktops (``tensorrt_rtx``), as backends.

Engines are made by ``sayclip build`` on the device they run on and lie in the user's cache; nothing here builds one
silently. Importing this package imports neither library, nor loads a driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sayclip.bundle.manifest import Manifest
    from sayclip.sessions.tensorrt.session import TensorRTSession

BACKENDS = ("tensorrt", "tensorrt_rtx")


def unavailable(backend: str) -> str:
    """Why ``backend`` cannot run anything here, in a few words; empty when driver and library are usable.

    Says nothing about engines. Never raises.
    """
    from sayclip.sessions.tensorrt import cudart, driver, library

    try:
        if not library.installed(backend):
            return f"{backend} is not installed"
        gpu = driver.probe()
        library.load(backend)
        cudart.load(gpu.driver)
    except Exception as error:  # a broken native library can raise anything
        return str(getattr(error, "problem", error)) or type(error).__name__
    return ""


def has_engine(manifest: Manifest, encoder: str, precision: str, backend: str) -> bool:
    """Whether the cache holds an engine of this graph for this very machine; its bytes are not looked at.

    Never raises.
    """
    try:
        from sayclip.sessions.tensorrt.engines import find

        return bool(find(manifest, encoder, precision, backend))
    except Exception:
        return False


def open_engine(manifest: Manifest, encoder: str, precision: str, backend: str) -> TensorRTSession:
    """A session of the engines that ``sayclip build`` made of this graph here.

    Raises BackendError (no driver, no engine, or one made elsewhere or damaged: said with what differs and what to
    run), MissingDependencyError without the library, BundleError for a graph that the bundle does not have.
    """
    from sayclip.sessions.tensorrt.engines import open_session

    return open_session(manifest, encoder, precision, backend)
