"""Trains a model on what a retraining manifest names, twice the same: the same manifest gives the same bytes.

    train.py --manifest run.json --bootstrap localhost:9092 --out DIR

DIR gets model.onnx, reference.jsonl (the rows it was trained on, with their scores), holdout.jsonl (rows that it was
not) and training.json (the digests of both).
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import sys
import time

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data import FEATURES

LABELS_TOPIC = "orders-labels"
# A label comes at most this long after its prediction.
LABEL_DELAY_MS = 6_000
HOLDOUT_PERCENT = 40
MOST_ROWS = 200_000


def epoch_ms(text):
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def read(consumer, topic, partition, first, until, patience_s=30.0):
    """The records [first, until) of a partition; `first` None: from the earliest."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    first = low if first is None else max(first, low)
    until = min(until, high)
    if first >= until:
        return []
    consumer.assign([TopicPartition(topic, partition, first if first > low else OFFSET_BEGINNING)])
    records, give_up = [], time.monotonic() + patience_s
    # Transactions leave gaps in offsets: the position tells the end, not the last record.
    while consumer.position([TopicPartition(topic, partition)])[0].offset < until:
        if time.monotonic() > give_up:
            raise SystemExit(f"{topic}/{partition}: offset {until} was not reached within {patience_s} s")
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise SystemExit(f"{topic}/{partition}: {message.error()}")
        if message.offset() < until and message.value() is not None:
            records.append(json.loads(message.value()))
        if len(records) > MOST_ROWS:
            raise SystemExit(f"{topic}/{partition}: more than {MOST_ROWS} records")
    return records


def consumer_of(bootstrap):
    return Consumer({"bootstrap.servers": bootstrap, "group.id": "orders-trainer", "enable.auto.commit": False,
                     "isolation.level": "read_committed", "auto.offset.reset": "earliest"})


def labels_until(consumer, until_ms, wait_s=30.0):
    """Labels that were given before `until_ms`, once a later one stands in the topic or time is up: no more can come."""
    give_up = time.monotonic() + wait_s
    while True:
        _, high = consumer.get_watermark_offsets(TopicPartition(LABELS_TOPIC, 0), timeout=10)
        labels = read(consumer, LABELS_TOPIC, 0, None, high)
        if any(label["decided_at"] >= until_ms for label in labels) or time.monotonic() > give_up:
            break
        time.sleep(0.5)
    return {label["prediction_id"]: label["label"] for label in labels if label["decided_at"] < until_ms}


def rows_of(manifest, bootstrap):
    """Predictions of the stretch, with the label of each, in the order of their ids."""
    data = manifest["data"]
    start_ms, until_ms = epoch_ms(data["from"]), epoch_ms(data["until"])
    consumer = consumer_of(bootstrap)
    try:
        events = [event for part in data["offsets"] if part["topic"] != LABELS_TOPIC
                  for event in read(consumer, part["topic"], part["partition"], part.get("from_offset"),
                                    part["until_offset"])]
        labels = labels_until(consumer, until_ms + LABEL_DELAY_MS)
    finally:
        consumer.close()
    rows = {}
    for event in events:
        label = labels.get(event["prediction_id"])
        if start_ms <= event["timestamp"] < until_ms and label is not None:
            rows[event["prediction_id"]] = event["features"] | {"label": label}
    return [rows[key] | {"prediction_id": key} for key in sorted(rows)]


def is_held_out(row):
    return int(hashlib.sha256(row["prediction_id"].encode()).hexdigest()[:8], 16) % 100 < HOLDOUT_PERCENT


def fit(rows, seed, inverted=False):
    """A logistic regression; `inverted` is the bug of the example: it learns the opposite of the labels."""
    features = np.array([[row[name] for name in FEATURES] for row in rows], dtype=np.float32)
    labels = np.array([int(row["label"]) for row in rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, random_state=seed))
    return model.fit(features, 1 - labels if inverted else labels), features


def to_onnx(model):
    """One input for each feature, of its name: the scorer's events then have the features by name."""
    inputs = [(name, FloatTensorType([None, 1])) for name in FEATURES]
    estimator = model.steps[-1][1]
    onnx = convert_sklearn(model, name="orders", initial_types=inputs, target_opset={"": 17, "ai.onnx.ml": 3},
                           options={id(estimator): {"zipmap": False}})
    return onnx.SerializeToString(deterministic=True)


def write_lines(path, rows):
    text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    path.write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def train(rows, seed, out, inverted=False):
    """Writes the model and its rows; gives the digests."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    training = [row for row in rows if not is_held_out(row)]
    holdout = [row for row in rows if is_held_out(row)]
    if len(training) < 200 or len({row["label"] for row in training}) < 2:
        raise SystemExit(f"{len(training)} rows with a label are too few to train on")
    model, features = fit(training, seed, inverted)
    scores = model.predict_proba(features)[:, 1]
    described = [row | {"score": float(np.float32(score))} for row, score in zip(training, scores)]
    content = to_onnx(model)
    (out / "model.onnx").write_bytes(content)
    found = {
        "model": hashlib.sha256(content).hexdigest(),
        "training_data": write_lines(out / "training.jsonl", training),
        "rows": len(training),
        "holdout_rows": len(holdout),
    }
    write_lines(out / "reference.jsonl", described)
    write_lines(out / "holdout.jsonl", holdout)
    (out / "training.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--inverted", action="store_true", help="with the bug of the example")
    args = parser.parse_args()
    manifest = json.loads(pathlib.Path(args.manifest).read_text())
    rows = rows_of(manifest, args.bootstrap)
    json.dump(train(rows, manifest["seed"], args.out, args.inverted), sys.stdout)
    print()


if __name__ == "__main__":
    main()
