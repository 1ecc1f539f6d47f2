#!/usr/bin/env bash
# The scorer's figures over HTTP, on this machine's cores; builds optimised, everything listens on loopback.
#
#   export ORT_DYLIB_PATH=$(scripts/scorer_venv.sh CACHE)
#   scripts/scorer_bench.sh peers CACHE [ARGUMENT...]    beside MLServer, Triton (its PyPI build: Python backend) and an
#                                                        HTTP server that scores nothing, same model, same rounds
#   scripts/scorer_bench.sh events CACHE [ARGUMENT...]   with prediction events to a Kafka broker on the same cores, and
#                                                        without; needs what scripts/kafka.sh needs
#
# Further arguments go to the bench (`benches/scorer.rs`), such as `--seconds 5` or `--binary`.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
: "${ORT_DYLIB_PATH:?names the library of ONNX Runtime: see scripts/scorer_venv.sh}"
mode=$1
mkdir -p "$2"
cache=$(cd "$2" && pwd)
shift 2
cd "$(dirname "$0")/.."
work=$(mktemp -d)
target=${CARGO_TARGET_DIR:-target}
model=tests/fixtures/scorer/mlp.onnx
started=()

finish() {
    status=$?
    [ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null || true
    for peer in mlserver triton; do
        [ -f "$work/$peer/pid" ] && scripts/scorer-peers.sh stop "$work/$peer" || true
    done
    [ -d "$work/kafka" ] && scripts/kafka.sh stop "$work/kafka" || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT

free_ports() {
    python3 -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))' "$1"
}

# Answers once http://127.0.0.1:$1$2 does.
await() {
    for _ in $(seq 100); do
        curl --silent --fail --output /dev/null "http://127.0.0.1:$1$2" && return
        sleep 0.1
    done
    echo "http://127.0.0.1:$1$2 does not answer" >&2
    return 1
}

# Serves the model as `mlp`: NAME PORT, and the settings of its events.
scorer() {
    local name=$1 http=$2 events=$3 admin settings=$work/$1.yaml
    admin=$(free_ports 1)
    echo "$admin" >"$settings.admin"
    cat >"$settings" <<YAML
version: 1
registry: $name
http: {bind: "127.0.0.1:$http"}
grpc: {enabled: false}
admin: {bind: "127.0.0.1:$admin"}
$events
YAML
    mkdir -p "$work/$name"
    "$target/release/driftline-scorer" register --config "$settings" mlp "$model"
    "$target/release/driftline-scorer" promote --config "$settings" mlp 1 --reason bench
    "$target/release/driftline-scorer" serve --config "$settings" --log warn &
    started+=($!)
    await "$http" /v2/models/mlp/ready
}

cargo build --release --bin driftline-scorer
# The program itself: `cargo bench` would leave a server that it started behind.
bench=$(cargo bench --bench scorer --no-run 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
read -r one two echo < <(free_ports 3)
nproc
uptime
case $mode in
peers)
    scripts/scorer-peers.sh install "$cache/peers" mlserver triton
    scorer scorer "$one" "events: {enabled: false}"
    "$bench" --serve-echo "$echo" &
    started+=($!)
    await "$echo" /
    for peer in mlserver triton; do
        scripts/scorer-peers.sh start "$cache/peers" "$peer" "$model" mlp "$work/$peer"
    done
    "$bench" --model mlp "scorer=http://127.0.0.1:$one" "mlserver=$(cat "$work/mlserver/url")" "triton=$(cat "$work/triton/url")" \
        "echo=http://127.0.0.1:$echo" "$@"
    ;;
events)
    scripts/kafka.sh start "$work/kafka"
    # Brokers need not make topics by themselves, and events that nobody takes would cost too little.
    scripts/kafka.sh topics "$work/kafka" --create --topic predictions --partitions 4 --replication-factor 1
    scorer without "$one" "events: {enabled: false}"
    scorer with "$two" "kafka: {bootstrap_servers: \"$(scripts/kafka.sh bootstrap "$work/kafka")\"}
events: {enabled: true, topic: predictions}"
    "$bench" --model mlp "without=http://127.0.0.1:$one" "with=http://127.0.0.1:$two" "$@"
    # The figures hold for events that arrived: sent must be offered, dropped and failed 0.
    sleep 2
    curl --silent --fail "http://127.0.0.1:$(cat "$work/with.yaml.admin")/metrics" |
        grep -E '^driftline_scorer_events_(offered|sent|dropped|failed)_total'
    ;;
*)
    echo "there is no mode $mode: peers or events" >&2
    exit 2
    ;;
esac
