"""Types of arguments that several recipes take."""

from __future__ import annotations

import argparse


def natural(text: str) -> int:
    """A whole number from 0 on, below 2^31."""
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)
