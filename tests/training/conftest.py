"""A small test bed that several files of tests read, and none changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def quick_testbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What ``sayclip train demo-data --quick`` makes: its folder and the content of its about.json."""
    from sayclip_training.testbed.build import build
    from sayclip_training.testbed.contents import QUICK

    target = tmp_path_factory.mktemp("bed") / "bed"
    return target, build(target, QUICK, 0, 2)
