"""Who may import whom. A bundle is the only thing that passes from the workstation to the device."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# wing: (import name, wings it may import, other packages it may import)
WINGS = {
    "runtime": (
        "sayclip",
        set(),
        {"numpy", "PIL", "soundfile", "soxr"}
        | {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "usearch", "phonemizer", "espeakng_loader"}
        | {"sayclip_demo"}  # data only; looked up, never required
        | {"typing_extensions"},  # for type checkers only, see below
    ),
    "export": (
        "sayclip_export",
        {"sayclip"},
        {"numpy", "torch", "onnx", "onnxscript", "onnxruntime", "safetensors", "tensorrt_rtx"},
    ),
    "calibration": (
        "sayclip_calibration",
        {"sayclip"},
        {"numpy", "onnx", "onnxruntime", "google", "matplotlib", "modelopt"},  # google.protobuf
    ),
    "training": (
        "sayclip_training",
        {"sayclip", "sayclip_export", "sayclip_calibration"},
        {"numpy", "torch", "PIL", "soundfile", "soxr", "espeakng_loader", "matplotlib"},
    ),
    "benchmarks": (
        "sayclip_benchmarks",
        {"sayclip", "sayclip_export"},  # the baseline's plain PyTorch definitions, where the toolkit is
        {"numpy", "torch", "transformers", "PIL", "soundfile", "onnxruntime", "matplotlib", "onnx"}
        | {"openvino", "usearch", "faiss", "fastembed", "optimum", "mlperf_loadgen"},
    ),
    "demo": ("sayclip_demo", set(), set()),
}
NEVER_ON_A_DEVICE = {"torch", "onnx", "onnxscript", "transformers", "optimum", "scipy", "librosa", "tokenizers"}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every absolute import, wherever it stands, and of `import_module("literal")`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value.split(".")[0]


def forbidden(source: str, allowed: set[str]) -> list[str]:
    """``line: package`` of every import that is neither allowed nor of the standard library."""
    known = allowed | sys.stdlib_module_names
    return [f"{line}: {name}" for line, name in imported(source) if name not in known]


@pytest.mark.parametrize("wing", WINGS)
def test_imports_follow_the_arrows(wing: str) -> None:
    own, wings, packages = WINGS[wing]
    modules = sorted((ROOT / wing / own).rglob("*.py"))
    assert modules, f"{wing}/{own} holds no module"
    allowed = {own, *wings, *packages}
    wrong = {
        str(module.relative_to(ROOT)): found
        for module in modules
        if (found := forbidden(module.read_text(encoding="utf-8"), allowed))
    }
    assert wrong == {}


def test_typing_extensions_is_for_type_checkers_only() -> None:
    """The runtime does not declare it, so it stands below ``if TYPE_CHECKING:`` wherever it is imported."""
    for module in (ROOT / "runtime" / "sayclip").rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in list(tree.body):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                tree.body.remove(node)
        assert "typing_extensions" not in {name for _, name in imported(ast.unparse(tree))}, module


def test_each_package_lies_where_its_name_says() -> None:
    for wing, (own, _, _) in WINGS.items():
        assert (ROOT / wing / own / "__init__.py").is_file()


def test_no_wing_reaches_back() -> None:
    """The table itself has no way back: following it from any wing never returns to that wing."""
    by_name = {own: wings for own, wings, _ in WINGS.values()}
    for start in by_name:
        reached, todo = set(), list(by_name[start])
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo += by_name[name]
        assert start not in reached


def test_the_runtime_is_allowed_nothing_heavy() -> None:
    assert WINGS["runtime"][2].isdisjoint(NEVER_ON_A_DEVICE)


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "def f():\n    from torch.nn import functional",
        "import importlib\nimportlib.import_module('torch.nn')",
        "if False:\n    import sayclip_export.models",
    ],
)
def test_a_forbidden_import_is_found(source: str) -> None:
    assert forbidden(source, {"sayclip", "numpy"})


def test_relative_and_standard_imports_pass() -> None:
    assert forbidden("from . import x\nimport sqlite3\nfrom numpy import linalg", {"numpy"}) == []
