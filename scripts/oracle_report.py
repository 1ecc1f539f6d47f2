#!/usr/bin/env python3
"""What oracle_report.sh needs to know of the oracle's files.

options SPEC.json            the options of `driftline report` for a specification, one a line
coverage OURS EXPECTED.json  fails if a value of a feature or of performance is not given
edge-cases CASES.json OUT    one folder per case with reference.jsonl, current.jsonl, options and expected.json
joint-columns CBPE_MMD.json  the columns that are compared together, separated by commas
joint-expected CBPE_MMD.json the estimates and discrepancies, in the shape that compare.py and coverage read
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
        for metric in window.get("performance") or {}:
            if (window["index"], "_performance", metric) not in given:
                yield window["index"], "_performance", metric


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
            (folder / "options").write_text("")
    performance_edge_cases(cases, out)


def performance_edge_cases(cases, out):
    for kind in ("binary", "regression"):
        for case in cases[kind]:
            folder = out / f"{kind}_{case['name']}"
            folder.mkdir(parents=True)
            columns = {name: case[name] for name in ("label", "prediction", "score") if name in case}
            lines = [json.dumps(dict(zip(columns, row))) + "\n" for row in zip(*columns.values())]
            for side in ("reference", "current"):
                (folder / f"{side}.jsonl").write_text("".join(lines))
            window = {"index": 0, "features": {}, "performance": case["expected"]}
            (folder / "expected.json").write_text(json.dumps({"windows": [window]}))
            spec = {"window": {"kind": "all"}, "performance": {"kind": kind, **{name: name for name in columns}}}
            (folder / "options").write_text("\n".join(options(spec)))


def joint_expected(document):
    """Estimates stand under `_performance`, discrepancies under `_joint`."""
    names = {"sigma": "mmd_sigma", "m": "mmd_n_ref", "n": "mmd_n"}
    windows = []
    for window in document["windows"]:
        joint = {names.get(key, key): value for key, value in window.get("mmd", {}).items()}
        estimates = window.get("cbpe_always_calibrated") or {}
        windows.append({"index": window["index"], "features": {"_joint": joint}, "performance": estimates})
    return {"windows": windows}


if __name__ == "__main__":
    document = json.loads(pathlib.Path(sys.argv[-1 if sys.argv[1] == "coverage" else 2]).read_text())
    if sys.argv[1] == "options":
        print("\n".join(options(document)))
    elif sys.argv[1] == "coverage":
        absent = list(coverage(pathlib.Path(sys.argv[2]).read_text().splitlines(), document))
        if absent:
            sys.exit(f"{len(absent)} values not given, such as {absent[:5]}")
    elif sys.argv[1] == "joint-columns":
        print(",".join(document["mmd_columns"]))
    elif sys.argv[1] == "joint-expected":
        print(json.dumps(joint_expected(document)))
    else:
        edge_cases(document, pathlib.Path(sys.argv[3]))
