"""What a device gets: the runtime's wheel, its dependencies, their weight, and how fast the package imports."""

from __future__ import annotations

import json
import math
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Environment

pytestmark = [pytest.mark.network, pytest.mark.slow]

# On Python 3.10 an older ONNX Runtime brings sympy along.
LIMIT_MB = 190 if sys.version_info >= (3, 11) else 260  # ONNX Runtime 1.32 takes 10 MB more than 1.31
IMPORT_LIMIT_S = 0.15
TRAINING = {
    "torch",
    "torchaudio",
    "torchvision",
    "onnx",
    "onnxscript",
    "transformers",
    "tokenizers",
    "scipy",
    "librosa",
}
NETWORK = {"requests", "httpx", "httpcore", "urllib3", "aiohttp", "huggingface-hub", "fsspec", "websockets", "grpcio"}
HEAVY = ["PIL", "soundfile", "soxr", "onnxruntime", "sqlite3", "usearch", "phonemizer", "espeakng_loader", "ssl"]


def test_the_wheel_holds_the_package_and_nothing_else(runtime_wheel: Path) -> None:
    with zipfile.ZipFile(runtime_wheel) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        size = sum(info.file_size for info in wheel.infolist())
    package = [name for name in names if name.startswith("sayclip/")]
    metadata = [name for name in names if ".dist-info/" in name]
    assert sorted(names) == sorted(package + metadata)
    assert "sayclip/py.typed" in package
    assert "sayclip/cli/main.py" in package
    strange = [name for name in package if not name.endswith(".py") and name != "sayclip/py.typed"]
    assert strange == []
    assert {Path(name).name for name in metadata} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "LICENSE",
        "entry_points.txt",
        "top_level.txt",
    }
    assert size < 1_000_000


def test_every_module_of_the_tree_is_in_the_wheel(runtime_wheel: Path) -> None:
    runtime = Path(__file__).resolve().parents[2] / "runtime"
    wanted = {path.relative_to(runtime).as_posix() for path in (runtime / "sayclip").rglob("*.py")}
    with zipfile.ZipFile(runtime_wheel) as wheel:
        assert wanted <= set(wheel.namelist())


def test_the_demo_wheel_holds_bundle_pictures_and_queries(demo_wheel: Path) -> None:
    with zipfile.ZipFile(demo_wheel) as wheel:
        names = wheel.namelist()
    assert "sayclip_demo/__init__.py" in names
    assert "sayclip_demo/bundle/bundle.json" in names
    assert "sayclip_demo/pictures/captions.tsv" in names
    assert "sayclip_demo/queries/queries.tsv" in names
    assert sum(name.endswith(".webp") for name in names) >= 1500
    assert not [name for name in names if name.endswith(".py") and name != "sayclip_demo/__init__.py"]


def test_no_training_and_no_network_library_comes_along(clean_environment: Environment, tmp_path: Path) -> None:
    done = clean_environment.run("-m", "pip", "list", "--format=json", "--disable-pip-version-check", cwd=tmp_path)
    installed = {row["name"].lower().replace("_", "-") for row in json.loads(done.stdout)}
    assert {"sayclip", "sayclip-demo", "numpy", "pillow", "soundfile", "soxr", "onnxruntime"} <= installed
    assert installed.isdisjoint(TRAINING | NETWORK)


def test_weight_on_disk(clean_environment: Environment) -> None:
    megabytes = clean_environment.added_bytes / 1e6
    print(f"sayclip[cpu] on disk: {megabytes:.0f} MB, demo {clean_environment.demo_bytes / 1e6:.0f} MB")
    assert megabytes <= LIMIT_MB


def test_import_time(clean_environment: Environment, tmp_path: Path) -> None:
    """The best of interleaved fresh processes, each timing its own import: what others run beside does not count."""
    script = "import time; t = time.{0}(); import {1}; print(time.{0}() - t)"
    numpy, package = ("perf_counter", "numpy"), ("perf_counter", "sayclip")
    numpy_cpu, names_cpu = ("process_time", "numpy"), ("process_time", "sayclip; sayclip.load; sayclip.Library")
    best = dict.fromkeys([numpy, package, numpy_cpu, names_cpu], math.inf)
    for _ in range(7):
        for what in best:
            best[what] = min(best[what], float(clean_environment.run("-c", script.format(*what), cwd=tmp_path).stdout))
    over, over_with_names = best[package] - best[numpy], best[names_cpu] - best[numpy_cpu]
    print(
        f"against import numpy: sayclip {over * 1000:+.0f} ms, with load and Library {over_with_names * 1000:+.0f} ms"
    )
    assert over <= IMPORT_LIMIT_S
    assert over_with_names <= 2 * IMPORT_LIMIT_S


def test_import_leaves_the_heavy_ones_alone(clean_environment: Environment, tmp_path: Path) -> None:
    script = f"import sys, sayclip; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = clean_environment.run("-c", script, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_info_and_a_search_run_there(clean_environment: Environment, tmp_path: Path) -> None:
    site = clean_environment.site
    info = clean_environment.sayclip("info", "--json", home=tmp_path)
    assert info.returncode == 0, info.stderr
    json.loads(info.stdout)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in sorted((site / "sayclip_demo" / "pictures").glob("*.webp"))[:40]:
        (pictures / path.name).write_bytes(path.read_bytes())
    library = ["--library", str(tmp_path / "library.sqlite")]
    indexed = clean_environment.sayclip("index", str(pictures), *library, home=tmp_path)
    assert indexed.returncode == 0, indexed.stderr
    found = clean_environment.sayclip("search", "fruit", "--json", *library, home=tmp_path)
    assert found.returncode == 0, found.stderr
    hits = json.loads(found.stdout)["hits"]
    assert hits
    assert {Path(hit["source"]).name for hit in hits} <= {path.name for path in pictures.iterdir()}
