"""Runs every expression of every dashboard against a Prometheus and requires an answer with a number in it.

prometheus_check.py PROMETHEUS_URL TARGET DASHBOARDS_DIR

The dashboard of the scorer is asked where the target is one, the others where it is none.

Variables are replaced by the values that the dashboard itself would offer. One that takes a single value is
tried with each of them until the expression answers: a numeric feature has no unseen categories.
"""

import itertools
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

SCRAPES = 6
DEADLINE_S = 60
# How long a query may be without an answer.
PATIENCE_S = 15
MAX_COMBINATIONS = 200
INTERVALS = {"$__rate_interval": "5s", "$__interval": "1s", "$__range": "5s"}


def call(base, path, **parameters):
    url = f"{base}{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def wait_for_scrapes(base, target):
    """Until the target has been scraped often enough for rate()."""
    deadline = time.monotonic() + DEADLINE_S
    query = f'count_over_time(up{{instance="{target}"}}[1h])'
    state = "Prometheus does not answer"
    while time.monotonic() < deadline:
        try:
            result = call(base, "/api/v1/query", query=query)["data"]["result"]
            up = call(base, "/api/v1/query", query=f'up{{instance="{target}"}}')["data"]["result"]
            if result and float(result[0]["value"][1]) >= SCRAPES and float(up[0]["value"][1]) == 1:
                return
            state = f"scrapes: {result}, up: {up}"
        except (OSError, ValueError):
            # It does not listen yet, or answers in plain text that it is starting.
            pass
        time.sleep(0.5)
    sys.exit(f"error: {target} was not scraped {SCRAPES} times in {DEADLINE_S} s: {state}")


def substitute(text, values):
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${{{name}}}", values[name]).replace(f"${name}", values[name])
    for name, value in INTERVALS.items():
        text = text.replace(name, value)
    return text


def choices(base, dashboard):
    """Each variable's values: a list of dicts to try, in order. Also the rows that report the variables themselves."""
    combinations, rows = [{}], []
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        name, query = variable["name"], variable["definition"]
        selector, label = re.fullmatch(r"label_values\((.*),\s*(\w+)\)", query).groups()
        extended, found = [], set()
        for chosen in combinations:
            matcher = substitute(selector, chosen)
            data = call(base, f"/api/v1/label/{label}/values", **{"match[]": matcher}).get("data", [])
            found.update(data)
            if variable["multi"]:
                options = [variable["allValue"]]
            else:
                options = [re.escape(value).replace("\\", "\\\\") for value in data]
            extended += [{**chosen, name: value} for value in options]
        combinations = extended[:MAX_COMBINATIONS]
        rows.append((f"variable {name}", query, bool(found), f"{len(found)} values"))
    return combinations, rows


def expressions(dashboard, is_scorer):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    # The scorer's dashboard marks the service's alerts, which the service exports.
    for annotation in [] if is_scorer else dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


def evaluate(base, expression):
    """Whether there is an answer and every value in it is a number; and what was answered."""
    answer = call(base, "/api/v1/query", query=expression)
    if answer["status"] != "success":
        return False, answer.get("error", "error")
    result = answer["data"]["result"]
    values = [float(series["value"][1]) for series in result]
    if not values:
        return False, "empty"
    if any(math.isnan(value) for value in values):
        return False, "NaN"
    return True, f"{len(values)} series, first {values[0]:g}"


def check(base, dashboard, is_scorer):
    combinations, rows = choices(base, dashboard)
    wanted = expressions(dashboard, is_scorer)
    asked = [(title, expression, *ask(base, combinations, expression)) for title, expression in wanted]
    # What one small window has no figure of, another one has.
    deadline = time.monotonic() + PATIENCE_S
    while any(said == "empty" for *_, said in asked) and time.monotonic() < deadline:
        time.sleep(1)
        asked = [
            (title, expression, *ask(base, combinations, expression)) if said == "empty" else (title, expression, passed, said)
            for title, expression, passed, said in asked
        ]
    return rows + asked


def ask(base, combinations, expression):
    """The first answer among the choices of the variables, or what was said instead."""
    passed, said = False, "no value for a variable"
    for chosen in itertools.islice(combinations, MAX_COMBINATIONS):
        passed, said = evaluate(base, substitute(expression, chosen))
        if passed or said == "NaN":
            break
    return passed, said


def main():
    base, target, folder = sys.argv[1:]
    files = sorted(pathlib.Path(folder).glob("*.json"))
    if not files:
        sys.exit(f"error: no dashboard in {folder}")
    wait_for_scrapes(base, target)
    is_scorer = bool(call(base, "/api/v1/query", query="driftline_scorer_build_info")["data"]["result"])
    files = [path for path in files if (path.stem == "driftline-scorer") == is_scorer]
    if not files:
        sys.exit(f"error: no dashboard of {target} in {folder}")
    failed = total = 0
    for path in files:
        dashboard = json.loads(path.read_text())
        print(f"\n{dashboard['title']}")
        for title, expression, passed, said in check(base, dashboard, is_scorer):
            total += 1
            failed += not passed
            print(f"  {'ok  ' if passed else 'FAIL'} {title:<42.42} {said:<32.32} {'' if passed else expression}")
    print(f"\n{total - failed} of {total} queries answered")
    sys.exit(1 if failed else 0)


main()
