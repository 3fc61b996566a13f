#!/usr/bin/env bash
# For a CUDA machine, offline, with what is installed there (PyTorch, ONNX Runtime for GPUs, TensorRT or TensorRT-RTX):
# full-size encoders of random weights, calibrated on the spot, engines built where a library can, everything timed
# beside PyTorch on the GPU, eager and compiled, and whole queries last. WORK keeps bundles and recordings, PYTHON names
# the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON="${PYTHON:-python3}"
WORK="$(realpath -m "${WORK:-work/gpu}")"
here="$PWD"
# The toolkit's commands are found as those of an installed package; offline nothing needs to be installed for that.
info="$WORK/site/sayclip_toolkit-0.dist-info"
mkdir -p "$info"
printf 'Metadata-Version: 2.1\nName: sayclip-toolkit\nVersion: 0\n' >"$info/METADATA"
"$PYTHON" - "$info/entry_points.txt" <<'PYTHON'
import re, sys
text = open("pyproject.toml", encoding="utf-8").read()
points = re.search(r'entry-points."sayclip.commands"\]\n((?:\w+ = ".*"\n)+)', text).group(1)
open(sys.argv[1], "w", encoding="utf-8").write("[sayclip.commands]\n" + points.replace('"', ""))
PYTHON
paths="$WORK/site"
for wing in runtime export calibration training benchmarks demo; do paths="$paths:$here/$wing"; done
export PYTHONPATH="$paths${PYTHONPATH:+:$PYTHONPATH}"
"$PYTHON" -m sayclip doctor || true
"$PYTHON" -m sayclip bench int8 --device cuda --work "$WORK" --items "${ITEMS:-256}" --samples "${SAMPLES:-16}" \
  --demo demo/sayclip_demo --out "$WORK/gpu"
"$PYTHON" -m sayclip bench "$WORK/clip" "$WORK/speech" --quick --turns 3 --minimum-seconds 1 --no-cold --vectors 10000 \
  --work "$WORK/bench" --demo demo/sayclip_demo --out "$WORK/bench/results"
