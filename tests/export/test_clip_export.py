"""``sayclip export clip``: from the command line to hits, and nothing left behind when it fails."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import sayclip
from sayclip.bundle.entries import PicturePreprocessing, TextPreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip_export import parts
from sayclip_export.clip_export import export_clip
from sayclip_export.graphs import Agreement
from sayclip_export.parts import CAPTIONS, sample_pictures

ONE_LINE = re.compile(r"sayclip: .*\n")
TEXTS = ["cat", "a photo of a red apple, ripe", "word " * 100, *CAPTIONS]


@pytest.fixture(scope="module")
def exported(clip_master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "below" / "bundle"
    lines: list[str] = []
    export_clip(clip_master, out, lines.append)
    assert [line.split(":")[0] for line in lines] == ["read model.safetensors", "image", "text"]
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    return out


def test_the_runtime_gives_the_embeddings_of_transformers(
    exported: Path, clip_master: Path, transformers: Any, answers: Callable[..., Any]
) -> None:
    pictures = sample_pictures()
    with sayclip.load(exported) as encoder:
        assert encoder.names == ("image", "text")
        image, text = encoder.image(pictures), encoder.text(TEXTS)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(clip_master)
    ids = [tokenizer(value, truncation=True, max_length=77)["input_ids"] for value in TEXTS]
    assert [len(row) for row in ids][:3] == [3, 10, 77]
    how = Manifest.read(exported).entry("image").preprocessing
    assert isinstance(how, PicturePreprocessing)
    settings = PictureSettings(how.size, how.mean, how.std, how.resample, how.resize)
    pixels = np.stack([read_picture(picture, settings) for picture in pictures])
    wanted_image, wanted_text = answers(clip_master, pixels, ids)
    assert np.abs(image - wanted_image).max() < 1e-5
    assert np.abs(text - wanted_text).max() < 1e-5
    assert np.abs(np.linalg.norm(image, axis=1) - 1).max() < 1e-5


def test_pictures_are_prepared_as_by_the_library(clip_master: Path, exported: Path, transformers: Any) -> None:
    """With Pillow's resampler and a crop that halves evenly both are the same, value for value."""
    # transformers 4 knows Pillow's alone, under the plain name
    kind = "CLIPImageProcessorPil" if hasattr(transformers, "CLIPImageProcessorPil") else "CLIPImageProcessor"
    processor = getattr(transformers, kind).from_pretrained(clip_master)
    picture = sample_pictures()[0]  # 480 x 640: to 32 x 42, five columns cut off either side
    wanted = processor(images=Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
    how = Manifest.read(exported).entry("image").preprocessing
    assert isinstance(how, PicturePreprocessing)
    seen = read_picture(picture, PictureSettings(how.size, how.mean, how.std, how.resample, how.resize))
    assert np.abs(seen - wanted).max() < 1e-6


def test_the_manifest_says_where_it_comes_from(exported: Path, clip_master: Path) -> None:
    from sayclip.bundle.files import sha256_of, verify_files

    manifest = Manifest.read(exported)
    verify_files(manifest, again=True)
    assert re.fullmatch("clip-[0-9a-f]{12}", manifest.space)
    assert (manifest.name, manifest.width) == ("tiny-clip", 48)
    weights = sha256_of(clip_master / "model.safetensors")
    for name in ("image", "text"):
        entry = manifest.entry(name)
        assert entry.space == manifest.space
        assert entry.provenance["sha256"] == weights
        assert entry.provenance["format"] == "Hugging Face CLIPModel, model.safetensors"
        assert entry.provenance["files"]["merges.txt"] == sha256_of(clip_master / "merges.txt")
        assert entry.measured["torch_max_abs_difference"] < 1e-5
        assert entry.measured["torch_shapes"] == (13 if name == "text" else 11)
        with np.load(exported / entry.reference.file, allow_pickle=False) as reference:
            assert reference["output.embedding"].shape == (4, 48)
    text = manifest.entry("text").preprocessing
    assert isinstance(text, TextPreprocessing)
    assert text.context == 77
    assert str(clip_master.parent) not in (exported / "bundle.json").read_text()
    assert len((exported / "tokenizer.txt").read_text(encoding="utf-8").splitlines()) == 48_895


@pytest.mark.parametrize("name", ["image", "text"])
def test_graphs_hold_plain_operators(name: str, exported: Path) -> None:
    graph = onnx.load(str(exported / f"{name}.fp32.onnx"))
    count = Counter(node.op_type for node in graph.graph.node)
    assert graph.opset_import[0].version == 18
    assert (count["Softmax"], count["Sigmoid"], count["Erf"]) == (2, 2, 0)
    assert count["MatMul"] + count["Gemm"] == 2 * 8 + 1
    assert not {"IsNaN", "Where", "If", "Loop"} & set(count)


def test_index_and_search_with_it(exported: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    for number, picture in enumerate(sample_pictures()):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    library = tmp_path / "library.sqlite"
    status, out, err = run("index", tmp_path / "pictures", "--bundle", exported, "--library", library)
    assert (status, "4 pictures" in out) == (0, True), err
    where = ("--bundle", exported, "--library", library, "--json")
    status, out, _ = run("search", "--image", tmp_path / "pictures" / "2.png", *where)
    assert status == 0
    hits = json.loads(out)["hits"]
    assert hits[0]["source"].endswith("2.png")
    assert hits[0]["score"] > 0.999
    status, out, err = run("search", "a photo of a cat", *where)
    assert (status, len(json.loads(out)["hits"])) == (0, 4), err


def test_the_command(run: Callable[..., Any], clip_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    status, printed, err = run("export", "clip", clip_folder, "--out", out, "--json")
    assert status == 0, err
    report = json.loads(printed)
    assert (report["bundle"], report["width"], set(report["encoders"])) == (str(out), 48, {"image", "text"})
    assert Manifest.read(out).space == report["space"]
    assert "differs from torch by" in err
    before = sorted(path.name for path in tmp_path.iterdir())
    status, printed, err = run("export", "clip", clip_folder, "--out", out)
    assert status == 0, err
    assert Manifest.read(out).space == report["space"], "replaced by the same"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    status, printed, err = run("export", "clip", clip_folder, "--out", tmp_path / "mine")
    assert (status, printed) == (2, "")
    assert "mine exists already and is no bundle" in err
    assert ONE_LINE.fullmatch(err)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "mine"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "openai" / "clip-vit-base-patch32", "does not exist, and is no hub id"),
        (lambda path: path, "holds no config.json"),
    ],
)
def test_other_formats_say_what_is_supported(
    make: Callable[[Path], Path], message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    status, out, err = run("export", "clip", make(tmp_path / "models"), "--out", tmp_path / "bundle")
    assert (status, out) == (2, "")
    assert message in err
    assert "this version reads a local folder of a Hugging Face CLIPModel" in err
    assert ONE_LINE.fullmatch(err)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_graph_that_differs_from_torch_leaves_nothing(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(graph: Path, *arguments: object) -> Agreement:
        assert graph.stat().st_size > 0
        return Agreement(0.5, 0.1, 1)

    monkeypatch.setattr(parts.graphs, "verify", wrong)
    with pytest.raises(BundleError, match=r"differs from torch by 5\.00e-01"):
        export_clip(clip_folder, tmp_path / "new" / "place" / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-clip"]


def test_a_place_that_cannot_be_written(clip_folder: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run("export", "clip", clip_folder, "--out", tmp_path / "file" / "bundle")
    assert (status, "cannot be written" in err) == (2, True)
