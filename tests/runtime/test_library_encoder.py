"""The library with the real encoder: paths, arrays and every kind of query through real graphs."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

import sayclip
from sayclip.errors import NoSpeechError, PhonemeError, SpaceMismatchError, TextError
from sayclip.library import find_pictures

pytest.importorskip("onnxruntime")


@pytest.fixture
def loaded(tiny_bundle_master):
    with sayclip.load(tiny_bundle_master, precision="fp32", threads=1) as encoder:
        yield encoder


def test_the_main_way(loaded, tmp_path, picture_folder, picture):
    folder = picture_folder(40)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with sayclip.Library.create(tmp_path / "library", loaded) as library:
        report = library.add_many(find_pictures(folder), batch_size=16)
        assert (report.added, len(report.failed)) == (40, 1)
        assert "broken.png" in report.failed[0][1]
        path = folder / "007.png"
        for form in (path, str(path), picture(7), Image.fromarray(picture(7))):
            hit = library.search(image=form, k=1)[0]
            assert hit.source == str(path)
            assert hit.score == pytest.approx(1, abs=1e-4)
        wave = (0.3 * np.sin(np.arange(8000) / 5)).astype(np.float32)
        result = library.search("red cat", speech=wave, ipa="ɹɛd", weights={"speech": 2}, sample_rate=8000)
        total = loaded.text("red cat") + 2 * loaded.speech(wave, sample_rate=8000) + loaded.pronunciation("ɹɛd")
        expected = library.search_vector(total)
        assert [hit.item_id for hit in result] == [hit.item_id for hit in expected]
        if importlib.util.find_spec("phonemizer"):
            assert len(library.search(words="red cat")) == 10
    with sayclip.Library.open(tmp_path / "library", loaded) as library:
        assert library.add_many(find_pictures(folder)).unchanged == 40
        assert library.search("red cat", k=3) == library.search(text=["red cat"], k=3)


def test_a_bad_query_is_the_encoders_error(loaded, tmp_path, picture):
    with sayclip.Library.create(tmp_path / "library", loaded) as library:
        library.add(picture(1))
        for asked, error in (
            ({"text": " "}, TextError),
            ({"speech": np.zeros(16000, np.float32)}, NoSpeechError),
            ({"ipa": "ɹ7d"}, PhonemeError),
        ):
            with pytest.raises(error):
                library.search(**asked)


def test_another_bundle_is_refused(loaded, tmp_path, encoder):
    with sayclip.Library.create(tmp_path / "library", loaded):
        pass
    with pytest.raises(SpaceMismatchError, match=loaded.space):
        sayclip.Library.open(tmp_path / "library", encoder)
