#!/bin/sh
# Makes a virtual environment in DIR with ONNX Runtime and what the scorer's tests compare with, from PyPI, and prints the
# path of ONNX Runtime's library, for ORT_DYLIB_PATH.
#
#   export ORT_DYLIB_PATH=$(scripts/scorer_venv.sh DIR)
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 scikit-learn==1.9.1 skl2onnx==1.20.0 'tritonclient[all]==2.73.0' >&2
set -- "$dir"/venv/lib/python3.*/site-packages/onnxruntime/capi/libonnxruntime.so.*
[ -f "$1" ] || { echo "onnxruntime is installed, but its library is not in $dir/venv" >&2; exit 1; }
echo "$1"
