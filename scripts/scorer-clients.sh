#!/usr/bin/env bash
# Stock clients (tritonclient over HTTP and gRPC, TensorFlow Serving's published stubs) against the real scorer with ONNX
# Runtime, and against its proxy in front of real peers that scripts/scorer-peers.sh has installed, and of the scorer
# itself as TensorFlow Serving and as KServe V1. Answers must be those of ONNX Runtime in Python.
#
#   scripts/scorer-clients.sh PYTHON CACHE DIR [triton] [mlserver] [torchserve]
#
# PYTHON has onnxruntime, numpy and tritonclient[http,grpc]; CACHE holds the peers' environments; DIR takes what is
# written. DRIFTLINE_SCORER (default target/debug/driftline-scorer) is the binary.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
python=$1 cache=$2 dir=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scorer=${DRIFTLINE_SCORER:-${CARGO_TARGET_DIR:-$here/../target}/debug/driftline-scorer}
model=$here/../tests/fixtures/scorer/mlp.onnx
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
ORT_DYLIB_PATH=$(ls "$("$python" -c 'import os, onnxruntime; print(os.path.dirname(onnxruntime.__file__))')"/capi/libonnxruntime.so.*)
export ORT_DYLIB_PATH
read -r http grpc admin < <("$python" - <<'PYTHON'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(one.getsockname()[1] for one in held))
PYTHON
)

finish() {
    [ -z "${pid:-}" ] || kill "$pid" 2>/dev/null || true
    for peer in "$@"; do
        [ ! -f "$dir/$peer/pid" ] || "$here/scorer-peers.sh" stop "$dir/$peer"
    done
}
trap 'finish "$@"' EXIT

# The messages alone, without TensorFlow: two megabytes.
stubs=$cache/tensorflow-protobuf
[ -d "$stubs/tensorflow_serving" ] || "$python" -m pip install --quiet --disable-pip-version-check --no-deps \
    --target "$stubs" tensorflow-protobuf==2.11.0
printf %s "0123456789abcdef-clients" >"$dir/token"

rm -rf "$dir/registry"
mkdir "$dir/registry"
"$scorer" register --registry "$dir/registry" mlp "$model"
"$scorer" promote --registry "$dir/registry" mlp 1
{
    echo "version: 1"
    echo "registry: registry"
    echo "http: {bind: 127.0.0.1:$http}"
    echo "grpc: {bind: 127.0.0.1:$grpc}"
    echo "admin: {bind: 127.0.0.1:$admin, tokens: [{name: clients, role: operate, token: {file: $dir/token}}]}"
    echo "models:"
    echo "  mlp: {}"
} >"$dir/scorer.yaml"
output=$("$python" -c "import sys, onnxruntime; print(onnxruntime.InferenceSession(sys.argv[1]).get_outputs()[0].name)" "$model")
# In front of itself, as the two protocols of which no server is at hand.
self=http://127.0.0.1:$http
{
    echo "  by-tf-serving:"
    echo "    proxy: {kind: tf-serving, url: '$self', versions: {'1': {model: mlp}}}"
    echo "  by-kserve-v1:"
    echo "    proxy: {kind: kserve-v1, url: '$self', versions: {'1': {model: mlp}}, outputs: [{name: $output, datatype: FP32}]}"
} >>"$dir/scorer.yaml"
peers=(by-tf-serving by-kserve-v1)
for peer in "$@"; do
    "$here/scorer-peers.sh" start "$cache" "$peer" "$model" mlp "$dir/$peer"
    kind=oip
    [ "$peer" != torchserve ] || kind=torchserve
    {
        echo "  $peer:"
        echo "    proxy: {kind: $kind, url: '$(cat "$dir/$peer/url")', versions: {'1': {model: mlp}}, outputs: [{name: $output, datatype: FP32}]}"
    } >>"$dir/scorer.yaml"
    peers+=("$peer")
done

launch() {
    "$scorer" serve --config "$dir/scorer.yaml" >"$dir/log" 2>&1 &
    pid=$!
}

# The first start puts the proxied versions into the registry; promoting them is a decision.
launch
for peer in "${peers[@]}"; do
    tries=0
    until "$scorer" promote --registry "$dir/registry" "$peer" 1 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || { cat "$dir/log" >&2; exit 1; }
        sleep 0.5
    done
done
tries=0
until curl --silent --fail --output /dev/null "http://127.0.0.1:$admin/-/ready"; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || { cat "$dir/log" >&2; exit 1; }
    sleep 0.5
done
PYTHONPATH=$stubs "$python" "$here/scorer-clients/check.py" "127.0.0.1:$http" "127.0.0.1:$grpc" "127.0.0.1:$admin" \
    "$dir/token" "$model" mlp "${peers[@]}"
