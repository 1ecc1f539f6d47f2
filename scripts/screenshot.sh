#!/usr/bin/env bash
# Takes a picture of a page: screenshot.sh URL FILE.png [WIDTH [light|dark [HEIGHT]]]
set -euo pipefail
url=$1 png=$2 width=${3:-1280} scheme=${4:-light} height=${5:-1500}
command -v chromium >/dev/null || apt-get install -y --no-install-recommends chromium >/dev/null
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
flags=(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
  --disable-component-update --disable-sync --hide-scrollbars "--user-data-dir=$profile")
[ "$scheme" = dark ] && flags+=(--blink-settings=preferredColorScheme=0)
if [ "$width" -ge 500 ]; then
  timeout 60 chromium "${flags[@]}" "--window-size=$width,$height" "--screenshot=$png" "$url" 2>/dev/null
else
  # A headless window is never narrower than 500 pixels, so a phone is a frame of its width in a wider window. The
  # policy forbids frames of the page itself: the frame shows a copy.
  origin=$(sed -E 's#^(https?://[^/]+).*#\1#' <<<"$url")
  curl -fsS "$origin/style.css" -o "$profile/style.css"
  curl -fsS "$url" | sed -e 's#href="/style.css"#href="style.css"#' -e '/http-equiv="refresh"/s#<meta http-equiv="refresh"[^>]*>##' \
    >"$profile/page.html"
  printf '<!doctype html><meta name="color-scheme" content="light dark"><body style="margin:0">
    <iframe src="page.html" width="%s" height="%s" style="border:0"></iframe>' "$width" "$height" >"$profile/frame.html"
  timeout 60 chromium "${flags[@]}" --allow-file-access-from-files "--window-size=500,$height" "--screenshot=$png" \
    "file://$profile/frame.html" 2>/dev/null
fi
