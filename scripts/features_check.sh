#!/usr/bin/env bash
# A crate whose features differ between `cargo run` and `cargo test` is built twice, and with it everything that
# stands on it, the engine and this package included: minutes for every newcomer. Prints such crates; none is right.
set -euo pipefail
cd "$(dirname "$0")/.."

features() {
    cargo tree --edges "$1" --prefix none --format '{p} [{f}]' | sed 's/ (\*)$//' | sort -u
}

built=$(features normal,build)
# What the tests alone bring in is built once; what both build must be the same.
differing=$(comm -13 <(echo "$built") <(features normal,build,dev) | awk '{ print $1 " " $2 " " }' |
    grep -Ff - <(echo "$built") || true)
if [ -n "$differing" ]; then
    echo "these crates get other features from the tests' dependencies; name those features in [dependencies]:" >&2
    echo "$differing" >&2
    exit 1
fi
