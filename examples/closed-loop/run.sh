#!/usr/bin/env bash
# Shows the closed loop: drift, alert, retraining, gate, shadow, canary, promotion; then bad versions, rolled back by the
# scorer and by the monitor.
#
#   examples/closed-loop/run.sh [DIR]
#
# DIR (default: a temporary one) gets the virtual environment and everything else. KAFKA=host:port names a broker without
# this example's topics; otherwise scripts/kafka.sh starts one (Java 17, Maven). The binaries are those of
# CARGO_TARGET_DIR (default: target), or DRIFTLINE and DRIFTLINE_SCORER.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
binaries=${CARGO_TARGET_DIR:-$root/target}/debug
driftline=${DRIFTLINE:-$binaries/driftline}
scorer=${DRIFTLINE_SCORER:-$binaries/driftline-scorer}
for program in "$driftline" "$scorer"; do
    [ -x "$program" ] || { echo "$program is missing: cargo build --bins" >&2; exit 1; }
done
dir=${1:-$(mktemp -d)}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
venv=${DRIFTLINE_LOOP_VENV:-$dir/venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
if [ -z "${ORT_DYLIB_PATH:-}" ]; then
    ORT_DYLIB_PATH=$(echo "$venv"/lib/python3.*/site-packages/onnxruntime/capi/libonnxruntime.so.*)
    export ORT_DYLIB_PATH
fi
if [ -z "${KAFKA:-}" ]; then
    trap '"$root/scripts/kafka.sh" stop "$dir/kafka"' EXIT
    KAFKA=$("$root/scripts/kafka.sh" start "$dir/kafka")
fi
timeout 420 "$venv/bin/python" "$here/loop.py" --bootstrap "$KAFKA" --work "$dir/work" --driftline "$driftline" --scorer "$scorer"
