#!/bin/sh
# Checks Driftline's webhook signatures with the Standard Webhooks reference library, from PyPI into a virtual
# environment in DIR.
#
#   scripts/webhook-reference.sh DIR
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check standardwebhooks==1.0.1
DRIFTLINE_PYTHON="$dir/venv/bin/python" cargo test --test dispatch_webhook -- --ignored --exact \
    the_reference_library_verifies_every_signature
