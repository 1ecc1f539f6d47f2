#!/usr/bin/env bash
# Validates the Kubernetes manifests strictly: unknown keys are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate
"$work/venv/bin/kubernetes-validate" --strict deploy/kubernetes/*.yaml
