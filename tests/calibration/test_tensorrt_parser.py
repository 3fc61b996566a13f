"""NVIDIA's own parser and builder take the master: TensorRT-RTX, which needs no GPU for either.

Runs where ``tensorrt_rtx`` can be imported, or where SAYCLIP_RTX_PYTHON names an interpreter that can; the library runs
in a process of its own, because what it does not like may end the process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sayclip_calibration import quantise_encoder

PYTHON = os.environ.get("SAYCLIP_RTX_PYTHON") or (sys.executable if importlib.util.find_spec("tensorrt_rtx") else "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="tensorrt-rtx is not installed")

BUILD = """
import sys
import tensorrt_rtx as trt

FREE = {"pixels": (), "token_ids": (2, 16, 77), "waveform": (801, 8000, 32000), "length": ()}


class Log(trt.ILogger):
    def __init__(self):
        super().__init__()
        self.errors = []

    def log(self, severity, message):
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(message)


log = Log()
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, log)
if not parser.parse_from_file(sys.argv[1]):
    print("refused:", "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    sys.exit(3)
config, profile = builder.create_builder_config(), builder.create_optimization_profile()
for index in range(network.num_inputs):
    value = network.get_input(index)
    sizes = [
        (size,) * 3 if size != -1 else (1, 2, 8) if axis == 0 else FREE[value.name]
        for axis, size in enumerate(value.shape)
    ]
    profile.set_shape(value.name, *(tuple(size[k] for size in sizes) for k in range(3)))
config.add_optimization_profile(profile)
targets = ("SM80", "SM86", "SM89", "SM120")
config.num_compute_capabilities = len(targets)
for index, target in enumerate(targets):
    config.set_compute_capability(getattr(trt.ComputeCapability, target), index)
engine = builder.build_serialized_network(network, config)
print("built" if engine is not None else "; ".join(log.errors))
sys.exit(0 if engine is not None else 4)
"""


def build(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PYTHON, "-c", BUILD, str(path)], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("conv_outputs", [False, True])
def test_the_master_parses_and_builds(encoder: Any, tmp_path: Path, conv_outputs: bool) -> None:
    files = quantise_encoder(
        encoder.path, tmp_path, encoder.name, encoder.feeds, gate=None, conv_outputs=conv_outputs
    ).files
    done = build(files.master)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "built"


def test_the_unsigned_form_is_not_for_tensorrt(image: Any, tmp_path: Path) -> None:
    """Shows that the check above can fail, and why there are two forms."""
    files = quantise_encoder(image.path, tmp_path, image.name, image.feeds, gate=None).files
    done = build(files.unsigned)
    assert done.returncode == 3
    assert "zero point" in done.stdout.lower()


def test_calibrated_and_halved_graphs_build(encoder: Any, tmp_path: Path) -> None:
    """What the command writes: smoothed, with tables in fp16 and compensated weights; and fp16."""
    from sayclip_calibration.gates import Gate
    from sayclip_calibration.recipe import Options, calibrate_encoder, halve_encoder

    feeds = [
        {key: value[row : row + 1] for key, value in feed.items()}
        for feed in encoder.feeds
        for row in range(len(next(iter(feed.values()))))
    ]

    def quiet(what: str, done: int, total: int | None) -> None:
        pass

    calibrate_encoder(encoder.path, tmp_path, encoder.name, feeds, feeds, Gate(), Options(), quiet)
    halve_encoder(encoder.path, tmp_path, encoder.name, feeds, Gate(), quiet)
    for precision in ("int8", "fp16"):
        done = build(tmp_path / f"{encoder.name}.{precision}.onnx")
        assert (done.returncode, done.stdout.strip()) == (0, "built"), done.stdout + done.stderr
