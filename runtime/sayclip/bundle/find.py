"""Which bundle is meant: the argument, else ``$SAYCLIP_BUNDLE``, else the one in the installed ``sayclip-demo``."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from sayclip.bundle.manifest import FILE
from sayclip.errors import BundleError

_REMEDY = "`pip install ./demo` in sayclip's source folder, or name a bundle (argument, --bundle or $SAYCLIP_BUNDLE)"


def demo_folder() -> Path | None:
    """The folder of the installed ``sayclip_demo`` package, found without importing it; None when not installed."""
    try:
        spec = importlib.util.find_spec("sayclip_demo")
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def find_bundle(bundle: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the bundle to use; whether it holds a good one is for ``Manifest.read`` to say.

    Raises BundleError when no bundle is named and none is installed.
    """
    if bundle is not None:
        if not os.fspath(bundle):
            raise BundleError("the name of the bundle is empty, wanted a folder", _REMEDY)
        return Path(bundle)
    named = os.environ.get("SAYCLIP_BUNDLE", "")
    if named:
        return Path(named)
    demo = demo_folder()
    if demo is None:
        raise BundleError("no bundle is named and sayclip-demo is not installed", _REMEDY)
    if not (demo / "bundle" / FILE).is_file():
        raise BundleError(f"no bundle is named and {demo} holds none", _REMEDY)
    return demo / "bundle"
