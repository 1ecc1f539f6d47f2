#!/usr/bin/env bash
# Runs libFuzzer on the scorer's decoders, each target for SECONDS (60): what it finds is left in fuzz/artifacts, and the
# script fails.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]
#
# Stable Rust does: only this package is instrumented, by options of the compiler, and its dependencies are those of any
# other build. What is new in the corpus stays in the build directory; to keep an input, copy it to fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"$|\1|p' fuzz/Cargo.toml)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
work=$CARGO_TARGET_DIR/fuzz
mkdir -p "$work" fuzz/artifacts

cp Cargo.lock fuzz/Cargo.lock
# Other profiles would build every dependency again.
sed -n '/^\[profile/,$p' Cargo.toml >"$work/profiles.toml"
cat >"$work/rustc" <<'EOF'
#!/bin/sh
case " $* " in
*" --crate-name driftline "*)
    exec "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
        -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
        -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=16 ;;
*) exec "$@" ;;
esac
EOF
chmod +x "$work/rustc"
RUSTC_WRAPPER=$work/rustc cargo build --quiet --manifest-path fuzz/Cargo.toml --config "$work/profiles.toml" \
    "${targets[@]/#/--bin=}"

for target in "${targets[@]}"; do
    mkdir -p "$work/corpus/$target"
    echo "=== $target"
    "$CARGO_TARGET_DIR/debug/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target-" "$work/corpus/$target" "fuzz/corpus/$target" 2>&1 |
        grep -v -e NEW -e REDUCE -e pulse
done
