"""Writes the demo's answers as one HTML page that needs nothing beside it: pictures and recordings lie inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from contact_sheet import KIND_COLOURS, envelope
from questions import Answer, Question

_STYLE = """
:root { color-scheme: light dark; --paper: #f4f5f7; --card: #fff; --ink: #1c2026; --soft: #5b6472; --line: #d9dde3;
  --right: #15803d; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --card: #1d2127; --ink: #e8eaed; --soft: #a2abb8;
  --line: #343a44; --right: #4ade80; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem clamp(1rem, 4vw, 3rem); background: var(--paper); color: var(--ink);
  font: 16px/1.4 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.8rem; }
p { margin: 0 0 1.25rem; color: var(--soft); max-width: 70rem; }
.frame { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0 .6rem; width: 100%; min-width: 58rem; max-width: 74rem; }
th, td { background: var(--card); border: solid var(--line); border-width: 1px 0; padding: .7rem .4rem; }
thead th { background: none; border: 0; padding: 0 .4rem; color: var(--soft); font-size: .8rem; font-weight: 500; }
tbody th { text-align: left; border-left-width: 1px; border-radius: 12px 0 0 12px; padding-left: 1rem; width: 21rem;
  font-weight: 400; vertical-align: top; }
tbody td:last-child { border-right-width: 1px; border-radius: 0 12px 12px 0; }
td { text-align: center; vertical-align: top; width: 9.5rem; }
.kind { display: inline-block; border-radius: 1rem; padding: .05rem .65rem; color: #fff; font-size: .78rem; }
.label { display: block; font-size: 1.15rem; margin: .3rem 0; overflow-wrap: anywhere; }
.times { color: var(--soft); font-size: .8rem; font-variant-numeric: tabular-nums; }
.asked { float: right; border-radius: 10px; margin-left: .6rem; }
audio { display: block; width: 100%; height: 2rem; margin: .3rem 0; }
.wave { display: block; width: 100%; height: 1.8rem; }
figure { margin: 0; }
figure img { border-radius: 10px; background: #fff; padding: 3px; border: 2px solid transparent; }
figure.right img { border-color: var(--right); }
figcaption { font-size: .8rem; overflow-wrap: anywhere; }
meter { display: block; margin: .25rem auto .1rem; width: 5.5rem; height: .5rem; }
.score { color: var(--soft); font-size: .75rem; font-variant-numeric: tabular-nums; }
""".strip()


def page(answers: Sequence[Answer], title: str, subtitle: str) -> str:
    """The page as one string; it loads nothing from anywhere."""
    columns = max(len(answer.found) for answer in answers)
    ranks = "".join(f'<th scope="col">{rank + 1}</th>' for rank in range(columns))
    rows = "\n".join(_row(answer) for answer in answers)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE}
</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(subtitle)} A green frame marks the picture that was named.</p>
<div class="frame">
<table>
<thead><tr><th scope="col">query</th>{ranks}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</body>
</html>
"""


def _row(answer: Answer) -> str:
    cells = "".join(
        f'<td><figure{_right(answer, found.name)}><img width="96" height="96" alt="{escape(found.name)}" '
        f'src="{_data(found.path.read_bytes(), "image/webp")}"><figcaption>{escape(found.name)}</figcaption></figure>'
        f'<meter min="0" max="1" value="{max(found.score, 0.0):.3f}" aria-hidden="true"></meter>'
        f'<span class="score">{found.score:.3f}</span></td>'
        for found in answer.found
    )
    question = answer.question
    return (
        f'<tr><th scope="row">{_asked(question)}'
        f'<span class="times">{answer.encode_ms:.1f} ms encoding, {answer.search_ms:.2f} ms searching</span></th>'
        f"{cells}</tr>"
    )


def _right(answer: Answer, name: str) -> str:
    return ' class="right"' if answer.question.wanted and name == answer.question.wanted else ""


def _asked(question: Question) -> str:
    colour = KIND_COLOURS[question.kind]
    parts = []
    if question.picture is not None:
        source = _data(_png(question.picture), "image/png")
        parts.append(f'<img class="asked" width="96" height="96" alt="{escape(question.label)}" src="{source}">')
    parts.append(f'<span class="kind" style="background:{colour}">{escape(question.kind)}</span>')
    parts.append(f'<span class="label">{escape(question.label)}</span>')
    if question.audio is not None:
        parts.append(_wave(question.audio, colour))
        sound = _data(question.audio.read_bytes(), "audio/wav")
        parts.append(f'<audio controls preload="metadata" aria-label="{escape(question.label)}" src="{sound}"></audio>')
    return "".join(parts)


def _wave(recording: Path, colour: str, bars: int = 96) -> str:
    strokes = "".join(
        f"M{bar * 3 + 1} {16 - 1 - 14 * peak:.1f}V{16 + 1 + 14 * peak:.1f}"
        for bar, peak in enumerate(envelope(recording, bars))
    )
    return (
        f'<svg class="wave" viewBox="0 0 {bars * 3} 32" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{strokes}" stroke="{colour}" stroke-width="2" fill="none"/></svg>'
    )


def _png(picture: Image.Image) -> bytes:
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    return stored.getvalue()


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
