"""A third-party AMQP client, pika, which uses the queues as docs/asyncapi.json describes them.

foreign.py talk|roles|returns|nul|garbage|reject|poison|expire|batch|looks|waiters|slow_step|torn_steps|poison_steps|unprocessable|left_behind|odd_replies|accepts|imports|import_messages URL CUSTOMER
"""

import json
import sys
import time
import uuid

import pika

REQUESTS, STEPS = "order-request-queue", "order-worker-queue"
MIGRATION = "order-request-queue-migration"


class Client:
    def __init__(self, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.replies = self.channel.queue_declare("", exclusive=True).method.queue

    def send(self, kind, body, queue=REQUESTS, reply=True, correlation=None, **properties):
        self.channel.basic_publish(
            "",
            queue,
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            pika.BasicProperties(
                type=kind,
                content_type="application/json",
                reply_to=self.replies if reply else None,
                correlation_id=correlation or str(uuid.uuid4()),
                **properties,
            ),
            mandatory=True,
        )

    def receive(self, queue, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if method:
                return properties, body
            self.connection.sleep(0.05)
        sys.exit(f"no message arrived on {queue}")

    def call(self, kind, body, **properties):
        self.send(kind, body, **properties)
        return json.loads(self.receive(self.replies)[1])


def new_order(customer, **more):
    return {"customer_id": customer, "items": [{"sku": "A", "quantity": 1}], **more}


def check(condition, what):
    if not condition:
        sys.exit(f"unexpected: {what}")


def roles(client, customer):
    """Requests that need the operator role are refused for a storefront."""
    order = client.call("order.create", new_order(customer), headers={"role": "storefront"})["value"]["id"]
    product = {"sku": "Z", "name": "Z", "price": 1, "currency": "EUR"}
    update = {"order_id": order, "type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z"}
    for kind, body in [
        ("order.restore", {"id": order}),
        ("order.approve", {"id": order}),
        ("order.approve_all", {"all": True}),
        ("order.reject", {"id": order}),
        ("order.refund", {"id": order}),
        ("payment.record", {"id": order, "amount": 1}),
        ("order.get", {"id": order, "include_deleted": True}),
        ("order.list", {"include_deleted": True}),
        ("order.history", {"id": order, "include_deleted": True}),
        ("shipment.create", {"id": order}),
        ("shipment.update", update),
        ("return.approve", {"id": order}),
        ("return.reject", {"id": order}),
        ("return.receive", {"id": order, "items": [{"sku": "A", "quantity": 1, "restock": True}]}),
        ("product.create", product),
        ("product.update", {"sku": "A", "price": 1}),
        ("product.delete", {"sku": "A"}),
        ("stock.set", {"sku": "A", "warehouse": "main", "on_hand": 1}),
        ("dead_letter.list", {}),
        ("dead_letter.redrive", {"id": f"{order}:authorize_payment"}),
        ("dead_letter.discard", {"id": f"{order}:authorize_payment"}),
        ("message.list_all", {}),
        ("settings.get", {}),
        ("worker.pause_requests", {}),
    ]:
        reply = client.call(kind, body, headers={"role": "storefront"})
        check(reply.get("error", {}).get("code") == "FORBIDDEN", (kind, reply))
    print("refused")


def returns(client, order):
    """An AMQP client requests, approves and receives a return; a message that arrives twice is executed once."""
    items, operator = [{"sku": "A", "quantity": 2}], {"role": "operator"}
    first = client.call("return.create", {"id": order, "items": items}, message_id="request")
    again = client.call("return.create", {"id": order, "items": items}, message_id="request")
    check(first["status"] == "SUCCESS" and again["value"]["id"] == first["value"]["id"], (first, again))
    id = first["value"]["id"]
    refused = client.call("return.create", {"id": order, "items": items}, message_id="another")
    check(refused["error"]["code"] == "INVALID_REQUEST", refused)
    approved = client.call("return.approve", {"id": id}, headers=operator)
    check(approved["value"]["status"] == "approved", approved)
    receipt = {"id": id, "items": [{"sku": "A", "quantity": 2, "restock": True}]}
    for _ in range(2):
        received = client.call("return.receive", receipt, headers=operator, message_id="receipt")
        check(received["value"]["status"] == "received", received)
    found = client.call("return.get", {"id": id})
    check(found["value"] == received["value"], found)
    listed = client.call("return.list", {"order_id": order})
    check([entry["id"] for entry in listed["value"]["data"]] == [id], listed)
    foreign = client.call("return.get", {"id": id}, headers={"role": "storefront", "storefront": "other"})
    check(foreign["error"]["code"] == "NOT_FOUND", foreign)
    print("returned")


def nul(client, customer):
    """NUL characters in any place are refused as an invalid request."""
    zero = "a\0b"
    for properties in [
        {"message_id": zero},
        {"correlation": zero},
        {"headers": {"idempotency_key": zero}},
        {"headers": {"storefront": zero}},
        {"headers": {"role": zero}},
        {"headers": {"if_match": zero}},
    ]:
        reply = client.call("order.create", new_order(customer), **properties)
        check(reply["error"]["code"] == "INVALID_REQUEST", (properties, reply))
    # Control characters are removed from values that are written to logs and to the history.
    for name in ["actor", "intent", "request_id", "traceparent", "tracestate", "deadline", "unknown"]:
        reply = client.call("order.create", new_order(customer), headers={name: zero})
        check(reply["status"] == "SUCCESS", (name, reply))
    for kind, body in [
        ("order.create", new_order(customer, payment_method=zero)),
        ("order.create", new_order(customer, metadata={"a": zero})),
        ("order.create", new_order(customer, metadata={zero: 1})),
        ("order.create", new_order(customer, shipping_address={"city": zero})),
        ("order.import", {"lines": [{"line": 1, "order": new_order(customer, external_id=zero)}]}),
        ("order.list", {"external_id": zero}),
        ("order.list", {"cursor": zero}),
        ("order.get", {"id": zero}),
        ("payment.notify", {"order_id": customer, "reference": zero}),
        ("return.create", {"id": customer, "items": [{"sku": "A", "quantity": 1, "reason": zero}]}),
        ("return.create", {"id": customer, "items": [{"sku": "A", "quantity": 1}], "note": zero}),
        ("return.cancel", {"id": customer, "reason": zero}),
        ("return.list", {"cursor": zero}),
        ("customer.list", {"cursor": zero}),
        ("customer.list", {"email": zero}),
        ("customer.list", {"q": zero}),
        ("customer.update", {"id": customer, "phone": zero}),
        ("customer.update", {"id": customer, "metadata": {"a": zero}}),
        ("order.list", {"q": zero}),
        ("order.list", {"tag": zero}),
        ("order.update", {"id": customer, "note": zero}),
        ("order.update", {"id": customer, "tags": [zero]}),
        ("order.update", {"id": customer, "shipping_address": {"city": zero}}),
        ("product.list", {"cursor": zero}),
        ("product.get", {"sku": zero}),
        ("event.list", {"after": zero}),
        ("event.list", {"type": zero}),
        ("dead_letter.list", {"cursor": zero}),
        ("dead_letter.redrive", {"id": zero}),
        ("dead_letter.discard", {"id": zero}),
        ("retry.list", {"cursor": zero}),
        ("webhook_endpoint.list", {"cursor": zero}),
        (zero, {}),
    ]:
        reply = client.call(kind, body, headers={"role": "admin"})
        if reply["status"] == "SUCCESS":
            check(kind == "order.import" and reply["value"]["rejected_count"] == 1, (kind, body, reply))
        else:
            check(reply["error"]["code"] in ("INVALID_REQUEST", "NOT_FOUND"), (kind, body, reply))
    print("refused")


def talk(client, customer):
    events = client.channel.queue_declare("", exclusive=True).method.queue
    client.channel.queue_bind(events, "order-events", "order.*")

    created = client.call("order.create", new_order(customer))
    check(created["status"] == "SUCCESS" and created["value"]["storefront"] == "default", created)
    order = created["value"]["id"]
    got = client.call("order.get", {"id": order})
    check(got["status"] == "SUCCESS" and got["value"]["id"] == order, got)
    listed = client.call("order.list", {"limit": 5})
    check([entry["id"] for entry in listed["value"]["data"]] == [order], listed)

    properties, body = client.receive(events)
    event = json.loads(body)
    check(properties.content_type == "application/cloudevents+json", properties)
    check(event["specversion"] == "1.0" and event["type"] == "order.created", event)
    check(event["subject"] == order and event["intent"] == "order.create", event)

    # The same message again, as the broker would deliver it: one order.
    first = client.call("order.create", new_order(customer), message_id="m-1")
    again = client.call("order.create", new_order(customer), message_id="m-1")
    check(first["value"]["id"] == again["value"]["id"], (first, again))

    # The same correlation id does not make requests idempotent: two requests, two orders.
    twice = [client.call("order.create", new_order(customer), correlation="c-1") for _ in range(2)]
    check(twice[0]["value"]["id"] != twice[1]["value"]["id"], twice)

    short = client.call("order.create", new_order(customer, items=[{"sku": "A", "quantity": 99}]))
    check(short["status"] == "FAILURE" and short["error"]["code"] == "OUT_OF_STOCK", short)
    foreign = client.call("order.get", {"id": order}, headers={"storefront": "other"})
    check(foreign["error"]["code"] == "NOT_FOUND", foreign)
    forbidden = client.call("stock.set", {"sku": "A", "warehouse": "main", "on_hand": 5})
    check(forbidden["error"]["code"] == "FORBIDDEN", forbidden)
    # The same change again, as the broker would deliver it, and note and tags, which are for operators.
    moved = {"id": order, "shipping_address": {"city": "Köln"}, "metadata": {"amqp": True}}
    moved = [client.call("order.update", moved, message_id="u-1")["value"] for _ in range(2)]
    check(all(answer["metadata"]["amqp"] for answer in moved), moved)
    history = client.call("order.history", {"id": order, "limit": 200})["value"]["data"]
    check([event["type"] for event in history].count("order.updated") == 1, history)
    noted = {"id": order, "note": "by phone", "tags": ["vip"]}
    check(client.call("order.update", noted)["error"]["code"] == "FORBIDDEN", noted)
    noted = client.call("order.update", noted, headers={"role": "operator"})["value"]
    check(noted["note"] == "by phone" and noted["tags"] == ["vip"], noted)
    seen = client.call("order.get", {"id": order})["value"]
    check("note" not in seen and "tags" not in seen and seen["shipping_address"]["city"] == "Köln", seen)
    tagged = client.call("order.list", {"tag": "VIP"}, headers={"role": "operator"})["value"]
    check([entry["id"] for entry in tagged["data"]] == [order], tagged)
    check(client.call("order.list", {"tag": "vip"})["error"]["code"] == "FORBIDDEN", tagged)
    cancelled = client.call("order.cancel", {"id": order, "reason": "why not"})
    check(cancelled["value"]["status"] == "cancelled", cancelled)
    check(cancelled["value"]["cancel_reason"] == "customer_request", cancelled)
    print("talked")


def garbage(client, customer):
    nonsense = [
        ("empty", b""),
        ("no text", b"\xff\xfe\x00\x80"),
        ("no JSON", b'{"customer_id": '),
        ("wrong JSON", b"[1, 2, 3]"),
        ("deep JSON", b"[" * 200_000),
        ("10 MiB", b"x" * (10 * 1024 * 1024)),
    ]
    for what, body in nonsense:
        reply = client.call("order.create", body)
        check(reply["status"] == "FAILURE", (what, reply))
        check(reply["error"]["code"] in ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE"), (what, reply))
        client.send("order.create", body, reply=False)
    for kind in ("order.explode", "", "x" * 255, "order.create\n"):
        reply = client.call(kind, {})
        check(reply["error"]["code"] == "INVALID_REQUEST", (kind, reply))
    for headers in ({"role": "root"}, {"storefront": "a/b"}):
        reply = client.call("order.list", {}, headers=headers)
        check(reply["error"]["code"] == "INVALID_REQUEST", (headers, reply))
    odd = {"deadline": "soon", "actor": {"a": [1, None]}, "request_id": "\n" * 5000, "intent": 7}
    reply = client.call("order.list", {}, headers=odd, expiration="60000")
    check(reply["status"] == "SUCCESS", reply)
    client.send("order.create", new_order(customer), reply=False)

    steps = nonsense + [("unknown step", json.dumps({"order_id": str(uuid.uuid4()), "step": "dance", "attempt": 1}).encode())]
    for _, body in steps:
        client.send("authorize_payment", body, queue=STEPS)
    # A step of an unknown order is valid, and is acknowledged without an effect.
    stranger = {"order_id": str(uuid.uuid4()), "step": "authorize_payment", "attempt": 1}
    client.send("authorize_payment", stranger, queue=STEPS)

    check(client.call("order.create", new_order(customer))["status"] == "SUCCESS", "the worker stopped working")
    print("survived")


def encode_poison():
    """Makes pika encode the short string POISON as bytes that are not UTF-8."""
    encode = pika.data.encode_short_string

    def encode_anything(pieces, value):
        if value != "POISON":
            return encode(pieces, value)
        pieces.extend([b"\x03", b"\xff\xfe\x80"])
        return 4

    pika.data.encode_short_string = encode_anything


def poison(client, customer):
    """Properties that are not UTF-8: the broker accepts them, and many clients close the connection."""
    encode_poison()
    for queue in (REQUESTS, STEPS):
        client.send("POISON", {}, queue=queue, reply=False)
    for _ in range(20):
        client.send("order.create", new_order(customer), reply=True)
    for _ in range(20):
        reply = json.loads(client.receive(client.replies, 60)[1])
        check(reply["status"] == "SUCCESS", reply)
    print("survived")


def poison_steps(client, customer):
    """A message on the step queue that the worker's AMQP client can't decode."""
    encode_poison()
    client.send("POISON", {}, queue=STEPS, reply=False)
    print("sent")


def unprocessable(client, customer):
    """A request whose consumers die without an acknowledgement, as often as the delivery limit permits."""
    client.send("order.create", new_order(customer), reply=False, message_id="unprocessable")
    deliveries = 0
    while True:
        channel = client.connection.channel()
        for _ in range(100):
            method, properties, _ = channel.basic_get(REQUESTS)
            if method:
                break
            client.connection.sleep(0.02)
        if not method:
            break
        # The gateway may have sent requests as well.
        deliveries += properties.message_id == "unprocessable"
        channel.close()
    check(deliveries in (20, 21), deliveries)
    print("dropped")


def left_behind(client, customer):
    """A request that a killed migration of the request queue has moved out of it."""
    is_sent = False
    while not is_sent:
        client.channel.queue_declare(MIGRATION, durable=True, arguments={"x-queue-type": "classic"})
        try:
            client.send("order.create", new_order(customer), queue=MIGRATION, message_id=str(uuid.uuid4()))
            is_sent = True
        except pika.exceptions.UnroutableError:
            # A migration has just ended.
            pass
    reply = json.loads(client.receive(client.replies, 60)[1])
    check(reply["status"] == "SUCCESS", reply)
    print("answered")


def odd_replies(client, customer):
    """Malformed names of direct reply-to queues."""
    names = ["x", "x.y", "g1h.", "!!!!.????", "g2dkAAR4QHkAAAAAAAAAAAAAAAA=.AAAA", ".", "AAAA.BBBB", "z" * 200]
    for name in names * 2:
        client.channel.basic_publish(
            "",
            REQUESTS,
            json.dumps({"limit": 1}).encode(),
            pika.BasicProperties(type="order.list", reply_to=f"amq.rabbitmq.reply-to.{name}", correlation_id="x"),
        )
        reply = client.call("customer.get", {"id": customer})
        check(reply["status"] == "SUCCESS", reply)
    print("answered")


def accepts(client, customer):
    """Asynchronous orders: one invalid, and two dead letters that reached the delivery limit."""
    client.send("order.accept", {"id": str(uuid.uuid4()), "order": {"nonsense": 1}}, queue=STEPS)
    died = {"x-first-death-queue": STEPS, "x-first-death-reason": "delivery_limit", "x-first-death-exchange": ""}
    for returned in (0, 5):
        body = {"id": str(uuid.uuid4()), "order": new_order(customer)}
        headers = {**died, "returned": str(returned)}
        client.send("order.accept", body, queue="order-dead-letter-queue", headers=headers)
    print("sent")


def expire(client, customer):
    client.send("order.create", new_order(customer, metadata={"expires": True}), expiration="50")
    client.send("order.create", new_order(customer, metadata={"expires": False}), expiration="600000")
    client.connection.sleep(0.5)
    print("expired")


def reject(client, customer):
    client.send("authorize_payment", b"nonsense", queue=STEPS)
    print("sent")


def entry(name, kind, body, **more):
    return {"type": kind, "correlation_id": name, "message_id": f"b-{name}", "body": body, **more}


def send_batch(client, entries):
    """Sends requests in one message and returns the replies by correlation id."""
    client.send("batch", entries, message_id=str(uuid.uuid4()), expiration="60000")
    replies = {}
    while len(replies) < len(entries):
        properties, body = client.receive(client.replies)
        check(properties.type == "batch", properties)
        for reply in json.loads(body):
            replies[reply.get("correlation_id")] = reply["body"]
    return replies


def batch(client, customer):
    """Requests in one message: each is answered as if it were sent alone."""
    entries = [
        entry("good", "order.create", new_order(customer)),
        entry("short", "order.create", new_order(customer, items=[{"sku": "A", "quantity": 99999}])),
        entry("odd", "order.create", {"customer_id": 7}),
        entry("unknown", "order.explode", {}),
        entry("forbidden", "stock.set", {"sku": "A", "warehouse": "main", "on_hand": 5}),
        entry("foreign", "customer.get", {"id": customer}, headers={"storefront": "other"}),
        entry("late", "order.create", new_order(customer), expiration="0"),
        entry("role", "order.list", {}, headers={"role": "root"}),
        {"type": "order.create", "correlation_id": "bare"},
        {"type": ["order.create"], "correlation_id": "types", "body": {}},
        "no entry at all",
        entry("twin", "order.create", new_order(customer), message_id="b-good"),
    ]
    replies = send_batch(client, entries)
    codes = {name: reply.get("error", {}).get("code") for name, reply in replies.items()}
    expected = {
        "good": None,
        "short": "OUT_OF_STOCK",
        "odd": "INVALID_REQUEST",
        "unknown": "INVALID_REQUEST",
        "forbidden": "FORBIDDEN",
        "foreign": "NOT_FOUND",
        "late": "TIMEOUT",
        "role": "INVALID_REQUEST",
        "bare": "INVALID_REQUEST",
        "types": "INVALID_REQUEST",
        None: "INVALID_REQUEST",
        "twin": None,
    }
    check(codes == expected, replies)
    order = replies["good"]["value"]["id"]
    check(replies["twin"]["value"]["id"] == order, replies)

    # A redelivery of the message is answered again and not executed again.
    check(send_batch(client, entries)["good"]["value"]["id"] == order, "the redelivered request created another order")

    # An invalid batch is answered like any other invalid message.
    for body in (b"", b"{}", b"7", b"[" * 100_000, json.dumps([{}] * 1001).encode()):
        reply = client.call("batch", body)
        check(reply["error"]["code"] == "INVALID_REQUEST", reply)
    check(client.call("order.get", {"id": order})["status"] == "SUCCESS", "a request without a batch failed")
    print("batched")


def looks(client, ids):
    """Orders that are read in one query: the first is damaged, the third is deleted."""
    damaged, good, deleted = ids.split(",")
    operator = {"role": "operator"}
    replies = send_batch(
        client,
        [
            entry("damaged", "order.get", {"id": damaged}),
            entry("good", "order.get", {"id": good}),
            entry("again", "order.get", {"id": good}),
            entry("foreign", "order.get", {"id": good}, headers={"storefront": "other"}),
            entry("none", "order.get", {"id": str(uuid.uuid4())}),
            entry("deleted", "order.get", {"id": deleted}),
            entry("all", "order.get", {"id": deleted, "include_deleted": True}, headers=operator),
            entry("storefront", "order.get", {"id": deleted, "include_deleted": True}),
        ],
    )
    results = {name: reply.get("error", {}).get("code") or reply["value"]["id"] for name, reply in replies.items()}
    expected = {
        "damaged": "INTERNAL",
        "good": good,
        "again": good,
        "foreign": "NOT_FOUND",
        "none": "NOT_FOUND",
        "deleted": "NOT_FOUND",
        "all": deleted,
        "storefront": "FORBIDDEN",
    }
    check(results == expected, replies)
    print("looked")


def waiters(client, customer):
    """Requests that wait for events do not delay other requests."""
    position = client.call("event.list", {"after": "now"})["value"]["position"]
    waits = {str(uuid.uuid4()) for _ in range(300)}
    for correlation in waits:
        client.send("event.list", {"after": position, "wait_ms": 20_000}, correlation=correlation)
    other = str(uuid.uuid4())
    client.send("customer.get", {"id": customer}, correlation=other)
    answered = 0
    while True:
        properties, body = client.receive(client.replies)
        reply = json.loads(body)
        if properties.correlation_id == other:
            check(reply["value"]["id"] == customer, reply)
            break
        check(reply["value"]["data"] == [], reply)
        answered += 1
    # The other request was answered before the waiting requests timed out.
    client.connection.sleep(1)
    answered += client.channel.queue_declare(client.replies, passive=True).method.message_count
    check(answered <= 300 - 128, f"{answered} were answered by then")
    print("not kept waiting")


def slow_step(client, customer):
    """Orders whose first steps are in one message; one of them is slow, one fails twice."""
    methods = ["pm_slow", "pm_flaky", "pm_declined"] + ["pm_ok"] * 7
    entries = [
        {
            "type": "order.create",
            "correlation_id": str(number),
            "message_id": f"slow-{number}",
            "body": new_order(customer, payment_method=method),
        }
        for number, method in enumerate(methods)
    ]
    client.send("batch", entries, expiration="60000")
    print("ordered")


def torn_steps(client, customer):
    """A message with three steps, one of which is invalid."""
    def step(**more):
        body = {"order_id": str(uuid.uuid4()), "step": "authorize_payment", "attempt": 1, **more}
        return {"type": "authorize_payment", "body": body}

    client.send("batch", [step(), step(step="dance"), step()], queue=STEPS)
    print("sent")


def imports(client, customer):
    """An import whose only identity is its correlation id. The worker dies after its first reply."""
    # The first two lines have the same content and are two orders.

    def send(orders):
        lines = [{"line": number, "order": new_order(customer, metadata={"n": name})} for number, name in enumerate(orders, 1)]
        client.send("order.import", {"lines": lines}, correlation="1", headers={"role": "operator"})

    def imported():
        report = json.loads(client.receive(client.replies, seconds=60)[1])["value"]
        return report["accepted"], report["duplicates"]

    # The import is answered by the worker that dies, unless the reply dies with it, and after the redelivery. Both
    # reports are the same, and the second one may come later.
    send(["a", "a", "b"])
    check(imported() == (3, 0), "report of the first delivery, or of the redelivery")
    # Another request may have the same correlation id, with other lines or the same ones.
    for lines in ["c"], ["b", "c"]:
        send(lines)
        reply = imported()
        if reply == (3, 0):
            reply = imported()
        check(reply == (len(lines), 0), (lines, reply))
    print("imported")


def import_messages(client, customer):
    """Imports whose messages are sent twice: the second report is the first one again. Lines of other messages are
    duplicates by their external id, or by their content under an idempotency key."""

    def report(message_id, orders, **headers):
        lines = [{"line": number, "order": order} for number, order in enumerate(orders, 1)]
        headers["role"] = "operator"
        value = client.call("order.import", {"lines": lines}, message_id=message_id, headers=headers)["value"]
        return value["accepted"], value["duplicates"], value["rejected_count"]

    def orders(name):
        # The first two orders have the same content. The last line is rejected.
        names = [name, name, name + "-other"]
        return [new_order(customer, metadata={"n": name}) for name in names] + [new_order(customer, colour=1)]

    # Lines without an external id.
    for _ in range(2):
        check(report("plain-1", orders("plain")) == (3, 0, 1), "repeated message")
    check(report("plain-2", orders("plain")) == (3, 0, 1), "another message")
    # Lines with external ids: two of the same in one message.
    external = [new_order(customer, external_id=external_id) for external_id in ["x-1", "x-1", "x-2"]]
    for _ in range(2):
        check(report("external-1", external) == (2, 1, 0), "repeated message with external ids")
    check(report("external-2", external) == (0, 3, 0), "another message with external ids")
    # An idempotency key, with and without external ids.
    for name, lines, first in [("key", orders("key"), (3, 0, 1)), ("x-key", external, (0, 3, 0))]:
        for _ in range(2):
            again = report(name + "-1", lines, idempotency_key=name)
            check(again == first, (name, "repeated message with a key", again))
        other = report(name + "-2", lines, idempotency_key=name)
        check(other == (0, 3, first[2]), (name, "another message with the key", other))
        again = report(name + "-1", lines, idempotency_key=name)
        check(again == first, (name, "first message with the key again", again))
    # A message that adds an order to those of an earlier message under the key, and is repeated.
    for _ in range(2):
        more = report("key-3", orders("key") + orders("new"), idempotency_key="key")
        check(more == (3, 3, 2), ("more lines under the key", more))
    print("imported")


{"imports": imports, "import_messages": import_messages, "nul": nul, "poison_steps": poison_steps, "unprocessable": unprocessable, "left_behind": left_behind, "odd_replies": odd_replies, "accepts": accepts, "batch": batch, "looks": looks, "waiters": waiters, "slow_step": slow_step, "torn_steps": torn_steps, "talk": talk, "roles": roles, "returns": returns, "reject": reject, "garbage": garbage, "poison": poison, "expire": expire}[sys.argv[1]](Client(sys.argv[2]), sys.argv[3])
