"""Teachers of every kind, and students that begin as they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError, InputError
from sayclip_export.clip_export import export_clip
from sayclip_export.parts import space_id
from sayclip_export.phonemes.chart import folded_matrix
from sayclip_export.readers.clip import read_clip
from sayclip_training.distillation.evaluation import embed, unit
from sayclip_training.distillation.student import Arm, begin, features
from sayclip_training.distillation.symbols import choose
from sayclip_training.distillation.teacher import open_teacher

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
TEXTS = ["red apple", "a very long description of a little cat on the roof of a house", "guitar"]


def test_weights_of_the_demo_come_out_of_its_graph() -> None:
    teacher = open_teacher(str(DEMO))
    assert teacher.tower is not None
    config = teacher.tower.config
    assert (config.width, config.layers, config.heads, config.hidden) == (128, 3, 4, 512)
    assert config.activation == "quick_gelu"
    assert (teacher.space, teacher.width, teacher.unit) == (Manifest.read(DEMO).space, 128, False)
    with sayclip.load(DEMO, backend="onnxruntime", precision="fp32") as encoder:
        wanted = encoder.text(TEXTS)
    read = teacher.read(TEXTS)
    assert np.abs(unit(read) - wanted).max() < 1e-5
    assert np.abs(np.linalg.norm(read, axis=1) - 1).max() > 0.1, "as they leave the projection"
    assert open_teacher("demo").sha256 == teacher.sha256


def test_a_published_clip_teaches_as_its_model_does(published_clip: Path) -> None:
    import transformers

    teacher = open_teacher(str(published_clip))
    assert teacher.tower is not None
    assert (teacher.width, teacher.tower.config.activation) == (24, "gelu")
    assert teacher.space == space_id(read_clip(published_clip))
    model = transformers.CLIPModel.from_pretrained(published_clip).eval()
    rows = [teacher.tokenizer.encode(text) for text in TEXTS]
    with torch.inference_mode():
        for row, text in zip(rows, TEXTS, strict=True):
            output = model.get_text_features(input_ids=torch.tensor([row]))
            wanted = getattr(output, "pooler_output", output)
            assert np.abs(teacher.read([text]) - wanted.numpy()).max() < 1e-5


def test_a_bundle_of_a_published_clip_gives_its_weights_back(published_clip: Path, tmp_path: Path) -> None:
    export_clip(published_clip, tmp_path / "bundle")
    direct, bundle = open_teacher(str(published_clip)), open_teacher(str(tmp_path / "bundle"))
    assert bundle.tower is not None
    assert bundle.tower.config.activation == "gelu", "which no weight tells"
    assert bundle.space == direct.space
    assert np.abs(bundle.read(TEXTS) - direct.read(TEXTS)).max() < 1e-4


def test_a_graph_of_unknown_make_teaches_a_student_that_begins_at_random(tiny_bundle: Path) -> None:
    teacher = open_teacher(str(tiny_bundle))
    assert (teacher.tower, teacher.unit, teacher.width) == (None, True, 32)
    assert np.abs(np.linalg.norm(teacher.read(["cat", "red"]), axis=1) - 1).max() < 1e-5
    assert teacher.sizes.embedding == 32


def test_what_cannot_teach_is_refused(
    tiny_bundle: Path, edit_manifest: Callable[..., Path], demo_bundle: Path, tmp_path: Path
) -> None:
    manifest = json.loads((demo_bundle / "bundle.json").read_text())
    del manifest["encoders"]["text"]["graphs"]["fp32"]
    (demo_bundle / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="has int8, int8-u8 and no fp32 graph"):
        open_teacher(str(demo_bundle))
    edit_manifest(lambda data: data["encoders"].pop("text"))
    with pytest.raises(BundleError, match="text"):
        open_teacher(str(tiny_bundle))
    with pytest.raises(Exception, match="does not exist"):
        open_teacher(str(tmp_path / "nothing"))
    damaged = shutil.copytree(DEMO, tmp_path / "damaged")
    data = bytearray((damaged / "text.fp32.onnx").read_bytes())
    data[-100] ^= 1
    (damaged / "text.fp32.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="has sha256"):
        open_teacher(str(damaged))


@pytest.fixture
def attributes(tmp_path: Path) -> np.ndarray:
    return folded_matrix(choose(["ɹɛd æpəl kæt ɡɪtɑːɹ"], [], tmp_path / "phonemes.json").content)


@pytest.mark.parametrize(("embedding", "residual"), [("chart", True), ("chart", False), ("random", True)])
def test_students_learn_what_their_arm_says(embedding: str, residual: bool, attributes: np.ndarray) -> None:
    teacher = open_teacher(str(DEMO))
    assert teacher.tower is not None
    student = begin(teacher, attributes, Arm(embedding, residual), seed=3)
    again = begin(teacher, attributes, Arm(embedding, residual), seed=3)
    other = begin(teacher, attributes, Arm(embedding, residual), seed=4)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))
    assert not torch.equal(student.phonemes.table(), other.phonemes.table())
    for name, value in teacher.tower.state_dict().items():
        if name != "token_embedding.weight":
            assert torch.equal(student.tower.state_dict()[name], value), "begins with the teacher's weights"
    table = student.phonemes.table().detach()
    taught = teacher.tower.token_embedding.weight.detach()
    assert torch.equal(table[1], taught[teacher.tokenizer.sot])
    assert torch.equal(table[2], taught[teacher.tokenizer.eot])
    assert 0.4 < float(table[5:].std() / taught.std()) < 2.5

    before = student.phonemes.residual.detach().clone()
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=0.01)
    ids, length = torch.tensor([[1, 5, 6, 3, 7, 2]], dtype=torch.int32), torch.tensor([6], dtype=torch.int32)
    for _ in range(3):
        optimizer.zero_grad()
        features(student, ids, length).square().sum().backward()
        optimizer.step()
    moved = (student.phonemes.residual.detach() - before).abs().sum(1) > 0
    assert moved[[1, 3]].all(), "the rows of special ids are learnt in every arm"
    assert bool(moved[5]) == residual
    assert bool(student.phonemes.attribute_projection.detach().any()) == (embedding == "chart")
    if not residual:
        assert not student.phonemes.residual[5:].any()
    assert explained(student.phonemes.table().detach(), attributes) == (embedding == "chart" and not residual)


def explained(table: torch.Tensor, attributes: np.ndarray) -> bool:
    """Whether the rows of segments are their attributes times some matrix."""
    known = torch.from_numpy(attributes[5:]).double()
    matrix = torch.linalg.lstsq(known, table[5:].double(), driver="gelsd").solution
    return bool((known @ matrix - table[5:]).abs().max() < 1e-5)


def test_arms_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="embedding is 'ipa'"):
        Arm("ipa")
    with pytest.raises(InputError, match="no residual to leave out"):
        Arm("random", residual=False)


def test_padding_changes_no_embedding(attributes: np.ndarray) -> None:
    student = begin(open_teacher(str(DEMO)), attributes, Arm())
    rows = [[1, 5, 6, 2], [1, 7, 8, 9, 3, 5, 2]]
    together = embed(student, rows)
    assert np.abs(together[0] - embed(student, rows[:1])[0]).max() < 1e-5
