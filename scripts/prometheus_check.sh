#!/usr/bin/env bash
# Starts a real Prometheus (Debian's) that scrapes a running service, or the admin address of a running scorer, and runs
# every query of every dashboard of it.
# prometheus_check.sh HOST:PORT [DASHBOARDS_DIR]
set -euo pipefail
target=$1
here=$(cd "$(dirname "$0")" && pwd)
dashboards=${2:-$here/../grafana/dashboards}
command -v prometheus >/dev/null || apt-get install -y --no-install-recommends prometheus >/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
work=$(mktemp -d)
cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: driftline
    static_configs: [{targets: ["$target"]}]
YAML
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
  --web.listen-address="127.0.0.1:$port" --log.level=warn >"$work/log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
if ! python3 "$here/prometheus_check.py" "http://127.0.0.1:$port" "$target" "$dashboards"; then
  tail -n 20 "$work/log" >&2
  exit 1
fi
