"""What int8 costs: the trained encoder in a bundle of its own, calibrated, and asked through the runtime."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sayclip
from sayclip_calibration.cli import OwnCore
from sayclip_calibration.data import Given
from sayclip_calibration.encoders import Request, calibrate_bundle
from sayclip_export.pronunciation_export import export_pronunciation
from sayclip_training.claims.pronunciation.retrieval import Bank
from sayclip_training.claims.testbed import Spelling

PRECISIONS = ("fp32", "int8")
_ENCODER = "pronunciation"


def scores(
    trained: Path, ipa: Sequence[str], bank: Bank, asked: Mapping[str, tuple[Sequence[str], Sequence[Spelling]]]
) -> dict[str, Any]:
    """Recalls by kind and precision: ``asked`` has (IPA, what is meant) of each kind.

    The encoder in the file ``trained`` is exported, calibrated on ``ipa``, and run by ONNX Runtime.
    """
    with tempfile.TemporaryDirectory() as made:
        lines, bundle, out = Path(made, "ipa.txt"), Path(made, "bundle"), Path(made, "int8")
        lines.write_text("".join(f"{line}\n" for line in ipa if line), encoding="utf-8")
        export_pronunciation(trained, bundle)
        request = Request(
            bundle, Given(ipa=lines), out=out, encoders=(_ENCODER,), precisions=("int8",), force=True, threads=1
        )
        result = calibrate_bundle(request, OwnCore(), lambda line: None, lambda label, done, total: None)
        found: dict[str, Any] = {"problems": list(result.failed)}
        for precision in PRECISIONS:
            with sayclip.load(out, backend="onnxruntime", precision=precision, threads=1) as encoder:
                for kind, (spoken, meant) in asked.items():
                    rows = encoder.pronunciation(list(spoken), nearest=True)
                    found.setdefault(kind, {})[precision] = bank.recalls(rows @ bank.rows.T, meant)
        shutil.rmtree(out, ignore_errors=True)
        return found
