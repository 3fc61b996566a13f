"""Warnings of the library, under the names of its modules."""

from __future__ import annotations


def warning(name: str, message: str, *values: object) -> None:
    """Log a warning under the logger ``name``.

    ``logging`` is imported by then and not before: it takes as long as a search, and hardly any program is warned.
    """
    import logging

    logging.getLogger(name).warning(message, *values)
