"""The versions of everything that decides what a test bed holds."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata

from sayclip.errors import MissingDependencyError
from sayclip_training.demo_data import names, pictures
from sayclip_training.testbed import homophones, languages
from sayclip_training.testbed.reading import espeak
from sayclip_training.testbed.speech import flite

DEBIAN = {
    "unicode-data": names.EMOJI_TEST,
    "unicode-cldr-core": names.CLDR / "annotations" / f"{languages.LANGUAGES[0]}.xml",
    "fonts-noto-color-emoji": pictures.FONT,
}
_PYTHON = ("numpy", "pillow", "soundfile", "soxr")


def check() -> None:
    """MissingDependencyError that names the package, for the first thing that is missing."""
    for package, path in DEBIAN.items():
        if not path.exists():
            raise MissingDependencyError(f"{path} is missing", f"apt-get install {package}")
    if shutil.which("flite") is None:
        raise MissingDependencyError("speech synthesis for the test bed needs flite", "apt-get install flite")
    pictures.emoji_font()
    flite()
    espeak()


def versions() -> dict[str, str]:
    """Package to version; Debian's are empty where the files did not come from a package."""
    found = {"espeak-ng": espeak().version}
    for package in [*DEBIAN, "flite", "libflite1", homophones.PACKAGE]:
        found[package] = _debian(package)
    if not homophones.WORD_LIST.exists():
        del found[homophones.PACKAGE]
    return found | {package: metadata.version(package) for package in _PYTHON}


def _debian(package: str) -> str:
    if shutil.which("dpkg-query") is None:
        return ""
    command = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
