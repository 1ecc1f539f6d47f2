#!/usr/bin/env bash
# The scorer's figures, and beside them MLServer's and Triton's (its PyPI build: Python backend) with the same model, in the
# same rounds by the same load generator, on this machine's cores. Builds optimised; everything listens on loopback.
#
#   export ORT_DYLIB_PATH=$(scripts/scorer_venv.sh CACHE)
#   scripts/scorer_bench.sh CACHE [further arguments of the bench, such as --seconds 5]
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: $0 CACHE [ARGUMENT...]" >&2; exit 2; }
: "${ORT_DYLIB_PATH:?names the library of ONNX Runtime: see scripts/scorer_venv.sh}"
mkdir -p "$1"
cache=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
work=$(mktemp -d)
target=${CARGO_TARGET_DIR:-target}

finish() {
    status=$?
    [ -n "${scorer:-}" ] && kill "$scorer" 2>/dev/null || true
    for peer in mlserver triton; do
        [ -f "$work/$peer/pid" ] && scripts/scorer-peers.sh stop "$work/$peer" || true
    done
    rm -rf "$work"
    exit $status
}
trap finish EXIT

scripts/scorer-peers.sh install "$cache/peers" mlserver triton
cargo build --release --bin driftline-scorer
model=tests/fixtures/scorer/mlp.onnx
read -r http admin < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
cat >"$work/scorer.yaml" <<YAML
version: 1
registry: registry
http: {bind: 127.0.0.1:$http}
grpc: {enabled: false}
admin: {bind: 127.0.0.1:$admin}
events: {enabled: false}
YAML
mkdir -p "$work/registry"
"$target/release/driftline-scorer" register --config "$work/scorer.yaml" mlp "$model"
"$target/release/driftline-scorer" promote --config "$work/scorer.yaml" mlp 1 --reason bench
"$target/release/driftline-scorer" serve --config "$work/scorer.yaml" --log warn &
scorer=$!
for _ in $(seq 100); do
    curl --silent --fail --output /dev/null "http://127.0.0.1:$http/v2/models/mlp/ready" && break
    sleep 0.1
done
for peer in mlserver triton; do
    scripts/scorer-peers.sh start "$cache/peers" "$peer" "$model" mlp "$work/$peer"
done
nproc
uptime
cargo bench --bench scorer -- "scorer=http://127.0.0.1:$http" "mlserver=$(cat "$work/mlserver/url")" \
    "triton=$(cat "$work/triton/url")" --model mlp "$@"
