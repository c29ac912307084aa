"""Parses events with the CloudEvents SDK and verifies webhooks with the standardwebhooks package, both of
them third-party. Reads one line of JSON for each event: {"over": "feed"|"sse"|"webhook"|"amqp", "body": …,
"headers": …, "secret": …}. Prints the event ids.

events.py listen URL SECONDS: prints such lines for the events published to order-events.
"""

import json
import re
import sys
import time

from cloudevents.core.bindings import amqp, http
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks.webhooks import Webhook

TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def parse(line):
    body = line["body"].encode()
    kind = {"content-type": "application/cloudevents+json"}
    if line["over"] == "webhook":
        Webhook(line["secret"]).verify(line["body"], line["headers"])
        return http.from_http_event(http.HTTPMessage(headers=line["headers"], body=body))
    if line["over"] == "amqp":
        message = amqp.AMQPMessage(
            properties={"content-type": line["headers"]["content-type"]},
            application_properties={},
            application_data=body,
        )
        return amqp.from_amqp_event(message)
    return http.from_structured(http.HTTPMessage(headers=kind, body=body), JSONFormat())


def check_trace(event, line):
    """The distributed tracing extension; messages of the broker have its attributes as headers, too."""
    assert TRACEPARENT.fullmatch(event.get_extension("traceparent")), line
    if line["over"] == "amqp":
        for name in ["traceparent", "tracestate"]:
            assert event.get_extension(name) == line["headers"].get(name), line


def listen(url, seconds):
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "order-events", "#")
    print("listening", flush=True)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if not method:
            connection.sleep(0.05)
            continue
        headers = {"content-type": properties.content_type, **properties.headers}
        print(json.dumps({"over": "amqp", "headers": headers, "body": body.decode()}), flush=True)


if sys.argv[1:2] == ["listen"]:
    listen(*sys.argv[2:])
else:
    for text in sys.stdin:
        event = parse(json.loads(text))
        for known in (event.get_id(), event.get_source(), event.get_type(), event.get_time(), event.get_subject()):
            assert known, text
        check_trace(event, json.loads(text))
        assert isinstance(event.get_data(), dict), text
        print(event.get_id())
