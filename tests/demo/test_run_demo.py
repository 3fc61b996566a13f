"""`make demo`'s program, end to end on the committed data, and its page in a real browser."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"
KINDS = ["spoken", "typed", "IPA", "picture", "fused"]


@dataclass(frozen=True)
class Run:
    """One run of the demo: what it printed, the folder it wrote, and how long it took."""

    out: Path
    printed: str
    seconds: float


Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Runs ``run_demo.py`` with this interpreter and with a cache of its own."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("SAYCLIP_")}
    settings["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(DEMO / "run_demo.py"), *arguments]
        return subprocess.run(command, env=settings, text=True, capture_output=True, timeout=300)

    return run


@pytest.fixture(scope="module")
def demo(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo, run once for all tests of this file."""
    out = tmp_path_factory.mktemp("demo") / "out"
    started = time.perf_counter()
    done = start("--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(out, done.stdout, time.perf_counter() - started)


class Page(HTMLParser):
    """Counts what the contact sheet holds and collects every address it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows = 0
        self.kinds: list[str] = []
        self.pictures: list[str] = []
        self.recordings = 0
        self.addresses: list[str] = []
        self._in_kind = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count, and keep addresses."""
        values = dict(attrs)
        self.rows += tag == "th" and values.get("scope") == "row"
        self._in_kind = values.get("class") == "kind"
        if tag == "img":
            self.pictures.append(values.get("alt") or "")
        self.recordings += tag == "audio"
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "poster") and v]

    def handle_data(self, data: str) -> None:
        """Keep the kinds of the queries, in order."""
        if self._in_kind:
            self.kinds.append(data)
            self._in_kind = False


def spoken_queries() -> int:
    """How many recordings the demo has."""
    with (DEMO / "sayclip_demo" / "queries" / "queries.tsv").open(encoding="utf-8", newline="") as file:
        return sum(row[0] != "file" for row in csv.reader(file, delimiter="\t"))


def test_it_is_quick(demo: Run) -> None:
    print(f"demo: {demo.seconds:.1f} s")
    assert demo.seconds < 60


def test_it_says_what_it_did(demo: Run) -> None:
    """Rate of indexing, times of encoding and searching for every query, five scored hits each."""
    assert re.search(r"\d[\d,]* pictures/s", demo.printed)
    asked = re.findall(
        r"^(spoken|typed|IPA|picture|fused) .* ([\d.]+) +([\d.]+) +-?\d\.\d{3} ", demo.printed, re.MULTILINE
    )
    assert len(asked) == spoken_queries() + 5
    assert list(dict.fromkeys(kind for kind, _, _ in asked)) == KINDS
    assert all(float(encoding) > 0 and float(searching) > 0 for _, encoding, searching in asked)
    assert len(re.findall(r" -?\d\.\d{3} [* ]\S", demo.printed)) == 5 * len(asked)
    assert "emoji" in demo.printed
    for command in ('search "fruit"', "search --speech my.wav", "index ~/Pictures"):
        assert command in demo.printed


def test_the_library_holds_every_picture(demo: Run) -> None:
    import sayclip

    with sayclip.Library.open(demo.out / "library.sqlite") as library:
        assert len(library) == len(list((DEMO / "sayclip_demo" / "pictures").glob("*.webp")))


def test_the_page_needs_nothing_beside_it(demo: Run) -> None:
    text = (demo.out / "contact_sheet.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.rows >= 13
    assert page.rows == spoken_queries() + 5
    assert list(dict.fromkeys(page.kinds)) == KINDS
    assert page.recordings == spoken_queries() + 1
    assert len(page.pictures) == 5 * page.rows + 1
    assert all(page.pictures), "a picture has no alternative text"
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"url\(|@import|<script|<link|<iframe", text)


def test_the_sheet_shows_every_row(demo: Run) -> None:
    with Image.open(demo.out / "contact_sheet.png") as sheet:
        width, height = sheet.size
        assert width >= 1000
        assert height >= 100 * (spoken_queries() + 5)
        assert len(sheet.convert("RGB").resize((100, 100)).getcolors(10_000) or []) > 500


def test_a_second_run_starts_afresh(demo: Run, start: Start) -> None:
    before = (demo.out / "contact_sheet.png").stat().st_mtime_ns
    done = start("--out", str(demo.out))
    assert done.returncode == 0, done.stderr
    assert (demo.out / "contact_sheet.png").stat().st_mtime_ns > before


def test_a_folder_without_data_is_one_line_and_status_2(start: Start, tmp_path: Path) -> None:
    done = start("--out", str(tmp_path / "out"), "--data", str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path) in done.stderr


@pytest.mark.slow
def test_a_browser_shows_all_pictures(demo: Run, tmp_path: Path) -> None:
    """Chromium decodes every picture and recording of the page, without a script or request of the page's own."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    text = (demo.out / "contact_sheet.html").read_text(encoding="utf-8")
    count = """<script>addEventListener("load", () => {
      const shown = [...document.images].filter(image => image.naturalWidth > 0 && image.offsetWidth > 0).length;
      const rows = [...document.querySelectorAll("tbody tr")].filter(row => row.offsetHeight > 90).length;
      const spill = document.documentElement.scrollWidth - innerWidth;
      document.body.textContent = JSON.stringify({shown, rows, spill, loaded: performance.getEntriesByType("resource")
        .filter(entry => !entry.name.startsWith("data:")).length});
    })</script>"""
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", count + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom", page.as_uri()),
        ],
        text=True,
        capture_output=True,
        timeout=120,
    )
    found = re.search(r"<body>(\{.*?\})</body>", done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(found[1])
    expected = Page(text)
    assert seen["shown"] == len(expected.pictures)
    assert seen["rows"] == expected.rows
    assert seen["spill"] <= 0
    assert seen["loaded"] == 0
