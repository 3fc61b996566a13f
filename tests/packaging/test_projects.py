"""The three distributions agree with one another and with what is imported."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = {"sayclip-toolkit": ROOT, "sayclip": ROOT / "runtime", "sayclip-demo": ROOT / "demo"}


def project(name: str) -> dict[str, Any]:
    """The ``[project]`` table of a distribution."""
    table: dict[str, Any] = tomllib.loads((PROJECTS[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def runtime_version() -> str:
    """``__version__`` as it stands in the source, which is where the runtime's pyproject reads it."""
    tree = ast.parse((ROOT / "runtime" / "sayclip" / "__init__.py").read_text(encoding="utf-8"))
    [value] = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__version__" for t in node.targets)
    ]
    return str(ast.literal_eval(value))


@pytest.mark.parametrize("name", PROJECTS)
def test_names_licences_and_python_floor(name: str) -> None:
    table = project(name)
    assert table["name"] == name
    assert table["requires-python"] == ">=3.10"
    assert table["license"].startswith("Apache-2.0")
    licence = (PROJECTS[name] / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence


def test_one_version_everywhere() -> None:
    version = runtime_version()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert project("sayclip-toolkit")["version"] == version
    assert project("sayclip-demo")["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_requirement_has_a_floor_and_the_runtime_has_ceilings() -> None:
    """A floor for all; a next major release must not reach a device before somebody tried it."""
    runtime = project("sayclip")
    for line in [*runtime["dependencies"], *(r for rows in runtime["optional-dependencies"].values() for r in rows)]:
        assert re.fullmatch(r"[a-z0-9-]+>=[\d.]+,<[\d.]+", line), line
    for line in project("sayclip-toolkit")["dependencies"]:
        assert line == "sayclip[cpu]" or ">=" in line, line


def test_the_runtime_requires_four_packages() -> None:
    names = {re.split(r"[><=\[]", line)[0] for line in project("sayclip")["dependencies"]}
    assert names == {"numpy", "pillow", "soundfile", "soxr"}


def test_extras_are_those_of_the_design() -> None:
    assert set(project("sayclip")["optional-dependencies"]) == {
        *("cpu", "cuda", "openvino", "tensorrt", "rtx", "phonemes", "index")
    }


def test_commands_of_the_toolkit_can_be_loaded() -> None:
    """Each entry point names something callable, and the installed toolkit offers what the project file lists."""
    listed = project("sayclip-toolkit")["entry-points"]["sayclip.commands"]
    for target in listed.values():
        entry = importlib.metadata.EntryPoint("x", target, "sayclip.commands")
        assert callable(entry.load())
    offered = {entry.name for entry in importlib.metadata.entry_points(group="sayclip.commands")}
    try:
        importlib.metadata.distribution("sayclip-toolkit")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the toolkit runs from its folders here and is not installed")
    assert set(listed) <= offered


def test_the_toolkit_lists_what_it_imports() -> None:
    """What nothing imports is not declared, but for what torch.onnx.export asks for by itself."""
    declared = {re.split(r"[><=\[]", line)[0] for line in project("sayclip-toolkit")["dependencies"]}
    wings = ("export", "calibration", "training", "benchmarks")
    text = "\n".join(path.read_text(encoding="utf-8") for wing in wings for path in (ROOT / wing).rglob("*.py"))
    for name in declared - {"onnxscript"}:
        module = {"protobuf": r"google\.protobuf"}.get(name, name)
        assert re.search(rf"^\s*(from|import) {module}\b", text, re.MULTILINE), f"nothing imports {name}"
