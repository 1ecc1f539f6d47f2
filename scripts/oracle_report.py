#!/usr/bin/env python3
"""What oracle_report.sh needs to know of the oracle's files.

options SPEC.json            the options of `driftline report` for a specification, one a line
coverage OURS EXPECTED.json  fails if a value of a feature is not given (performance is not asked for)
edge-cases CASES.json OUT    one folder per case with reference.jsonl, current.jsonl and expected.json
"""
import json
import pathlib
import sys


def options(spec):
    window = spec["window"]
    if window["kind"] == "tumbling":
        yield from ("--windows", f"time:{window['size_s']}s")
    elif window["kind"] == "count":
        yield from ("--windows", f"count:{window['size']}")
    elif window["kind"] == "column":
        yield from ("--windows", f"column:{window['name']}")
    else:
        yield from ("--windows", "all")
    if spec.get("timestamp"):
        yield from ("--timestamp", spec["timestamp"])
    performance = spec.get("performance") or {}
    if performance:
        yield from ("--task", performance["kind"], "--label", performance["label"])
        yield from ("--prediction", performance["prediction"])
        if performance.get("score"):
            yield from ("--score", performance["score"])
        for name, column in (performance.get("scores") or {}).items():
            yield from ("--score", f"{name}={column}")
        if performance.get("positive") is not None:
            yield from ("--positive", str(performance["positive"]))


def coverage(ours, expected):
    """Keys of features that are expected and not given; Welch's test is left out between two constants."""
    given = {(line["window"], line["feature"], line["metric"]) for line in map(json.loads, ours)}
    for window in expected["windows"]:
        for feature, metrics in window["features"].items():
            constant = metrics.get("std_ddof0", 1) < 1e-12 and metrics.get("std_ref_ddof0", 1) < 1e-12
            for metric, value in metrics.items():
                if isinstance(value, list) or (constant and metric.startswith("welch_")):
                    continue
                if (window["index"], feature, metric) not in given:
                    yield window["index"], feature, metric


def rows(values, total):
    return list(values) + [None] * (total - len(values))


def write_rows(path, values):
    path.write_text("".join(json.dumps({"x": value}) + "\n" for value in values))


def edge_cases(cases, out):
    for kind in ("numeric", "categorical"):
        for case in cases[kind]:
            if kind == "numeric":
                reference, current = case["ref"], case["cur"]
            else:
                reference, current = ([name for name, count in case[side].items() for _ in range(count)]
                                      for side in ("ref", "cur"))
            if case["cur_rows"] == 0:
                continue  # a file without rows is an error, not a window
            folder = out / f"{kind}_{case['name']}"
            folder.mkdir(parents=True)
            write_rows(folder / "reference.jsonl", rows(reference, case["ref_rows"]))
            write_rows(folder / "current.jsonl", rows(current, case["cur_rows"]))
            expected = {"windows": [{"index": 0, "features": {"x": case["expected"]}}]}
            (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    document = json.loads(pathlib.Path(sys.argv[-1 if sys.argv[1] == "coverage" else 2]).read_text())
    if sys.argv[1] == "options":
        print("\n".join(options(document)))
    elif sys.argv[1] == "coverage":
        absent = list(coverage(pathlib.Path(sys.argv[2]).read_text().splitlines(), document))
        if absent:
            sys.exit(f"{len(absent)} values not given, such as {absent[:5]}")
    else:
        edge_cases(document, pathlib.Path(sys.argv[3]))
