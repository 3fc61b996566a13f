"""What a graph asks for in int8 against what an engine's own report says, in the manners of several versions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip.sessions.tensorrt.layers import compare, onnx_names
from sayclip.sessions.tensorrt.phases import Phases

RS, US = "\x1e", "\x1f"


def tensor(kind: str) -> dict[str, Any]:
    return {"Name": "x", "Location": "Device", "Dimensions": [1, 64, 56, 56], "Format/Datatype": kind}


TEN = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to conv_a",
            "LayerType": "Reformat",
            "Inputs": [tensor("Row major linear FP32")],
            "Metadata": "[ONNX Layer: conv_b]",
        },
        {
            "Name": "conv_a + relu_a",
            "LayerType": "CaskConvolution",
            "Inputs": [tensor("Thirty-two wide channel vectorized row major Int8 format")],
            "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32",
            "Metadata": f"[ONNX Layer: conv_a]{RS}[ONNX Layer: relu_a]",
        },
        {
            "Name": "conv_b",
            "LayerType": "CaskConvolution",
            "Inputs": [tensor("Channel major FP16 format where channel % 8 == 0")],
            "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc",
            "Metadata": "[ONNX Layer: conv_b]",
        },
    ],
    "Bindings": ["pixels", "embedding"],
}
MYELIN = {
    "Layers": [
        {
            "Name": "__myl_MulAdd_myl0_1",
            "LayerType": "kgen",
            "Inputs": [tensor("Float")],
            "TacticName": "__myl_MulAdd_0xabc",
            "Metadata": f"[ONNX Layer: norm]{US}[ONNX Layer: norm.quantised]",
        },
        {
            "Name": "q_proj_myl0_2",
            "LayerType": "gemm",
            "Inputs": [tensor("Int8"), tensor("Int8")],
            "TacticName": "0x0000000000020149",
            "Metadata": f"[ONNX Layer: q_proj]{US}[ONNX Layer: k_proj]",
        },
        {
            "Name": "v_proj_myl0_3",
            "LayerType": "gemm",
            "Inputs": [tensor("Half"), tensor("Int8")],
            "TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64",
            "Metadata": "[ONNX Layer: v_proj]",
        },
    ]
}


def test_kernels_by_name() -> None:
    found = compare(json.dumps(TEN), ["conv_a", "conv_b", "conv_c"])
    assert found.int8 == ("conv_a",)
    assert found.other == {"conv_b": "fp16"}
    assert found.unknown == ("conv_c",)


def test_fused_layers_by_metadata_and_types() -> None:
    """Weights in int8 alone do not make a product of int8."""
    found = compare(json.dumps(MYELIN), ["q_proj", "k_proj", "v_proj", "norm"])
    assert found.int8 == ("q_proj", "k_proj")
    assert found.other == {"v_proj": "half, int8", "norm": "float"}


def test_names_alone_without_metadata() -> None:
    layers = [{"Name": "a + b", "LayerType": "gemm", "Inputs": [tensor("Int8")]}]
    assert compare(json.dumps({"Layers": layers}), ["a", "b", "a + b"]).int8 == ("a", "b")


@pytest.mark.parametrize(
    ("kernel", "int8"),
    [
        ("sm80_xmma_gemm_i8f32_i8i32_f32_tn_n", True),
        ("turing_int8_i8816cudnn_int8_128x128_ldg16", True),
        ("ampere_imma_gemm_128x64", True),
        ("sm87_s8_gemm", True),
        ("sm80_xmma_gemm_f16f16_f16f16", False),
        ("sm80_xmma_gemm_f32f32_tf32f32", False),
        ("trt_turing_h1688gemm_128x64_ldg8_tn", False),
        ("__myl_Simmax", False),
        ("gemm_i80", False),
    ],
)
def test_kernel_names(kernel: str, int8: bool) -> None:
    report = {"Layers": [{"Name": "a", "LayerType": "gemm", "Inputs": [tensor("FP32")], "TacticName": kernel}]}
    assert compare(json.dumps(report), ["a"]).int8 == (("a",) if int8 else ())


@pytest.mark.parametrize("keys", [("layer_type", "inputs", "Data Type"), ("Layer Type", "INPUTS", "format")])
def test_other_spellings(keys: tuple[str, str, str]) -> None:
    kind, inputs, dtype = keys
    layer = {"name": "a", kind: "gemm", inputs: [{"Name": "x", dtype: "int8"}]}
    assert compare(json.dumps([layer]), ["a"]).int8 == ("a",)
    assert compare(json.dumps({"layers": [layer]}), ["a"]).int8 == ("a",)
    assert compare(json.dumps([{**layer, kind: "Reformat"}]), ["a"]).unknown == ("a",)


@pytest.mark.parametrize(
    "report", ["", "{", "[]", "null", '{"Layers": ["a", "b"]}', '{"Layers": {"a": 1}}', "[" * 5000]
)
def test_a_report_that_says_nothing(report: str) -> None:
    assert compare(report, ["a"]).unknown == ("a",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["Layers", "Name", "Inputs", "Metadata", "LayerType", "TacticName"]), inner)
    ),
    max_leaves=20,
)


@given(JSON, st.lists(st.text(max_size=4), max_size=4, unique=True))
def test_every_layer_asked_for_is_accounted_for_once(document: Any, asked: list[str]) -> None:
    found = compare(json.dumps(document), asked)
    assert sorted([*found.int8, *found.other, *found.unknown]) == sorted(asked)


@pytest.mark.parametrize("between", [RS, US, "", " ", ",", ", "])
def test_names_in_metadata(between: str) -> None:
    names = ["/a/MatMul", "b[0]", "c"]
    assert onnx_names(between.join(f"[ONNX Layer: {name}]" for name in names)) == names
    assert onnx_names("") == []


NAMES = st.sampled_from("abcd")
EVENTS = st.lists(
    st.tuples(st.just("start"), NAMES, NAMES | st.none(), st.integers(0, 9))
    | st.tuples(st.just("step"), NAMES, st.integers(0, 12))
    | st.tuples(st.just("finish"), NAMES)
)


@given(EVENTS)
def test_progress_only_rises_and_stays_within_one(events: list[tuple[Any, ...]]) -> None:
    told: list[float] = []
    phases = Phases(told.append)
    for what, *arguments in events:
        getattr(phases, what)(*arguments)
    assert told == sorted(told)
    assert all(0 < share <= 1 for share in told)


def test_progress_of_phases_within_phases() -> None:
    told: list[float] = []
    phases = Phases(told.append)
    phases.start("outer", None, 4)
    phases.step("outer", 0)
    phases.start("inner", "outer", 2)
    phases.step("inner", 0)
    phases.step("inner", 1)
    phases.finish("inner")
    phases.step("outer", 1)
    assert told == [0.25, 0.375, 0.5]
