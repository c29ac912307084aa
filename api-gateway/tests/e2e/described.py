"""Others that go by what the API says of itself: schemathesis, and a client that
openapi-python-client makes of it.

described.py fuzz BASE KEY FOLDER | described.py client BASE KEY FOLDER CUSTOMER
described.py events BASE KEY ASYNCAPI: checks the whole feed against the description of events.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

action, base, key, folder = sys.argv[1:5]
tools = Path(os.environ["PYTHONPATH"]) / "bin"
environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

# Rules that a schema can't express are refused with 409, 412 or 422. 400: schemathesis sends values of If-Match that
# don't match the header's pattern.
SETTINGS = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", 304, 400, 401, 403, 404, 409, 412, 422]
"""


def run(*command):
    done = subprocess.run([sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True)
    print(done.stdout[-20000:], done.stderr[-5000:])
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}")


def fuzz():
    settings = Path(folder) / "schemathesis.toml"
    settings.write_text(SETTINGS)
    run(
        tools / "schemathesis", "--config-file", str(settings), "run", f"{base}/openapi.json",
        "--checks", "all", "--max-examples", "15", "--seed", "1", "--request-timeout", "30",
        "--header", f"Authorization: Bearer {key}",
        # One never ends; of the other's lines schemathesis knows no way to write them.
        "--exclude-path-regex", "/(stream|import)$",
    )  # fmt: skip


def client(customer):
    lines = Path(folder) / "client.json"
    lines.write_text('{"content_type_overrides": {"application/x-ndjson": "application/octet-stream"}}')
    run(
        tools / "openapi-python-client", "generate", "--url", f"{base}/openapi.json",
        "--config", str(lines), "--output-path", f"{folder}/orders_client", "--meta", "none", "--fail-on-warning",
    )  # fmt: skip
    sys.path.insert(0, folder)
    from orders_client import AuthenticatedClient
    from orders_client.api.orders import orders_cancel, orders_create, orders_list, orders_read
    from orders_client.models import CancelOrder, CreateOrder, NewItem, Order, Problem

    api = AuthenticatedClient(base_url=base, token=key)
    wish = CreateOrder(customer_id=customer, items=[NewItem(sku="A", quantity=2)])
    order = orders_create.sync(client=api, body=wish, idempotency_key="generated-1")
    assert isinstance(order, Order) and order.total == 2000, order
    again = orders_create.sync(client=api, body=wish, idempotency_key="generated-1")
    assert again.id == order.id, again
    read = orders_read.sync(order.id, client=api)
    assert read.id == order.id and read.items[0].sku == "A", read
    page = orders_list.sync(client=api, customer_id=customer)
    assert [listed.id for listed in page.data] == [order.id], page
    cancelled = orders_cancel.sync(order.id, client=api, body=CancelOrder(reason="changed my mind"))
    assert cancelled.status == "cancelled", cancelled
    wish.items[0].quantity = 10_000
    refused = orders_create.sync(client=api, body=wish)
    assert isinstance(refused, Problem) and refused.code == "OUT_OF_STOCK", refused
    print("ordered and cancelled")


def events():
    import jsonschema_rs

    document = json.loads(Path(folder).read_text())
    messages = document["components"]["messages"]
    validators = {
        message["name"]: jsonschema_rs.validator_for({**message["payload"], "components": document["components"]})
        for message in messages.values()
        if "payload" in message
    }
    position, seen = "0", set()
    while position:
        url = f"{base}/v1/events?limit=200&after={position}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
        page = json.load(urllib.request.urlopen(request))
        for event in page["data"]:
            validators[event["type"]].validate(event)
            seen.add(event["type"])
        position = page["next_cursor"]
    print(*sorted(seen))


if action == "client":
    client(*sys.argv[5:])
else:
    {"fuzz": fuzz, "events": events}[action]()
