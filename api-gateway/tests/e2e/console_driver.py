"""The common driver of the console's browser tests: SCRIPT SCENARIO BASE FOLDER [KEY…].

A scenario is a function of one of the scripts console*.py that takes the browser; each script ends with
`run(globals())`. console.rs starts the system and prepares what a scenario needs.
"""

import json
import os
import struct
import sys
import time
import urllib.request
import zlib

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

scenario, base, folder = sys.argv[1:4]
keys = sys.argv[4:]
expect.set_options(timeout=20_000)

SCREENS = ["orders", "returns", "new", "products", "customers", "messages", "webhooks", "keys", "failures", "settings", "dashboard"]
# Text of an attacker in a field that the console shows.
HOSTILE = """<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"'`javascript:window.hacked=1`"""


def call(method, path, body=None, key=None):
    request = urllib.request.Request(
        f"{base}{path}", method=method, data=None if body is None else json.dumps(body).encode()
    )
    request.add_header("Content-Type", "application/json")
    if key or keys:
        request.add_header("Authorization", f"Bearer {key or keys[0]}")
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def upload(sku, data):
    """Adds a photo to a product."""
    request = urllib.request.Request(f"{base}/v1/products/{sku}/images", method="POST", data=data)
    request.add_header("Content-Type", "image/png")
    urllib.request.urlopen(request).close()


class Page:
    """A browser window that records script errors and error messages of the browser's console."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(base_url=base, **options)
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))

    def __getattr__(self, name):
        return getattr(self.page, name)

    def all(self, count):
        """Loads more until `count` rows are shown."""
        rows = self.locator("tbody tr")
        for shown in [*range(50, count, 50), count]:
            expect(rows).to_have_count(shown)
            if shown < count:
                self.button("Load more").click()

    def open(self, screen):
        self.page.goto(f"/#/{screen}")
        expect(self.page.locator("main h1")).to_be_visible()
        expect(self.page.locator(".loading")).to_have_count(0)
        return self

    def button(self, name, exact=True):
        return self.page.get_by_role("button", name=name, exact=exact)

    def confirm(self, submit, /, **fields):
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        for label, value in fields.items():
            dialog.locator(f"[name={label}]").fill(str(value))
        button = dialog.get_by_role("button", name=submit, exact=True)
        button.click()
        expect(button).to_have_count(0)

    def row(self, text):
        return self.page.get_by_role("row").filter(has_text=text)

    def assert_no_errors(self):
        # The browser also logs network errors and refused requests; they are no errors of the page.
        errors = [one for one in self.errors if "Failed to load resource" not in one and "ERR_" not in one]
        assert not errors, errors


def catalogue(count=3, stock=50):
    for number in range(1, count + 1):
        sku = f"SKU-{number}"
        call("POST", "/v1/products", {"sku": sku, "name": f"Thing {number}", "price": 1000 * number, "currency": "EUR"})
        call("PUT", f"/v1/products/{sku}/stock/berlin", {"on_hand": stock})
    return call("POST", "/v1/customers", {"name": "Ada Lovelace", "email": "ada@example.com"})["id"]


def order(customer, sku="SKU-1", quantity=1, **more):
    request = {"customer_id": customer, "items": [{"sku": sku, "quantity": quantity}], **more}
    return call("POST", "/v1/orders", request)


def until(condition, what):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.1)


def status(id):
    return call("GET", f"/v1/orders/{id}")["status"]


def shows_idle_order(page, id, total):
    """Waits until the order has this total and no step in progress, and the page shows its version."""
    def is_idle():
        order = call("GET", f"/v1/orders/{id}")
        return order["total"] == total and order["in_progress"] is None
    until(is_idle, f"a total of {total}")
    version = call("GET", f"/v1/orders/{id}")["version"]
    expect(page.locator(f"[data-version='{version}']")).to_have_count(1)


def settled(page, id):
    """Waits until no step of the order is in progress and the page shows its version: a dialog acts on that one."""
    until(lambda: call("GET", f"/v1/orders/{id}")["in_progress"] is None, "the steps to be done")
    version = call("GET", f"/v1/orders/{id}")["version"]
    expect(page.locator(f"[data-version='{version}']")).to_have_count(1)


def pick(page, label, text):
    """Chooses the first entry that a picker finds for a text."""
    page.get_by_role("combobox", name=label).fill(text)
    page.locator(".choices").get_by_role("option").filter(has_text=text).first.click()


def png(width, height, color):
    """A PNG file of one colour."""
    rows = (b"\0" + bytes(color) * width) * height
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wait_for_photos(page, selector=".photos img"):
    """Waits until all photos are loaded. The content security policy forbids conditions that the page evaluates itself."""
    loaded = "images => images.every((image) => image.naturalWidth > 0)"
    until(lambda: page.locator(selector).evaluate_all(loaded), "the photos")


def check_accessibility(page, title):
    """axe-core finds no issues, and the page is not wider than the window."""
    found = Axe().run(page.page)
    assert found.violations_count == 0, f"{title}:\n{found.generate_report()}"
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0, f"{title} is too wide by {width}"


def run(scenarios):
    """Runs the scenario that the command line names."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--lang=en-US"]
        )
        scenarios[scenario](chromium)
        chromium.close()
    print("seen")
