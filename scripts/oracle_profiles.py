#!/usr/bin/env python3
"""Compares `driftline report --profile` with the oracle and with the report from the rows.

check ROWS PROFILES EXPECTED FOUND   the two reports and the oracle's file; adds to FOUND, a file of the largest
                                     differences. Fails where a value from profiles has no bound and differs from the
                                     oracle by more than its tolerance, or has one and differs by more than it; or where
                                     a key that profiles can give is absent.
table FOUND [PAGE [--write]]         the table of all that was compared. With PAGE: fails if a difference is larger
                                     than the page's table says, or a row is missing; --write puts the table there.

A value that the oracle does not have is compared with that of the rows. A difference is |a - b| / max(1, |a|).
"""
import json
import pathlib
import sys

TOLERANCE = 1e-9
LOOSE = {"cvm_p": 1e-6, "anderson": 1e-8, "anderson_p": 1e-6, "ks_p_asymp": 1e-7, "js": 1e-7, "js_q10": 1e-7,
         "js_doane": 1e-7, "js_base_e": 1e-7, "hellinger": 1e-7, "hellinger_q10": 1e-7, "hellinger_doane": 1e-7}
# What depends on the window's own values, or on where in a bin the values are.
NEEDS_ROWS = {"ks_location", "ks_p_exact", "ks_nannyml_binned", "kl_evidently", "js_evidently", "psi_frouros",
              "doane_bins"}
NUMERIC_ONLY = "psi_evidently"
# Key, metric of rules, law of its p-value. Keys without a metric are of the report alone.
STATISTICS = [
    ("psi_q10", "psi", "test of shares"), ("psi_q20", "psi_q20", "test of shares"),
    ("psi_q25", "psi_q25", "test of shares"), ("psi_q50", "psi_q50", "test of shares"), ("psi_w10", "psi_w10", "test of shares"),
    ("psi_distinct", "psi_distinct", "test of shares"), ("psi_q10_eps1e6", "psi_eps1e6", "test of shares"),
    ("psi_q10_laplace05", "psi_laplace05", "test of shares"), ("psi_q10_missbin", "psi_missbin", "test of shares"),
    ("js_q10", "js", "test of shares"), ("hellinger_q10", "hellinger", "test of shares"),
    ("kl_q10_cur_ref", "kl_cur_ref", "test of shares"),
    ("kl_q10_ref_cur", "kl_ref_cur", "test of shares"),
    ("tv_q10", "tv", "test of shares"), ("linf_q10", "linf", "normal, added up over bins"),
    ("ks", "ks", "Kolmogorov's, after Stephens"), ("ks_p_stephens", None, None), ("ks_p_limit", None, None),
    ("ks_p_asymp", None, None), ("ks_p_exact", None, None), ("ks_location", None, None),
    ("wasserstein", "wasserstein", "that of `drift`"), ("wasserstein_std0", "wasserstein_norm", "that of `drift`"),
    ("energy_distance", "energy_distance", "that of `drift`"),
    ("cvm", "cvm", "limiting law, two moments matched"), ("cvm_p", None, None),
    ("anderson", "anderson", "Scholz and Stephens' levels"), ("anderson_p", None, None),
    ("mean_shift", "mean_shift", "Welch's t"), ("welch_t", None, None), ("welch_p", None, None),
    ("variance_ratio", "variance_ratio", "normal for its logarithm"),
    ("p50_shift", "p50_shift", "Mood's, exact"), ("p95_shift", "p95_shift", "Mood's, exact"),
    ("mwu", None, None), ("mwu_p", None, None),
    ("mean", "mean", None), ("std_ddof0", "std", None), ("std_ddof1", None, None), ("min", "min", None),
    ("max", "max", None), ("p25", "p25", None), ("p50", "p50", None), ("p75", "p75", None), ("p95", "p95", None),
    ("p99", "p99", None), ("mean_ref", None, None), ("std_ref_ddof0", None, None), ("distinct_ref", None, None),
    ("psi", "psi", "test of shares"), ("psi_eps1e6", "psi_eps1e6", "test of shares"),
    ("psi_missbin", "psi_missbin", "test of shares"), ("js", "js", "test of shares"),
    ("hellinger", "hellinger", "test of shares"), ("tv", "tv", "test of shares"), ("linf", "linf", "test of shares"),
    ("kl_cur_ref", "kl_cur_ref", "test of shares"), ("kl_ref_cur", "kl_ref_cur", "test of shares"),
    ("chi2", "chi_square", "chi-square, K - 1"), ("chi2_p", None, None), ("chi2_dof", None, None),
    ("chi2_yates", "chi_square_yates", "chi-square, K - 1"), ("chi2_yates_p", None, None),
    ("chi2_gof", "chi_square_gof", "chi-square, K - 1"), ("chi2_gof_p", None, None),
    ("cramers_v", "cramers_v", "chi-square, K - 1"),
    ("unseen_rate", "unseen_rate", "exact, one-sided (Good)"), ("unseen_categories", "unseen_categories", None),
    ("lost_categories", "lost_categories", None), ("cardinality", None, None), ("cardinality_ref", None, None),
    ("missing_rate", "null_rate", "exact, two-sided"), ("missing_rate_ref", None, None), ("n", None, None),
    ("n_ref", None, None),
    ("psi_evidently", "compat.evidently.psi", "test of shares"), ("kl_evidently", None, None),
    ("js_evidently", None, None), ("js_base_e", "compat.evidently.js", "test of shares"),
    ("js_doane", "compat.nannyml.js", None), ("hellinger_doane", "compat.nannyml.hellinger", None),
    ("ks_nannyml_binned", None, None), ("psi_scouter", "compat.scouter.psi", "test of shares"), ("psi_frouros", None, None),
]
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"


def read(path):
    lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
    return {(line["window"], line["feature"], line["metric"]): line for line in lines
            if not line["feature"].startswith("_")}


def oracle(path):
    document = json.loads(pathlib.Path(path).read_text())
    return {(window["index"], feature, metric): value
            for window in document["windows"] for feature, metrics in window["features"].items()
            for metric, value in metrics.items() if value is None or isinstance(value, (int, float))}


def difference(a, b):
    return abs(a - b) / max(1.0, abs(a))


def note(found, metric, what, size):
    row = found.setdefault(metric, {})
    row[what] = max(row.get(what, 0.0), size)


def compare(rows, profiles, expected, found):
    """Yields what is wrong; fills `found`."""
    for key, exact in expected.items():
        if key in rows and exact is not None and rows[key]["value"] is not None:
            note(found, key[2], "rows", difference(exact, rows[key]["value"]))
    for key, line in profiles.items():
        metric, value, bound = key[2], line["value"], line.get("bound")
        exact = expected[key] if key in expected else rows[key]["value"] if key in rows else value
        if key not in expected and key not in rows:
            yield f"{key}: {value}, which neither the oracle nor the rows have"
            continue
        row = found.setdefault(metric, {})
        row["compared"] = row.get("compared", 0) + 1
        if (value is None) != (exact is None):
            yield f"{key}: {value} instead of {exact}"
            continue
        if value is None:
            continue
        allowed = max(TOLERANCE, LOOSE.get(metric, 0)) * max(1.0, abs(exact)) + (bound or 0.0)
        if abs(value - exact) > allowed:
            yield f"{key}: {value} with the bound {bound} instead of {exact}"
        note(found, metric, "profiles", difference(exact, value))
        note(found, metric, "bound", (bound or 0.0) / max(1.0, abs(exact)))
    numeric = {key[:2] for key in profiles if key[2] == "mean_ref"}
    # Two constants have no Welch test, though scipy divides their rounding errors.
    constant = {key[:2] for key, line in rows.items() if key[2] == "std_ddof0" and (line["value"] or 0) < 1e-12}
    for key in expected:
        needs_rows = key[2] in NEEDS_ROWS or (key[2] == NUMERIC_ONLY and key[:2] in numeric)
        skipped = key[2].startswith("welch_") and key[:2] in constant
        if key not in profiles and not needs_rows and not skipped:
            yield f"{key}: not given"


def rounded_up(size):
    """One digit, upwards."""
    if size == 0:
        return "0"
    mantissa, exponent = f"{size:.6e}".split("e")
    digit = int(float(mantissa)) + (float(mantissa) > int(float(mantissa)))
    return f"{digit}e{int(exponent)}" if digit < 10 else f"1e{int(exponent) + 1}"


def table_rows(found):
    for key, metric, law in STATISTICS:
        row = found.get(key, {})
        compared = row.get("compared", 0)
        kind = "needs the rows" if not compared else "bounded" if row.get("bound", 0) > 0 else "exact"
        if key == NUMERIC_ONLY:
            kind = "categorical exact; numeric needs the rows"
        yield [f"`{key}`", f"`{metric}`" if metric else "", kind, law or "",
               rounded_up(row["rows"]) if "rows" in row else "",
               rounded_up(row.get("profiles", 0)) if compared else "",
               rounded_up(row["bound"]) if row.get("bound", 0) > 0 else ""]


def table(found):
    yield "| key of the report | metric in rules | from profiles | null law | rows | profiles | largest bound |"
    yield "|---|---|---|---|---|---|---|"
    for row in table_rows(found):
        yield "| " + " | ".join(row) + " |"


def stated(page):
    body = page.split(BEGIN)[1].split(END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line.startswith("| `")]
    return {row[0]: row for row in rows}


def exceeded(found, page):
    """Yields what the page's table does not cover."""
    known = stated(page)
    for row in table_rows(found):
        there = known.get(row[0])
        if there is None:
            yield f"{row[0]} is not in the table"
            continue
        if there[1:4] != row[1:4]:
            yield f"{row[0]}: {row[1:4]}, but the table says {there[1:4]}"
        for index, what in ((4, "rows"), (5, "profiles"), (6, "bound")):
            if row[index] and float(row[index]) > float(there[index] or 0):
                yield f"{row[0]}: {what} {row[index]}, but the table says {there[index]}"


def main():
    if sys.argv[1] == "check":
        rows, profiles, expected = read(sys.argv[2]), read(sys.argv[3]), oracle(sys.argv[4])
        path = pathlib.Path(sys.argv[5])
        found = json.loads(path.read_text()) if path.exists() else {}
        wrong = list(compare(rows, profiles, expected, found))
        path.write_text(json.dumps(found))
        print(f"from profiles: {len(profiles)} values compared, {len(wrong)} wrong")
    else:
        found = json.loads(pathlib.Path(sys.argv[2]).read_text())
        print("\n".join(table(found)))
        if len(sys.argv) < 4:
            return
        path = pathlib.Path(sys.argv[3])
        page = path.read_text()
        if "--write" in sys.argv:
            before, after = page.split(BEGIN)[0], page.split(END)[1]
            path.write_text(before + BEGIN + "\n" + "\n".join(table(found)) + "\n" + END + after)
            return
        wrong = list(exceeded(found, page))
    if wrong:
        sys.exit("\n".join(wrong[:30]))


if __name__ == "__main__":
    main()
