"""Fills a database of the previous version and measures an upgrade under load; run by scripts/upgrade-pause.sh."""

import argparse
import atexit
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

SEED_ORDERS, PRODUCTS = 10, 100
# One customer for each of this many orders.
ORDERS_PER_CUSTOMER = 5
# Load: threads of each kind, and their pause between requests.
WRITERS, READERS, THINK_SECONDS = 4, 4, 0.02
STEADY_SECONDS = 20

parser = argparse.ArgumentParser()
for name in ["folder", "previous-worker", "psql", "postgres", "amqp"]:
    parser.add_argument(f"--{name}", required=True)
# Folders with order-worker and api-gateway; each is measured.
parser.add_argument("--programs", required=True, nargs="+")
for name in ["orders", "runs"]:
    parser.add_argument(f"--{name}", type=int, required=True)
options = parser.parse_args()
folder = Path(options.folder)

# $S: id of a seed, $G: number of its copy.
FILL = """
SET synchronous_commit = off;
CREATE FUNCTION pg_temp.copy_id(id text, g bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT left(id, 24) || lpad(to_hex(g), 12, '0') $$;
CREATE TEMP TABLE seeds AS
    SELECT *, row_number() OVER (ORDER BY number) AS n, count(*) OVER () AS total, max(number) OVER () AS last
    FROM orders;
CREATE TEMP TABLE seed_events AS
    SELECT events.*, seeds.customer_id, row_number() OVER (ORDER BY position) AS n, count(*) OVER () AS total
    FROM events JOIN seeds ON events.subject = seeds.id;
CREATE TEMP TABLE seed_customers AS SELECT customers.*, count(*) OVER () AS total FROM customers;

INSERT INTO customers (id, storefront, state)
SELECT pg_temp.copy_id(id, g), storefront, replace(state, id, pg_temp.copy_id(id, g))
FROM generate_series(1, {customers}) AS g, seed_customers;

INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
SELECT last + (g - 1) * total + n, pg_temp.copy_id(id, g), storefront, pg_temp.copy_id(customer_id, g % {customers} + 1),
       status, is_deleted, created_at - ({copies} - g) * 1000,
       replace(replace(state, id, pg_temp.copy_id(id, g)), customer_id, pg_temp.copy_id(customer_id, g % {customers} + 1))
FROM generate_series(1, {copies}) AS g, seeds;

INSERT INTO order_items (sku, created_at, number)
SELECT 'P0', created_at, number FROM orders ON CONFLICT DO NOTHING;

INSERT INTO events (position, id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data)
SELECT base.position + (g - 1) * total + n, pg_temp.copy_id(id, g), pg_temp.copy_id(subject, g), sequence,
       time - ({copies} - g) * 1000, storefront, type, actor, intent, request_id, attempt,
       replace(replace(data, subject, pg_temp.copy_id(subject, g)), customer_id, pg_temp.copy_id(customer_id, g % {customers} + 1))
FROM generate_series(1, {copies}) AS g, seed_events, (SELECT max(position) AS position FROM events) AS base;

INSERT INTO deliveries (id, endpoint_id, status, due_at, created_at, state)
SELECT pg_temp.copy_id(id, g), endpoint_id, 'succeeded', NULL, created_at, replace(state, id, pg_temp.copy_id(id, g))
FROM generate_series(1, {copies}) AS g, (SELECT * FROM deliveries WHERE due_at IS NULL LIMIT 5) AS seed;

UPDATE feed SET position = (SELECT max(position) FROM events);
UPDATE relay SET position = (SELECT max(position) FROM events) WHERE name <> 'probe';
SELECT setval('order_numbers', (SELECT max(number) FROM orders));
"""


def psql(database, sql):
    command = [options.psql, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql, f"{options.postgres}/{database}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def fill_by(database, sql):
    """Runs a script in one session."""
    file = folder / "fill.sql"
    file.write_text(sql)
    command = [options.psql, "-qX", "-o", os.devnull, "-v", "ON_ERROR_STOP=1", "-f", file, f"{options.postgres}/{database}"]
    subprocess.run(command, check=True)


class Program:
    """A worker or gateway."""

    def __init__(self, program, log, database):
        self.log = folder / log
        environment = {
            "PATH": os.environ["PATH"], "LOG_FORMAT": "json", "AMQP_URL": options.amqp,
            "DATABASE_URL": f"{options.postgres}/{database}",
            "HTTP_ADDR": "127.0.0.1:0", "WORKER_HTTP_ADDR": "127.0.0.1:0", "MEDIA_URL": str(folder / "media"),
            "WEBHOOK_ALLOW_PRIVATE": "1", "SHIPPER_WEBHOOK_SECRET": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        }  # fmt: skip
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen([program], env=environment, stdout=output, stderr=output)
        atexit.register(self.process.kill)

    def logged(self, field):
        # The last line may be incomplete.
        for line in self.log.read_text().split("\n")[:-1]:
            value = json.loads(line).get(field) if line.startswith("{") else None
            if value:
                return value
        return None

    def wait_until_ready(self, field):
        while True:
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text()[-3000:])
            address = self.logged(field)
            if address and request(address, "GET", "/readyz")[0] == 200:
                return address
            time.sleep(0.05)

    def wait_for_worker(self):
        """Waits until a worker answers through this gateway, which is ready before there is one."""
        address = self.wait_until_ready("address")
        while request(address, "GET", "/v1/customers?limit=1")[0] != 200:
            time.sleep(0.05)
        return address

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def request(address, method, path, body=None, connection=None):
    connection = connection or http.client.HTTPConnection(address, timeout=60)
    content = None if body is None else json.dumps(body)
    try:
        connection.request(method, path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    except OSError as error:
        connection.close()
        return 0, {"error": str(error)}


def expect(address, method, path, body=None):
    status, answer = request(address, method, path, body)
    if status not in (200, 201, 202):
        raise SystemExit(f"{method} {path}: {status} {answer}")
    return answer


def new_order(customer, number=0):
    return {"customer_id": customer, "items": [{"sku": f"P{number % PRODUCTS}", "quantity": 1}]}


def create_seeds(address):
    """Orders that are delivered, shipped, in progress and cancelled, with webhooks."""
    for number in range(PRODUCTS):
        sku = f"P{number}"
        expect(address, "POST", "/v1/products", {"sku": sku, "name": sku, "price": 1000, "currency": "EUR"})
        expect(address, "PUT", f"/v1/products/{sku}/stock/main", {"on_hand": 1_000_000_000})
    customer = expect(address, "POST", "/v1/customers", {"name": "Ada", "email": "ada@example.com"})["id"]
    expect(address, "POST", "/v1/webhook-endpoints", {"url": f"http://{address}/livez", "event_types": ["order.*"]})
    for number in range(SEED_ORDERS):
        order = expect(address, "POST", "/v1/orders", new_order(customer))["id"]
        path = f"/v1/orders/{order}"
        while expect(address, "GET", path)["status"] != "processing":
            time.sleep(0.05)
        if number < 2:
            expect(address, "POST", f"{path}/cancel", {})
        elif number < 8:
            shipped = {"carrier": "DHL", "tracking_number": f"T{number}"}
            expect(address, "POST", f"{path}/shipments", shipped)
    # Deliveries fail, since a gateway takes no POST there; failed ones serve as well.
    time.sleep(3)


def fill():
    psql("postgres", "CREATE DATABASE filled")
    worker = Program(options.previous_worker, "previous.log", "filled")
    gateway = Program(f"{options.programs[0]}/api-gateway", "gateway.log", "filled")
    create_seeds(gateway.wait_for_worker())
    gateway.stop()
    worker.stop()
    psql("filled", "UPDATE deliveries SET due_at = NULL, status = 'failed'; DELETE FROM steps; UPDATE webhook_endpoints SET is_enabled = false")
    copies = options.orders // SEED_ORDERS
    fill_by("filled", FILL.format(copies=copies, customers=max(1, options.orders // ORDERS_PER_CUSTOMER)))
    psql("filled", "VACUUM ANALYZE")
    psql("filled", "CHECKPOINT")


class Load:
    """Customers who order and read, and the times of their responses."""

    def __init__(self, address, customers, orders):
        self.address, self.customers, self.orders = address, customers, orders
        self.responses = []
        self.errors = defaultdict(int)
        self.is_running = True
        threads = [("orders", number) for number in range(WRITERS)] + [("reads", number) for number in range(READERS)]
        self.threads = [threading.Thread(target=self.run, args=thread, daemon=True) for thread in threads]
        for thread in self.threads:
            thread.start()

    def run(self, kind, thread):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        number = thread
        while self.is_running:
            number += 7919
            begun = time.monotonic()
            if kind == "orders":
                customer = self.customers[number % len(self.customers)]
                status, _ = request(self.address, "POST", "/v1/orders", new_order(customer, number), connection)
            elif number % 4 == 0:
                status, _ = request(self.address, "GET", "/v1/orders?limit=10", None, connection)
            elif number % 4 == 1:
                path = f"/v1/customers/{self.customers[number % len(self.customers)]}"
                status, _ = request(self.address, "GET", path, None, connection)
            else:
                path = f"/v1/orders/{self.orders[number % len(self.orders)]}"
                status, _ = request(self.address, "GET", path, None, connection)
            ended = time.monotonic()
            if status in (200, 201):
                self.responses.append((kind, begun, ended))
            else:
                self.errors[f"{kind} {status}"] += 1
            time.sleep(THINK_SECONDS)

    def stop(self):
        self.is_running = False
        for thread in self.threads:
            thread.join()

    def figures(self, kind, begin, end):
        """Longest time without a response, slowest response, median and rate between two times."""
        responses = sorted((ended, ended - begun) for of, begun, ended in self.responses if of == kind and begin <= ended)
        # The first response after the end belongs to a pause that began before.
        within = [response for response in responses if response[0] <= end]
        times = [begin, *[ended for ended, _ in responses][: len(within) + 1]]
        gap = max((later - earlier for earlier, later in zip(times, times[1:])), default=0)
        slowest = max((took for ended, took in responses if ended - took <= end), default=0)
        median = statistics.median(took for _, took in within) if within else 0
        return gap, slowest, median, len(within) / (end - begin)


def sample_ids(database, table):
    """Ids from all over the table."""
    return psql(database, f"SELECT id FROM {table} ORDER BY hashtext(id) LIMIT 500").split()


def relation_name(database, oid):
    return psql(database, f"SELECT {oid}::regclass")


def schema_version(database):
    return int(psql(database, "SELECT max(version) FROM _sqlx_migrations"))


def measure(run, programs):
    database = f"run_{run}"
    # From version 15 on the files can be copied, which writes no log.
    strategy = "STRATEGY file_copy" if int(psql("postgres", "SHOW server_version_num")) >= 150_000 else ""
    psql("postgres", f"CREATE DATABASE {database} TEMPLATE filled {strategy}")
    customers, orders = sample_ids(database, "customers"), sample_ids(database, "orders")
    previous = Program(options.previous_worker, f"previous-{run}.log", database)
    gateway = Program(f"{programs}/api-gateway", f"gateway-{run}.log", database)
    load = Load(gateway.wait_for_worker(), customers, orders)
    phases = []

    def phase(name, act):
        begin = time.monotonic()
        act()
        phases.append((name, begin, time.monotonic()))

    time.sleep(5)
    phase("before", lambda: time.sleep(STEADY_SECONDS))
    old_version, log_offset = schema_version(database), (folder / "postgres/out.log").stat().st_size
    worker = Program(f"{programs}/order-worker", f"worker-{run}.log", database)
    phase("migration", lambda: worker.wait_until_ready("health"))
    phase("both versions", lambda: time.sleep(STEADY_SECONDS / 2))
    phase("previous worker stops", previous.stop)
    phase("after", lambda: time.sleep(STEADY_SECONDS))
    load.stop()
    gateway.stop()
    worker.stop()
    print(f"\nRun {run} ({programs}): schema {old_version} to {schema_version(database)}, load average {os.getloadavg()[0]:.1f}, errors: {dict(load.errors) or 'none'}\n")
    print("| phase | seconds | orders/s | no order for, ms | slowest order, ms | median, ms | reads/s | no read for, ms | slowest read, ms | median, ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, begin, end in phases:
        cells = [name, f"{end - begin:.1f}"]
        for kind in ["orders", "reads"]:
            gap, slowest, median, rate = load.figures(kind, begin, end)
            cells += [f"{rate:.0f}", f"{gap * 1000:.0f}", f"{slowest * 1000:.0f}", f"{median * 1000:.0f}"]
        print("|", " | ".join(cells), "|", flush=True)
    report_waits(database, log_offset)
    durations = "SELECT string_agg(version || ': ' || execution_time / 1000000, ', ' ORDER BY version) FROM _sqlx_migrations WHERE version > "
    print("\nMilliseconds by version:", psql(database, f"{durations} {old_version}"), flush=True)
    psql("postgres", f"DROP DATABASE {database}")


def report_waits(database, log_offset):
    """The statements that waited for locks longer than PostgreSQL's deadlock_timeout, with the longest wait of each."""
    with open(folder / "postgres/out.log", "rb") as log:
        log.seek(log_offset)
        lines = log.read().decode().splitlines()
    waits, waited = defaultdict(float), None
    for line in lines:
        if match := re.search(r"(?:still waiting for|acquired) (\w+) on (.+?) after ([\d.]+) ms", line):
            lock = re.sub(r"relation (\d+) of database \d+", lambda relation: relation_name(database, relation[1]), match[2])
            waited = (f"{match[1]} on {re.sub(r'transaction .*|tuple .*', 'a row', lock)}", float(match[3]))
        elif waited and "STATEMENT:" in line:
            statement = " ".join(line.split("STATEMENT:")[1].split())[:100]
            key = f"{waited[0]}: {statement}"
            waits[key] = max(waits[key], waited[1])
            waited = None
    print("\nWaits for locks:" if waits else "\nNo statement waited for a lock longer than 50 ms.")
    for key, milliseconds in sorted(waits.items(), key=lambda wait: -wait[1])[:12]:
        print(f"- {milliseconds:.0f} ms, {key}")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
begun = time.monotonic()
fill()
counts = psql("filled", "SELECT (SELECT count(*) FROM orders) || ' orders, ' || (SELECT count(*) FROM events) || ' events, ' || (SELECT count(*) FROM customers) || ' customers, ' || (SELECT count(*) FROM deliveries) || ' deliveries'")
print(f"{counts}; filled in {time.monotonic() - begun:.0f} s; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", flush=True)
for run in range(1, options.runs * len(options.programs) + 1):
    measure(run, options.programs[run % len(options.programs)])
