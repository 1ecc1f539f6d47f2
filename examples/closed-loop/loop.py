"""The loop, closed, with nobody touching it; every step is printed with its time and numbers.

Orders are scored by `driftline-scorer`, which writes each prediction to Kafka; labels follow. `driftline run` watches.
Then the orders drift: an alert asks for training, the trainer reads what the manifest names, registers a version, the
gate judges it, it is scored in the shadow of production, gets a growing share of the traffic, is promoted, and the alert
ends. After that a trainer with a bug has its version put on trial: the scorer takes it back. Then it is put into
production by force: the monitor rolls it back.

Ends with 0 when every step came in time, with 1 and what was missing otherwise.
"""

import argparse
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
from confluent_kafka.admin import AdminClient, NewTopic

import train
from data import FEATURES, draw
from traffic import MODEL, REQUESTS_PER_S, Traffic

HERE = pathlib.Path(__file__).resolve().parent
TOPICS = ["orders-predictions", "orders-labels", "orders-shadow", "orders-alerts"]
WINDOW_MS = 5_000
STARTED = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


class Missed(Exception):
    """A step did not come in time."""


def wait_for(what, seconds, look):
    """What `look` gives once it is true; errors while something starts count as not yet."""
    give_up, last = time.monotonic() + seconds, None
    while time.monotonic() < give_up:
        try:
            found = look()
            if found:
                return found
        except (OSError, urllib.error.URLError, http.client.HTTPException, KeyError) as error:
            last = error
        time.sleep(0.25)
    raise Missed(f"{what}: not within {seconds} s" + (f" (last: {last})" if last else ""))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, token=None, as_json=True):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        body = answer.read()
    return json.loads(body) if as_json else body.decode()


def post(url, token, body):
    headers = {"Authorization": f"Bearer {token}", "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=5) as answer:
        return json.loads(answer.read())


def metric(text, name, **labels):
    """The sum of a metric's series that have these labels; None without any."""
    found = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
             if line.split("{")[0].split(" ")[0] == name
             and all(f'{key}="{value}"' in line for key, value in labels.items())]
    return sum(found) if found else None


class Loop:
    def __init__(self, args):
        self.args, self.work = args, pathlib.Path(args.work).resolve()
        self.registry = self.work / "registry"
        self.ports = {name: free_port() for name in ["http", "grpc", "admin", "monitor", "trainer"]}
        self.token = "closed-loop-example"
        self.environment = dict(os.environ, SCORER_TOKEN=self.token, DRIFTLINE__KAFKA__BOOTSTRAP_SERVERS=args.bootstrap,
                                DRIFTLINE__HTTP__BIND=f"127.0.0.1:{self.ports['monitor']}", USER="trainer")
        self.processes, self.problems, self.manifests = {}, [], []
        self.promoted = threading.Event()
        self.traffic = None

    # The two binaries

    def run(self, program, *arguments, may_fail=False):
        command = [program, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=120)
        if done.returncode and not may_fail:
            raise Missed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def scorer(self, *arguments):
        return self.run(self.args.scorer, *arguments, "--registry", self.registry)

    def start(self, name, *command):
        log = (self.work / f"{name}.log").open("w")
        self.processes[name] = subprocess.Popen(list(map(str, command)), cwd=self.work, env=self.environment, stdout=log,
                                                stderr=subprocess.STDOUT)

    def state(self):
        return get(f"http://127.0.0.1:{self.ports['admin']}/admin/v1/models/{MODEL}", self.token)

    def monitor(self, path):
        return get(f"http://127.0.0.1:{self.ports['monitor']}{path}")

    def alerts(self, rule):
        episodes = self.monitor("/api/v1/episodes?limit=100")["items"]
        return [episode["latest"] | {"firing": episode["firing"]} for episode in episodes if episode["latest"]["rule"] == rule]

    def runs(self, action):
        return [run for run in self.monitor("/api/v1/actions?limit=100")["items"] if run["action"] == action]

    def trial(self):
        """The trial that runs or ran last; none before the first."""
        try:
            return get(f"http://127.0.0.1:{self.ports['admin']}/admin/v1/models/{MODEL}/trial", self.token)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def report_labels(self):
        """Tells the scorer what labels say of the two versions on trial, as often as some come."""
        url = f"http://127.0.0.1:{self.ports['admin']}/admin/v1/models/{MODEL}/trial/labels"
        while not self.traffic.stopped:
            time.sleep(0.5)
            try:
                trial = self.trial()
                if trial is None or trial["outcome"] is not None:
                    continue
                versions = self.traffic.squared_errors(trial["started_at_ms"], [trial["canary"], trial["production"]])
                if len(versions) == 2:
                    post(url, self.token, {"metric": "squared_error", "versions": versions})
            except (OSError, http.client.HTTPException):
                # The trial has just ended, or is being written: there will be another report.
                continue

    def scorer_metrics(self):
        return get(f"http://127.0.0.1:{self.ports['admin']}/metrics", self.token, as_json=False)

    def monitor_metrics(self):
        return get(f"http://127.0.0.1:{self.ports['monitor']}/metrics", as_json=False)

    # Before traffic

    def prepare(self):
        shutil.rmtree(self.work, ignore_errors=True)
        self.registry.mkdir(parents=True)
        for name in ["models", "rules"]:
            shutil.copytree(HERE / name, self.work / name)
        shutil.copy(HERE / "driftline.yaml", self.work)
        shutil.copy(HERE / "gate.yaml", self.work)
        self.replace("models/orders.yaml", {"../work/reference.jsonl": "../reference.jsonl"})
        self.replace("rules/orders.yaml", {"127.0.0.1:8099": f"127.0.0.1:{self.ports['trainer']}",
                                           "127.0.0.1:9000": f"127.0.0.1:{self.ports['admin']}"})
        shutil.copy(HERE / "scorer.yaml", self.work)
        self.replace("scorer.yaml", {"127.0.0.1:8000": f"127.0.0.1:{self.ports['http']}",
                                     "127.0.0.1:8001": f"127.0.0.1:{self.ports['grpc']}",
                                     "127.0.0.1:9000": f"127.0.0.1:{self.ports['admin']}",
                                     "localhost:9092": self.args.bootstrap})
        admin = AdminClient({"bootstrap.servers": self.args.bootstrap})
        futures = admin.create_topics([NewTopic(topic, 1, 1) for topic in TOPICS], request_timeout=20)
        for topic, future in futures.items():
            try:
                future.result()
            except Exception as error:
                raise Missed(f"topic {topic}: {error}; a broker of its own is best for this example") from error

    def replace(self, name, texts):
        path = self.work / name
        text = path.read_text()
        for old, new in texts.items():
            text = text.replace(old, new)
        path.write_text(text)

    def first_version(self):
        columns, labels = draw(6_000, np.random.default_rng(1))
        rows = [{name: float(columns[name][row]) for name in FEATURES} | {"label": str(labels[row]),
                "prediction_id": f"history-{row}"} for row in range(len(labels))]
        found = train.train(rows, 1, self.work / "v1")
        shutil.copy(self.work / "v1/reference.jsonl", self.work / "reference.jsonl")
        self.scorer("register", MODEL, "v1/model.onnx", "--training-data", found["training_data"], "--seed", 1)
        self.scorer("promote", MODEL, "1", "--reason", "the first version")
        self.run(self.args.driftline, "reference", "build")
        say(f"version 1 is registered and in production: trained on {found['rows']} orders, digest {found['model'][:12]}")

    def start_all(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.ports["trainer"]), handler_of(self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.start("scorer", self.args.scorer, "serve", "--config", "scorer.yaml")
        wait_for("the scorer is ready", 60, lambda: get(
            f"http://127.0.0.1:{self.ports['http']}/v2/models/{MODEL}/ready", as_json=False) is not None)
        self.start("monitor", self.args.driftline, "run")
        wait_for("the monitor is ready", 90, lambda: get(
            f"http://127.0.0.1:{self.ports['monitor']}/-/ready", as_json=False))
        self.traffic = Traffic(self.ports["http"], self.args.bootstrap)
        threading.Thread(target=self.report_labels, daemon=True).start()
        say(f"scorer and monitor run; {REQUESTS_PER_S} orders a second are sent")

    # The trainer

    def retrain(self, manifest):
        """What a training job does with a manifest; runs in the webhook's own thread."""
        try:
            self.train_and_roll_out(manifest)
        except (Missed, SystemExit, KeyError, OSError, subprocess.SubprocessError) as error:
            self.problems.append(f"trainer: {error}")
            self.report(manifest, "--failed")

    def train_and_roll_out(self, manifest):
        run, out = manifest["run"], self.work / "v2"
        path = self.work / "manifest.json"
        path.write_text(json.dumps(manifest))
        offsets = ", ".join(f"{part['topic']}/{part['partition']} {part.get('from_offset')} to {part['until_offset']}"
                            for part in manifest["data"]["offsets"])
        say(f"the trainer has run {run[:12]}: {offsets}, seed {manifest['seed']}")
        rows = train.rows_of(manifest, self.args.bootstrap)
        found = train.train(rows, manifest["seed"], out)
        again = train.train(train.rows_of(manifest, self.args.bootstrap), manifest["seed"], self.work / "again")
        if again != found:
            raise Missed(f"the same manifest trained another model: {found} and {again}")
        say(f"trained on {found['rows']} orders, twice to the same digest {found['model'][:12]}")
        done = self.scorer("register", MODEL, out / "model.onnx", "--training-data", found["training_data"],
                           "--retraining-manifest", path, "--format", "json")
        version = json.loads(done.stdout)["version"]
        say(f"version {version} is registered")
        code = self.gate(version, out)
        if code != 0:
            raise Missed(f"the gate ended with {code} for version {version}")
        self.scorer("shadow", "set", MODEL, version, "--reason", run)
        say(f"version {version} is scored in the shadow of production")
        wait_for("shadow scores", 30, lambda: self.shadow_scores(version) >= 100)
        say(f"{self.shadow_scores(version):.0f} shadow scores; version {version} becomes a canary")
        # The inputs are what they are now: the next windows are compared with what the new version was trained on.
        shutil.copy(out / "reference.jsonl", self.work / "reference.jsonl")
        if self.args.rollout == "scorer":
            self.scorer("canary", "set", MODEL, version, "--percent", 20, "--step", 0, "--reason", run)
        else:
            self.step_canary(version, run)
        self.watch_canary(version)
        self.run(self.args.driftline, "reference", "build", "--model", MODEL)
        self.processes["monitor"].send_signal(signal.SIGHUP)
        say("the monitor compares with what the new version was trained on")
        self.report(manifest, "--succeeded")
        self.promoted.set()

    def shadow_scores(self, version):
        return metric(self.scorer_metrics(), "driftline_scorer_shadow_requests_total", version=version, outcome="ok") or 0

    def gate(self, version, rows):
        done = self.run(self.args.driftline, "gate", "--registry", self.registry, "--monitor", "models/orders.yaml",
                        "--candidate", version, "--data", rows / "holdout.jsonl", "--reference",
                        rows / "reference.jsonl", "--gate", "gate.yaml", "--report", self.work / f"gate-{version}.html",
                        "--report", self.work / f"gate-{version}.json", may_fail=True)
        verdict = done.stdout.splitlines() or done.stderr.splitlines() or ["no output"]
        say(f"gate: {verdict[0]}")
        for line in verdict:
            if "roc_auc" in line or "REFUSED" in line or "undecided " in line:
                say(f"   {line.strip()}")
        if done.returncode not in (0, 1, 4):
            say(f"   {done.stderr.strip()}")
        return done.returncode

    def step_canary(self, version, run):
        """Takes the canary from step to step from here: on after 100 answers, back at the first that failed."""
        for percent in (20, 50):
            before = self.answers(version)
            self.scorer("canary", "set", MODEL, version, "--percent", percent, "--reason", run)
            wait_for(f"100 answers at {percent}%", 60, lambda: self.answers(version) >= before + 100)
            failed = self.answers(version, "failed")
            say(f"canary at {percent}%: version {version} has given {self.answers(version):.0f} answers, {failed:.0f} failed")
            if failed:
                self.scorer("canary", "clear", MODEL, "--version", version, "--reject", "--reason", "answers failed")
                raise Missed(f"version {version} failed {failed} times as a canary")
        self.scorer("promote", MODEL, version, "--reason", run)

    def answers(self, version, code="ok"):
        return metric(self.scorer_metrics(), "driftline_scorer_requests_total", version=version, code=code) or 0

    def watch_canary(self, version):
        share, told, give_up = None, 0, time.monotonic() + 120
        while time.monotonic() < give_up:
            told = self.tell_decisions(version, told)
            state = self.state()
            canary = state.get("canary")
            if state["production"] == version:
                self.tell_decisions(version, told)
                say(f"version {version} is promoted (generation {state['generation']})")
                return
            if canary is None or canary["version"] != version:
                raise Missed(f"version {version} is no canary any more: {state}")
            if canary["buckets"] != share:
                share = canary["buckets"]
                say(f"canary: version {version} answers {share / 100:g}% of the traffic")
            time.sleep(0.25)
        raise Missed(f"version {version} was not promoted within 120 s: {self.state()}, {self.trial()}")

    def tell_decisions(self, version, told):
        """Prints what the scorer's trial of a version decided beyond the first `told` decisions; gives how many there are."""
        trial = self.trial()
        if trial is None or trial["canary"] != version:
            return told
        for decision in trial["history"][told:]:
            say(f"trial after {decision['canary_requests']} requests of the canary: {decision['says']}")
        return len(trial["history"])

    def report(self, manifest, how):
        done = self.run(self.args.driftline, "actions", "report", manifest["run"], how, may_fail=True)
        say(f"run {manifest['run'][:12]} is reported: {how[2:]}" + (f" ({done.stderr.strip()})" if done.returncode else ""))

    # What must happen

    def healthy(self):
        wait_for("a window of version 1", 60, lambda: self.scored("1") > 500)
        time.sleep(12)
        firing = self.alerts("inputs-moved") + self.alerts("bad-version")
        if firing:
            raise Missed(f"an alert before anything happened: {firing}")
        say(f"no alert; {self.traffic.answered} orders answered, {self.traffic.failed} failed")

    def scored(self, version):
        return self.traffic.by_version.get(version, 0)

    def drift(self):
        # With a window's begin, so that what the alert rests on is drifted as a whole.
        time.sleep((WINDOW_MS - time.time() * 1000 % WINDOW_MS) / 1000)
        self.traffic.drifted = True
        say("the orders drift: another currency, more distant customers, and both mean something else")
        alert = wait_for("the alert inputs-moved", 60, lambda: self.alerts("inputs-moved"))[0]
        say(f"alert: {alert.get('summary', alert['rule'])}")
        run = wait_for("a run of retrain-orders", 30, lambda: self.runs("retrain-orders"))[0]
        say(f"retraining is asked for: run {run['run'][:12]} of {run['model']}@{run['version']}")
        wait_for("the new version in production", 240, self.promoted_or_problem)
        wait_for("the run succeeded", 30, lambda: any(run["state"] == "succeeded" for run in self.runs("retrain-orders")))
        wait_for("the alert ended", 90, lambda: not [alert for alert in self.alerts("inputs-moved") if alert["firing"]])
        say("the alert has ended")

    def promoted_or_problem(self):
        if self.problems:
            raise Missed("; ".join(self.problems))
        return self.promoted.is_set()

    def bad_version(self):
        rows = [json.loads(line) for line in (self.work / "v2/training.jsonl").read_text().splitlines()]
        rows += [json.loads(line) for line in (self.work / "v2/holdout.jsonl").read_text().splitlines()]
        version = self.register_bad("v3", rows)
        if self.gate(version, self.work / "v3") != 1:
            raise Missed("the gate did not refuse the bad version")
        before = self.state()["production"]
        self.bad_canary(version, before)
        # Some other rows, so that it is a version of its own: the same bytes would be the version that is there already.
        self.bad_production(self.register_bad("v4", rows[200:]), before)

    def register_bad(self, name, rows):
        train.train(rows, 3, self.work / name, inverted=True)
        done = self.scorer("register", MODEL, f"{name}/model.onnx", "--format", "json")
        version = json.loads(done.stdout)["version"]
        say(f"a trainer with a bug has registered version {version}")
        return version

    def bad_canary(self, version, before):
        """A share of the traffic is enough for the scorer to see it."""
        self.scorer("canary", "set", MODEL, version, "--percent", 20, "--step", 0, "--reason", "somebody asks the traffic")
        say(f"somebody puts version {version} on trial all the same, with 20% of the traffic")
        wait_for("the trial's end", 60, lambda: (self.trial() or {}).get("outcome") and self.trial()["canary"] == version)
        self.tell_decisions(version, 0)
        state, outcome = self.state(), self.trial()["outcome"]
        if outcome != "rolled_back" or state["production"] != before or state["canary"] is not None:
            raise Missed(f"the trial of version {version} ended as {outcome}: {state}")
        say(f"the scorer has taken version {version} back: {before} answers alone (generation {state['generation']})")

    def bad_production(self, version, before):
        """What is put into production past gate and trial is left to the monitor."""
        self.scorer("promote", MODEL, version, "--force", "--reason", "somebody knows better than the gate")
        say(f"somebody promotes version {version} by force")
        alert = wait_for("the alert bad-version", 90, lambda: [
            alert for alert in self.alerts("bad-version") if alert["version"] == version])[0]
        say(f"alert: {alert.get('summary', alert['rule'])}")
        wait_for("the rollback", 60, lambda: self.state()["production"] == before)
        state = self.state()
        run = wait_for("the run of the rollback", 30, lambda: [
            run for run in self.runs("rollback-orders") if run["state"] == "succeeded"])[0]
        say(f"rolled back by run {run['run'][:12]}: version {state['production']} is in production, {version} is not "
            f"(generation {state['generation']})")
        answered = self.scored(before)
        wait_for("answers of the version before", 20, lambda: self.scored(before) > answered + 100)

    def on_metrics(self):
        """What was shown stands on metrics, too."""
        scorer, monitor = self.scorer_metrics(), self.monitor_metrics()
        wanted = {
            "retrainings that succeeded": metric(monitor, "driftline_action_runs", action="retrain-orders", state="succeeded"),
            "rollbacks that succeeded": metric(monitor, "driftline_action_runs", action="rollback-orders", state="succeeded"),
            "canaries taken back by the scorer": metric(scorer, "driftline_scorer_trial_decisions_total", verdict="roll_back"),
            "requests answered by version 2": metric(scorer, "driftline_scorer_requests_total", version="2"),
            "prediction events sent": metric(scorer, "driftline_scorer_events_sent_total"),
        }
        if self.args.rollout == "scorer":
            wanted["steps and promotions by the scorer"] = sum(
                metric(scorer, "driftline_scorer_trial_decisions_total", verdict=verdict) or 0
                for verdict in ["advance", "promote"])
        for name, value in wanted.items():
            say(f"on metrics: {name}: {value}")
            if not value:
                raise Missed(f"on metrics: {name} is {value}")
        dropped = metric(scorer, "driftline_scorer_events_dropped_total") or 0
        if self.traffic.failed or dropped:
            raise Missed(f"{self.traffic.failed} requests failed, {dropped} events were dropped")
        say(f"{self.traffic.answered} orders answered, none failed; by version {self.traffic.by_version}")

    def close(self, keep_logs):
        if self.traffic:
            self.traffic.stop()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        if keep_logs:
            for name in self.processes:
                lines = (self.work / f"{name}.log").read_text().splitlines()[-25:]
                print(f"--- the end of {name}.log", *lines, sep="\n")


def handler_of(loop):
    class Handler(http.server.BaseHTTPRequestHandler):
        """Takes a run once, however often it is sent; the work goes on after the answer."""

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            manifest = body["data"]
            if manifest["run"] not in loop.manifests:
                loop.manifests.append(manifest["run"])
                threading.Thread(target=loop.retrain, args=(manifest,), daemon=True).start()
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    return Handler


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="host:port of a Kafka without this example's topics")
    parser.add_argument("--work", required=True, help="directory that is emptied and worked in")
    parser.add_argument("--driftline", default="driftline")
    parser.add_argument("--scorer", default="driftline-scorer")
    parser.add_argument("--rollout", choices=["scorer", "trainer"], default="scorer",
                        help="who takes the canary from step to step: the scorer's progressive rollout, or the trainer")
    args = parser.parse_args()
    loop, failed = Loop(args), True
    try:
        loop.prepare()
        loop.first_version()
        loop.start_all()
        loop.healthy()
        loop.drift()
        loop.bad_version()
        loop.on_metrics()
        failed = False
        say("the loop is closed: every step came")
    except Missed as missed:
        say(f"MISSED {missed}")
    finally:
        loop.close(failed)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
