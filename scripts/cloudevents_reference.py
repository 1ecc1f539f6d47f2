"""Reads events from a Kafka topic with stock clients: the CNCF's CloudEvents SDK on confluent-kafka.

    cloudevents_reference.py BOOTSTRAP_SERVERS TOPIC COUNT

Prints one JSON object a line for the first COUNT records of the topic: what the SDK makes of each. Fails where the SDK
refuses one, or where they do not come within 60 seconds.
"""

import json
import sys
import time

from cloudevents.kafka import KafkaMessage, from_structured
from confluent_kafka import Consumer

servers, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer({
    "bootstrap.servers": servers,
    "group.id": f"cloudevents-reference-{topic}",
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
})
consumer.subscribe([topic])
deadline = time.monotonic() + 60
read = 0
while read < count:
    if time.monotonic() > deadline:
        sys.exit(f"{read} of {count} events came within 60 seconds")
    record = consumer.poll(1.0)
    if record is None:
        continue
    if record.error():
        # A topic that was just made has no leader yet.
        print(record.error(), file=sys.stderr)
        continue
    headers = dict(record.headers() or [])
    event = from_structured(KafkaMessage(headers=headers, key=record.key(), value=record.value()))
    attributes = {name: value for name, value in event.get_attributes().items()}
    print(json.dumps({"key": record.key().decode(), "attributes": attributes, "data": event.get_data()}), flush=True)
    read += 1
consumer.close()
