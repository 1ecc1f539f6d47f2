#!/usr/bin/env bash
# Loads a page in a real Chromium and looks for texts in the document it made of it: browser_check.sh URL TEXT...
set -euo pipefail
url=$1
shift
command -v chromium >/dev/null || apt-get install -y --no-install-recommends chromium >/dev/null
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync "--user-data-dir=$profile" --enable-logging=stderr --dump-dom "$url" \
  >"$profile/dom.html" 2>"$profile/log"
missing=0
for text in "$@"; do
  if ! grep -qF -- "$text" "$profile/dom.html"; then
    echo "not on $url: $text" >&2
    missing=1
  fi
done
# What the browser refused (policy, broken style sheet) is in its console.
if grep -E 'CONSOLE|Refused to' "$profile/log" >&2; then missing=1; fi
exit "$missing"
