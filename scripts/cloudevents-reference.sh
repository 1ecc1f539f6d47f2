#!/bin/sh
# Reads Driftline's alerts from a Kafka topic with the CNCF's CloudEvents SDK and a stock Kafka client, from PyPI into a
# virtual environment in DIR.
#
#   DRIFTLINE_TEST_KAFKA=host:port scripts/cloudevents-reference.sh DIR
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
: "${DRIFTLINE_TEST_KAFKA:?names the broker to test on: host:port}"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check cloudevents==1.12.0 confluent-kafka==2.11.1
DRIFTLINE_PYTHON="$dir/venv/bin/python" cargo test --test dispatch_topic -- --ignored --exact \
    a_stock_client_reads_every_event
