#!/usr/bin/env bash
# Compares `driftline report` with the expected values of an oracle, on every data set and edge case of it.
#
# usage: scripts/oracle_report.sh SHARED_DIR [PYTHON]
#   SHARED_DIR  holds data/NAME/{reference,current}.parquet and spec.json, oracle/{compare.py,expected}, bench/gen_data.py
#   PYTHON      an interpreter with numpy and polars (default: python3)
#   DRIFTLINE   the binary (default: built by cargo); SYNTH_ROWS=0 leaves the million generated rows out;
#               TABLE=--write puts the differences found into docs/statistics.md instead of checking that it covers them
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,9p' "$0" >&2
    exit 2
fi
shared=$(cd "$1" && pwd)
python=${2:-python3}
cd "$(dirname "$0")/.."
if [ -z "${DRIFTLINE:-}" ]; then
    cargo build --quiet --bin driftline
    DRIFTLINE=${CARGO_TARGET_DIR:-target}/debug/driftline
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

# compare NAME REFERENCE CURRENT SPEC EXPECTED: the options come from the specification's window and columns
compare() {
    local name=$1 reference=$2 current=$3 spec=$4 expected=$5
    mapfile -t options < <("$python" scripts/oracle_report.py options "$spec")
    echo "== $name"
    if ! "$DRIFTLINE" report --reference "$reference" --current "$current" "${options[@]}" --exact --format jsonl \
            --output "$work/$name.jsonl" \
        || ! "$python" "$shared/oracle/compare.py" --ours "$work/$name.jsonl" --expected "$expected" \
        || ! "$python" scripts/oracle_report.py coverage "$work/$name.jsonl" "$expected"; then
        failed+=("$name")
    fi
    if ! compare_profiles "$name" "$reference" "$current" "$expected" "${options[@]}"; then
        failed+=("$name: profiles")
    fi
}

# compare_profiles NAME REFERENCE CURRENT EXPECTED OPTION...: what bins leave of it, after the rows of the same files
compare_profiles() {
    local name=$1 reference=$2 current=$3 expected=$4
    shift 4
    "$DRIFTLINE" report --profile --reference "$reference" --current "$current" "$@" --format jsonl \
            --output "$work/$name.profile.jsonl" \
        && "$python" scripts/oracle_profiles.py check "$work/$name.jsonl" "$work/$name.profile.jsonl" "$expected" \
            "$work/found.json"
}

# compare_joint NAME REFERENCE CURRENT SPEC: estimates without labels, and the numeric columns together
compare_joint() {
    local name=$1 reference=$2 current=$3 spec=$4 cbpe_mmd=$shared/oracle/expected/$1.cbpe_mmd.json
    mapfile -t options < <("$python" scripts/oracle_report.py options "$spec")
    echo "== $name: estimates and joint discrepancy"
    "$python" scripts/oracle_report.py joint-expected "$cbpe_mmd" >"$work/joint-expected.json"
    if ! "$DRIFTLINE" report --reference "$reference" --current "$current" "${options[@]}" --mmd --format jsonl \
            --features "$("$python" scripts/oracle_report.py joint-columns "$cbpe_mmd")" --output "$work/joint.jsonl" \
        || ! "$python" "$shared/oracle/compare.py" --ours "$work/joint.jsonl" --expected "$work/joint-expected.json" \
        || ! "$python" scripts/oracle_report.py coverage "$work/joint.jsonl" "$work/joint-expected.json"; then
        failed+=("$name: estimates and joint discrepancy")
    fi
}

for directory in "$shared"/data/*/; do
    name=$(basename "$directory")
    [ -f "$directory/spec.json" ] || continue
    compare "$name" "$directory/reference.parquet" "$directory/current.parquet" "$directory/spec.json" \
        "$shared/oracle/expected/$name.json"
    compare_joint "$name" "$directory/reference.parquet" "$directory/current.parquet" "$directory/spec.json"
done

# the generated set: small in both formats, large from Parquet
synth() {
    local name=$1 rows=$2 reference_rows=$3
    shift 3
    "$python" "$shared/bench/gen_data.py" --out "$work/$name" --rows "$rows" --ref-rows "$reference_rows" >/dev/null
    for format in "$@"; do
        compare "$name" "$work/$name/reference.$format" "$work/$name/current.$format" \
            "$shared/oracle/specs/synth.json" "$shared/oracle/expected/$name.json"
    done
    if [ -f "$shared/oracle/expected/$name.cbpe_mmd.json" ]; then
        compare_joint "$name" "$work/$name/reference.parquet" "$work/$name/current.parquet" \
            "$shared/oracle/specs/synth.json"
    fi
    rm -rf "${work:?}/$name"
}
synth synth_small 48000 12000 parquet jsonl
[ "${SYNTH_ROWS:-}" = 0 ] || synth synth_1m 1000000 100000 parquet

# edge cases: inputs and expected values stand in one file
"$python" scripts/oracle_report.py edge-cases "$shared/oracle/expected/edge_cases.json" "$work/edge"
for directory in "$work"/edge/*/; do
    name=$(basename "$directory")
    mapfile -t options <"$directory/options"
    if ! "$DRIFTLINE" report --reference "$directory/reference.jsonl" --current "$directory/current.jsonl" \
            "${options[@]}" --exact --format jsonl --output "$work/$name.jsonl" \
        || ! "$python" "$shared/oracle/compare.py" --ours "$work/$name.jsonl" --expected "$directory/expected.json" \
            >"$work/log" \
        || ! "$python" scripts/oracle_report.py coverage "$work/$name.jsonl" "$directory/expected.json" \
        || ! compare_profiles "$name" "$directory/reference.jsonl" "$directory/current.jsonl" \
            "$directory/expected.json" "${options[@]}" >>"$work/log"; then
        echo "== $name"
        cat "$work/log"
        failed+=("$name")
    fi
done
echo "edge cases: $(find "$work/edge" -mindepth 1 -maxdepth 1 -type d | wc -l) compared"

# the table of docs/statistics.md covers every difference seen; TABLE=--write makes it anew
echo "== largest differences"
"$python" scripts/oracle_profiles.py table "$work/found.json" docs/statistics.md ${TABLE:-} || failed+=("the table of docs")

if [ ${#failed[@]} -gt 0 ]; then
    echo "MISMATCH in: ${failed[*]}" >&2
    exit 1
fi
echo "every value given equals the oracle's"
