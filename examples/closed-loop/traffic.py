"""Orders that are scored, and their labels, which come a moment later.

Whoever has the labels knows how well each version does: `squared_errors` is what is reported to the scorer's trial.
"""

import http.client
import json
import threading
import time

import numpy as np
from confluent_kafka import Producer

from data import FEATURES, draw

MODEL = "orders"
REQUESTS_PER_S = 160
SENDERS = 4
LABEL_DELAY_S = 1.5


class Traffic:
    """Sends orders to the scorer and, a moment later, their labels to Kafka."""

    def __init__(self, port, bootstrap):
        self.port, self.drifted, self.stopped = port, False, False
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
        self.lock = threading.Lock()
        self.answered, self.failed, self.by_version = 0, 0, {}
        # Of each answer whose label is known: when it was asked for (epoch ms), its version, its squared error.
        self.judged = []
        self.threads = [threading.Thread(target=self.send, args=(number,), daemon=True) for number in range(SENDERS)]
        for thread in self.threads:
            thread.start()

    def send(self, number):
        random, sent, pending = np.random.default_rng(1_000 + number), 0, []
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        next_at = time.monotonic()
        while not self.stopped:
            columns, labels = draw(1, random, self.drifted)
            name = f"{number}-{sent}"
            sent += 1
            body = json.dumps({
                "id": name,
                "parameters": {"entity": f"customer-{random.integers(20_000)}"},
                "inputs": [{"name": feature, "shape": [1, 1], "datatype": "FP32",
                            "data": [float(columns[feature][0])]} for feature in FEATURES],
            })
            asked_ms, answer_of = time.time() * 1000, None
            try:
                connection.request("POST", f"/v2/models/{MODEL}/infer", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
                answer_of = self.count(answer.status, content)
            except (OSError, http.client.HTTPException, ValueError):
                self.count(0, {})
                connection.close()
            pending.append((time.monotonic() + LABEL_DELAY_S, name, int(labels[0]), asked_ms, answer_of))
            while pending and pending[0][0] <= time.monotonic():
                _, prediction, label, at_ms, judged = pending.pop(0)
                if judged:
                    version, score = judged
                    self.judged.append((at_ms, version, (score - label) ** 2))
                given = {"prediction_id": prediction, "label": str(label), "decided_at": int(time.time() * 1000)}
                self.producer.produce("orders-labels", json.dumps(given), key=prediction)
            self.producer.poll(0)
            next_at = max(next_at + SENDERS / REQUESTS_PER_S, time.monotonic() - 1)
            time.sleep(max(0, next_at - time.monotonic()))

    def count(self, status, content):
        """Counts an answer; gives its version and score."""
        with self.lock:
            if status != 200:
                self.failed += 1
                return None
            self.answered += 1
            version = content["model_version"]
            self.by_version[version] = self.by_version.get(version, 0) + 1
        return version, next(out["data"][-1] for out in content["outputs"] if out["name"] == "probabilities")

    def squared_errors(self, since_ms, versions):
        """Number, mean and variance of the squared errors of each version that has two, of answers asked for since."""
        judged, found = list(self.judged), {}
        for version in versions:
            errors = [error for at_ms, of, error in judged if of == version and at_ms >= since_ms]
            if len(errors) > 1:
                found[version] = {"n": len(errors), "mean": float(np.mean(errors)),
                                  "variance": float(np.var(errors, ddof=1))}
        return found

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join(5)
        self.producer.flush(5)
