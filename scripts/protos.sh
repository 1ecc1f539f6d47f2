#!/bin/sh
# Writes src/scorer/protocols/grpc/generated from the .proto files beside it, or with --check fails if it is not what
# they give. No protoc is needed. DIR takes the generator's build.
#
#   scripts/protos.sh [--check] DIR
set -eu

check=
[ "${1:-}" = --check ] && { check=1; shift; }
[ $# -eq 1 ] || { echo "usage: $0 [--check] DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
grpc=src/scorer/protocols/grpc
rm -rf "$dir/out" && mkdir "$dir/out"
cp -r scripts/protos/. "$dir/crate"
CARGO_TARGET_DIR="$dir/target" cargo run --quiet --manifest-path "$dir/crate/Cargo.toml" -- "$grpc/protos" "$dir/out"
rustfmt --edition 2024 --config-path rustfmt.toml "$dir"/out/*.rs
if [ -n "$check" ]; then
    diff -r "$grpc/generated" "$dir/out"
else
    cp "$dir"/out/*.rs "$grpc/generated/"
fi
