"""sayclip: search pictures by speaking, typing or IPA, on the device, without a network and without PyTorch.

    import sayclip

    encoder = sayclip.load()                                  # or sayclip.load("path/to/bundle")
    with sayclip.Library.open_or_create("pictures.sqlite", encoder) as library:
        library.add_many(["a.jpg", "b.jpg"])
        for hit in library.search(speech="query.wav", k=5):
            print(f"{hit.score:.3f}", hit.source)

Names are imported at their first use, so that ``import sayclip`` costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sayclip.encoder import Encoder, load
    from sayclip.errors import (
        AudioError,
        BackendError,
        BundleError,
        InputError,
        LibraryError,
        MissingDependencyError,
        NoSpeechError,
        PhonemeError,
        PictureError,
        SayclipError,
        SpaceMismatchError,
        TextError,
    )
    from sayclip.explanation import Explanation
    from sayclip.library import AddReport, Hit, Item, Library, SearchResult

__all__ = [
    "AddReport",
    "AudioError",
    "BackendError",
    "BundleError",
    "Encoder",
    "Explanation",
    "Hit",
    "InputError",
    "Item",
    "Library",
    "LibraryError",
    "MissingDependencyError",
    "NoSpeechError",
    "PhonemeError",
    "PictureError",
    "SayclipError",
    "SearchResult",
    "SpaceMismatchError",
    "TextError",
    "__version__",
    "load",
]

_HOMES = {
    **dict.fromkeys(("Encoder", "load"), "sayclip.encoder"),
    "Explanation": "sayclip.explanation",
    **dict.fromkeys(("AddReport", "Hit", "Item", "Library", "SearchResult"), "sayclip.library"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES.get(name, "sayclip.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
