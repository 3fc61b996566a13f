"""The one family of errors that sayclip raises on purpose.

Every message is one line: what was wrong, with the value seen and the value wanted, and what to do about it.
Commands print that line on stderr and end with status 2; anything else that escapes is a bug.
"""

from __future__ import annotations


class SayclipError(Exception):
    """Base of every error raised on purpose; ``str(error)`` is one line that ends with a remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = " ".join(problem.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.problem}: {self.remedy}")


class BundleError(SayclipError):
    """A bundle, its manifest or one of its files cannot be used."""


class SpaceMismatchError(SayclipError):
    """Vectors of two embedding spaces were about to meet."""


class InputError(SayclipError):
    """Something given to an encoder cannot be encoded."""


class AudioError(InputError):
    """A recording cannot be read or is not usable."""


class NoSpeechError(AudioError):
    """A recording holds silence only, so any hit would be random."""


class PictureError(InputError):
    """A picture cannot be read or is not usable."""


class TextError(InputError):
    """A text cannot be tokenised."""


class PhonemeError(InputError):
    """A pronunciation cannot be turned into phoneme ids."""


class LibraryError(SayclipError):
    """A library cannot be opened, read or written."""


class BackendError(SayclipError):
    """An inference backend is missing, refuses a graph, or computes something else than the reference."""


class MissingDependencyError(SayclipError):
    """An optional package is needed for what was asked."""
