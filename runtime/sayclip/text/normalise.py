"""From a text to the words that byte-pair encoding works on, as CLIP's tokenizer in `tokenizers` does it.

Normalisation: NFC, runs of white space to one blank, lower case letter by letter (so ``ΣΣ`` is ``σσ``). Words: English
contractions, runs of letters, single numbers, runs of anything else that is no white space. Quotation marks stay as
typed and HTML entities are not unescaped, as with Hugging Face (OpenAI's own tokenizer does both).
"""

from __future__ import annotations

import itertools
import re
import unicodedata

_SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's White_Space
# NFC in `tokenizers` (up to 0.23) is that of Unicode 9: marks and composites added since, here up to Unicode 15, stand
# as they are, and nothing is reordered or composed across them.
_NEWER = re.compile(
    "([\u07fd\u0898-\u089f\u08ca-\u08d3\u09fe\u0c3c\u0d3b-\u0d3c\u0eba\u1715\u1abf-\u1ace\u1df6-\u1dfa\ua82c"
    "\U00010d24-\U00010d27\U00010eab-\U00010eac\U00010efd-\U00010eff\U00010f46-\U00010f50\U00010f82-\U00010f85"
    "\U00011070\U0001133b\U0001145e\U00011839-\U0001183a\U00011930\U00011935\U00011938\U0001193d-\U0001193e"
    "\U00011943\U000119e0\U00011a34\U00011a47\U00011a99\U00011d42\U00011d44-\U00011d45\U00011d97"
    "\U00011f41-\U00011f42\U00016ff0-\U00016ff1\U0001e08f\U0001e130-\U0001e136\U0001e2ae\U0001e2ec-\U0001e2ef"
    "\U0001e4ec-\U0001e4ef])"
)
_LONG = 256
_SPACE_RUN = re.compile(f"[{_SPACES}]+")
# Applied to the text with every character beyond ASCII replaced by one of its class, see _Classes.
_WORD = re.compile("'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^ a-z0-9]+")


class _Classes(dict[int, str]):
    """Maps code points for ``str.translate``: letters to ``a``, numbers to ``0``, others to ``!``; ASCII to itself.

    ``a`` is in no contraction, so one pattern serves every script. ``unicodedata`` is asked once a code point.
    """

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))[0]
        value = chr(code) if code < 128 else {"L": "a", "N": "0"}.get(kind, "!")
        self[code] = value
        return value


_CLASSES = _Classes()


def normalise(text: str) -> str:
    """NFC, white space to single blanks, lower case (the capital sigma always to ``σ``)."""
    if not text.isascii():
        pieces = [text] if _NEWER.search(text) is None else _NEWER.split(text)
        composed = (unicodedata.normalize("NFC", decompose(piece) if len(piece) > _LONG else piece) for piece in pieces)
        text = "".join(composed).replace("\u03a3", "\u03c3")
    return _SPACE_RUN.sub(" ", text).lower()


def decompose(text: str) -> str:
    """NFD in a time that grows with the length: ``unicodedata`` takes its square for long runs of combining marks."""
    if len(text) <= _LONG:
        return unicodedata.normalize("NFD", text)
    parts: list[str] = []
    marks: list[str] = []
    for part in itertools.chain.from_iterable(unicodedata.normalize("NFD", character) for character in text):
        if unicodedata.combining(part):
            marks.append(part)
            continue
        parts += sorted(marks, key=unicodedata.combining)
        parts.append(part)
        marks.clear()
    parts += sorted(marks, key=unicodedata.combining)
    return "".join(parts)


def split_words(text: str) -> list[str]:
    """Words of a normalised text, in order, without the blanks between them."""
    return split_by(_WORD, text)


def split_by(pattern: re.Pattern[str], text: str) -> list[str]:
    """What ``pattern`` finds in ``text``, in which it sees letters beyond ASCII as ``a``, numbers as 0, others as !."""
    if text.isascii():
        return pattern.findall(text)
    return [text[found.start() : found.end()] for found in pattern.finditer(text.translate(_CLASSES))]
