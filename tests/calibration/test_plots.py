"""The picture of a report: bars as long as they should be, readable with many layers, and never a crash over a name."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sayclip.errors import MissingDependencyError
from sayclip_calibration.plots import draw

pytest.importorskip("matplotlib")


def found(layers: int, back: int = 0, name: str = "node_linear") -> dict[str, Any]:
    worst = 1 - np.geomspace(0.1, 1e-9, layers) if layers else []
    sensitivity = [{"node": f"{name}_{n}", "op": "Gemm", "mean": 0.99, "worst": float(w)} for n, w in enumerate(worst)]
    cosines = (1 - np.geomspace(1e-6, 1e-2, 64)).tolist()
    return {
        "sensitivity": sensitivity,
        "given_back": [{"node": layer["node"], "to": "fp32"} for layer in sensitivity[:back]],
        "cosines": cosines,
        "centred": True,
        "mean_cosine": float(np.mean(cosines)),
        "worst_cosine": min(cosines),
        "worst_sample": "a.png",
    }


def picture(path: Path, **precisions: Any) -> Any:
    draw({"encoder": "speech", "bundle": "tiny", "precisions": precisions}, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def coloured(pixels: Any, colour: tuple[int, int, int]) -> Any:
    return np.abs(pixels - np.array(colour)).sum(axis=2) < 12


BLUE, ORANGE = (0x3B, 0x6F, 0xB6), (0xD9, 0x82, 0x2B)


def test_every_layer_has_its_bar_and_the_worst_the_longest(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", int8=found(12, back=2))
    left = pixels[:, : int(pixels.shape[1] * 0.68)]
    rows = (coloured(left, BLUE) | coloured(left, ORANGE)).sum(axis=1)
    starts = np.flatnonzero((rows[1:] > 40) & (rows[:-1] <= 40))
    lengths = rows[starts + 4][:7]  # below, the legend has patches of the same colours
    assert len(lengths) == 7
    assert (np.diff(lengths) < 0).all()
    assert coloured(left, ORANGE)[starts[0] + 4].any()
    assert not coloured(left, ORANGE)[starts[2] + 4].any()


def test_many_layers_make_it_taller_so_that_names_stay_apart(tmp_path: Path) -> None:
    few, many = picture(tmp_path / "a.png", int8=found(10)), picture(tmp_path / "b.png", int8=found(80))
    assert many.shape[1] == few.shape[1]
    assert many.shape[0] > 80 * 17


def test_two_precisions_lie_under_one_another(tmp_path: Path) -> None:
    one = picture(tmp_path / "a.png", int8=found(12))
    two = picture(tmp_path / "b.png", int8=found(12), fp16=found(0))
    assert two.shape[0] > one.shape[0] + 300


@pytest.mark.parametrize("name", ["$x^$", "名前", "a\nb", "{%}\\frac", "x" * 500, "🐱"])
def test_names_are_only_names(tmp_path: Path, name: str, recwarn: pytest.WarningsRecorder) -> None:
    report = {**found(3, name=name), "worst_sample": name}
    picture(tmp_path / "a.png", int8=report)
    assert [str(warning.message) for warning in recwarn] == []


def test_figures_that_are_missing_or_all_the_same_are_no_trouble(tmp_path: Path) -> None:
    report = found(2)
    report["sensitivity"] = [{"node": "a", "op": "Conv", "mean": None, "worst": None}]
    report |= {"cosines": [1.0] * 8, "mean_cosine": None, "worst_cosine": None}
    picture(tmp_path / "a.png", int8=report)
    picture(tmp_path / "b.png")


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib"):
        draw({"encoder": "speech", "bundle": "tiny", "precisions": {"int8": found(2)}}, tmp_path / "a.png")
