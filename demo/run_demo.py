"""The main job on real input: index the picture library, answer queries, draw the answers on a contact sheet.

Run by ``make demo``. It uses what any program may use: ``sayclip.load`` and ``sayclip.Library``.
Ends with 0, with 1 where a step finds nothing, with 2 where something is missing that the user can mend.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import contact_page
    import contact_sheet
    import sayclip
    from questions import Answer, Caption, Found, Question, questions, read_captions, read_recordings
except ModuleNotFoundError as missing:
    sys.exit(
        f"demo: {missing.name} is not installed for {sys.executable}: `make demo` sets up an environment that has it"
    )

HERE = Path(__file__).resolve().parent
DATA = HERE / "sayclip_demo"
HITS = 5


class Progress:
    """One line that grows while pictures go in; only its last state is printed where nobody watches."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.perf_counter()

    def __call__(self, done: int, total: int | None) -> None:
        """Show ``done`` of ``total`` pictures."""
        finished = total is not None and done >= total
        if not (sys.stdout.isatty() or finished):
            return
        rate = done / max(time.perf_counter() - self._started, 1e-9)
        filled = 30 * done // total if total else 0
        bar = "█" * filled + "░" * (30 - filled)
        print(
            f"\r{self._what} {bar} {done:,}/{total or '?'}  {rate:,.0f} pictures/s",
            end="\n" if finished else "",
            flush=True,
        )


def build_library(encoder: sayclip.Encoder, pictures: Path, captions: list[Caption], path: Path) -> sayclip.Library:
    """A new library at ``path`` that holds every picture of the caption table, with its name as caption."""
    for old in path.parent.glob(path.name + "*"):
        old.unlink()
    library = sayclip.Library.create(path, encoder)
    items = [sayclip.Item(pictures / caption.file, caption=caption.name) for caption in captions]
    report = library.add_many(items, progress=Progress("indexing"))
    for _, message in report.failed:
        print(f"not indexed: {message}", file=sys.stderr)
    return library


def answer(library: sayclip.Library, asked: list[Question]) -> Iterator[Answer]:
    """Ask the library each question in turn."""
    for question in asked:
        result = library.search(**question.ask, k=HITS)
        found = [Found(hit.score, hit.caption or Path(hit.source).stem, Path(hit.source)) for hit in result]
        yield Answer(question, found, result.encode_ms, result.search_ms)


def lines(one: Answer) -> Iterator[str]:
    """The answer as aligned text, one hit a line."""
    asked = f"{one.question.kind:<8}{one.question.label[:43]:<44}{one.encode_ms:7.1f} {one.search_ms:8.2f}"
    for rank, found in enumerate(one.found):
        mark = "*" if one.question.wanted and found.name == one.question.wanted else " "
        yield f"{asked if rank == 0 else '':<69}{found.score:6.3f} {mark}{found.name}"


def run(data: Path, out: Path, bundle: Path | None) -> int:
    """The whole demo; returns the exit status."""
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    encoder = sayclip.load(bundle)
    captions = read_captions(data / "pictures")
    asked = questions(captions, data / "pictures", read_recordings(data / "queries"))
    print(f"bundle {encoder.manifest.name}, space {encoder.space}, {encoder.width} numbers a vector")
    if encoder.notice:
        print(encoder.notice)
    for name in encoder.names:
        opened = time.perf_counter()
        encoder.open(name)
        print(f"{name} encoder ready in {1000 * (time.perf_counter() - opened):.0f} ms")
    with build_library(encoder, data / "pictures", captions, out / "library.sqlite") as library:
        if not len(library):
            print("nothing was indexed", file=sys.stderr)
            return 1
        print(f"\n{'kind':<8}{'query':<44}{'encode':>7} {'search':>8}  {'score':>6}  best {HITS} (* = the one named)")
        print(f"{'':<52}{'ms':>7} {'ms':>8}")
        answers = []
        for one in answer(library, asked):
            print("\n".join(lines(one)) or f"{one.question.kind:<8}{one.question.label}: no hits")
            answers.append(one)
    if not all(one.found for one in answers):
        print("a query found nothing", file=sys.stderr)
        return 1
    named = [one for one in answers if one.question.wanted]
    summary = (
        f"{len(captions):,} pictures, {len(answers)} queries; the picture named came first for "
        f"{sum(one.right for one in named)} of {len(named)}."
    )
    title = "sayclip: say it, find it"
    contact_sheet.draw(answers, title, summary).save(out / "contact_sheet.png")
    (out / "contact_sheet.html").write_text(contact_page.page(answers, title, summary), encoding="utf-8")
    print(f"\n{summary} {time.perf_counter() - started:.1f} s in all.")
    _what_next(out)
    return 0


def _what_next(out: Path) -> None:
    """Where to look, and what to type next."""
    try:
        shown = out.relative_to(Path.cwd())
    except ValueError:
        shown = out
    command = Path(sys.executable).with_name("sayclip")
    try:
        command = command.relative_to(Path.cwd())
    except ValueError:
        command = Path("sayclip")
    print(f"Look at {shown / 'contact_sheet.html'} (in a browser) or {shown / 'contact_sheet.png'}. Then try:")
    for arguments in ('search "fruit"', "search --speech my.wav", "index ~/Pictures"):
        print(f"  {command} {arguments}")


def main(argv: list[str] | None = None) -> int:
    """Read the arguments and run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder for the library and the contact sheets")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with pictures/ and queries/")
    parser.add_argument("--bundle", type=Path, default=None, help="another bundle than the demo's")
    arguments = parser.parse_args(argv)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return run(arguments.data, arguments.out, arguments.bundle)
    except (sayclip.SayclipError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
