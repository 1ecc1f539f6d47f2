#!/usr/bin/env bash
# Real model servers on loopback, from PyPI, that the scorer's proxy and its figures are compared with: Triton 2.51
# (inside nvidia-pytriton: Python backend only), MLServer and TorchServe. Each scores a given ONNX model with the same
# ONNX Runtime, one thread. TorchServe needs Java 17.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/scorer-peers
onnxruntime=onnxruntime==1.32.0

usage() {
  cat <<'TEXT'
scripts/scorer-peers.sh COMMAND

  install CACHE PEER...                   make the virtual environments of peers: triton, mlserver, torchserve
  start CACHE PEER MODEL.onnx NAME DIR    start one that serves MODEL.onnx as NAME; DIR gets its log, pid and `url`
                                          (and `grpc`, host:port of its gRPC, for triton and mlserver)
  stop DIR                                stop it

DRIFTLINE_PEERS_PYTHON (default /usr/bin/python3) makes the environments: 3.11 or 3.12, and for Triton one with a shared
library, as Debian's is.
TEXT
}

fail() {
  echo "scorer-peers.sh: $*" >&2
  exit 1
}

packages() {
  case $1 in
    # tritonclient is pinned beside the servers: these bring it along without a version.
    triton) echo nvidia-pytriton==0.7.0 tritonclient==2.73.0 "$onnxruntime" ;;
    mlserver) echo mlserver==1.7.1 "$onnxruntime" ;;
    # Without torch: see stand_in/torch.py.
    torchserve) echo torchserve==0.12.0 numpy==2.4.6 pyyaml==6.0.3 "$onnxruntime" ;;
    *) fail "no such peer: $1" ;;
  esac
}

install() {
  local cache=$1 peer
  shift
  mkdir -p "$cache"
  for peer in "$@"; do
    local wanted
    wanted=$(packages "$peer")
    if [[ $(cat "$cache/$peer/installed" 2>/dev/null) != "$wanted" ]]; then
      rm -rf "${cache:?}/$peer"
      "${DRIFTLINE_PEERS_PYTHON:-/usr/bin/python3}" -m venv "$cache/$peer"
      # shellcheck disable=SC2086
      "$cache/$peer/bin/pip" install --quiet --disable-pip-version-check $wanted
      if [[ $peer == torchserve ]]; then
        cp "$here/stand_in/torch.py" "$("$cache/$peer/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
      fi
      echo "$wanted" >"$cache/$peer/installed"
    fi
  done
}

free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
PYTHON
}

# Answers once `$1` does, while the process of directory $2 lives.
wait_for() {
  local url=$1 dir=$2 tries=0
  until curl --silent --fail --output /dev/null --max-time 2 "$url"; do
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || { tail -n 40 "$dir/log" >&2; fail "it ended; its log ends above"; }
    tries=$((tries + 1))
    [[ $tries -lt 240 ]] || { tail -n 40 "$dir/log" >&2; fail "$url does not answer after two minutes"; }
    sleep 0.5
  done
}

# Starts its arguments in a session of their own, so that `stop` ends whatever they started too.
launch() {
  local dir=$1
  shift
  (cd "$dir" && exec setsid "$@" >"$dir/log" 2>&1 </dev/null) &
  echo $! >"$dir/pid"
}

start_triton() {
  local venv=$1 model=$2 name=$3 dir=$4 http grpc
  read -r http grpc < <(free_ports 2)
  # Triton prepares its workspaces under the home directory.
  HOME=$dir launch "$dir" "$venv/bin/python" "$here/triton.py" "$model" "$name" "$http" "$grpc"
  echo "127.0.0.1:$grpc" >"$dir/grpc"
  echo "http://127.0.0.1:$http" >"$dir/url"
  wait_for "http://127.0.0.1:$http/v2/models/$name/ready" "$dir"
}

start_mlserver() {
  local venv=$1 model=$2 name=$3 dir=$4 http grpc metrics
  read -r http grpc metrics < <(free_ports 3)
  mkdir -p "$dir/model"
  cat >"$dir/settings.json" <<JSON
{"debug": false, "host": "127.0.0.1", "http_port": $http, "grpc_port": $grpc, "metrics_port": $metrics,
 "parallel_workers": 0, "metrics_dir": "$dir"}
JSON
  cat >"$dir/model/model-settings.json" <<JSON
{"name": "$name", "implementation": "mlserver_onnx.OnnxModel", "parameters": {"uri": "$model", "version": "1"}}
JSON
  PYTHONPATH=$here launch "$dir" "$venv/bin/mlserver" start "$dir"
  echo "127.0.0.1:$grpc" >"$dir/grpc"
  echo "http://127.0.0.1:$http" >"$dir/url"
  wait_for "http://127.0.0.1:$http/v2/models/$name/ready" "$dir"
}

start_torchserve() {
  local venv=$1 model=$2 name=$3 dir=$4 http admin metrics grpc grpc_admin
  command -v java >/dev/null || fail "java is missing: install a Java 17 runtime (Debian: openjdk-17-jre-headless)"
  read -r http admin metrics grpc grpc_admin < <(free_ports 5)
  mkdir -p "$dir/store"
  python3 - "$model" "$here/torchserve_onnx.py" "$name" "$dir/store/$name.mar" <<'PYTHON'
import json, sys, zipfile
model, handler, name, archive = sys.argv[1:]
manifest = {
    "runtime": "python",
    "model": {"modelName": name, "serializedFile": "model.onnx", "handler": "handler.py", "modelVersion": "1.0"},
    "archiverVersion": "0.12.0",
}
with zipfile.ZipFile(archive, "w") as mar:
    mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    mar.write(model, "model.onnx")
    mar.write(handler, "handler.py")
PYTHON
  cat >"$dir/config.properties" <<PROPERTIES
inference_address=http://127.0.0.1:$http
management_address=http://127.0.0.1:$admin
metrics_address=http://127.0.0.1:$metrics
grpc_inference_address=127.0.0.1
grpc_inference_port=$grpc
grpc_management_address=127.0.0.1
grpc_management_port=$grpc_admin
default_workers_per_model=1
disable_token_authorization=true
disable_system_metrics=true
PROPERTIES
  # Its own launcher, so that the process and its temporary files are ours alone.
  mkdir -p "$dir/tmp"
  PATH="$venv/bin:$PATH" TMPDIR=$dir/tmp TEMP=$dir/tmp LOG_LOCATION=$dir/logs METRICS_LOCATION=$dir/logs \
    launch "$dir" "$venv/bin/torchserve" --foreground --ncs --ts-config "$dir/config.properties" \
    --model-store "$dir/store" --models "$name=$name.mar"
  echo "http://127.0.0.1:$http" >"$dir/url"
  wait_for "http://127.0.0.1:$http/ping" "$dir"
  # /ping answers before the model's worker is up.
  local tries=0
  until curl --silent --fail --max-time 2 "http://127.0.0.1:$admin/models/$name" | grep -q '"READY"'; do
    tries=$((tries + 1))
    [[ $tries -lt 120 ]] || { tail -n 40 "$dir/log" >&2; fail "the worker of $name is not ready after a minute"; }
    sleep 0.5
  done
}

start() {
  local cache peer=$2 model name=$4 dir
  cache=$(cd "$1" && pwd)
  model=$(realpath "$3")
  mkdir -p "$5"
  dir=$(cd "$5" && pwd)
  [[ -x $cache/$peer/bin/python ]] || fail "$peer is not installed in $cache: run $0 install $cache $peer"
  "start_$peer" "$cache/$peer" "$model" "$name" "$dir"
  echo "$peer serves $name on $(cat "$dir/url")"
}

stop() {
  local pid
  pid=$(cat "$1/pid")
  kill -- "-$pid" 2>/dev/null || true
  for _ in $(seq 60); do
    kill -0 -- "-$pid" 2>/dev/null || return 0
    sleep 0.25
  done
  kill -9 -- "-$pid" 2>/dev/null || true
}

case ${1:-} in
  install) [[ $# -ge 3 ]] || { usage >&2; exit 2; }; shift; install "$@" ;;
  start) [[ $# -eq 6 ]] || { usage >&2; exit 2; }; shift; start "$@" ;;
  stop) [[ $# -eq 2 ]] || { usage >&2; exit 2; }; shift; stop "$@" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
