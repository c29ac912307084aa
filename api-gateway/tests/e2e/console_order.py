"""Browser tests of one order's page, its printed documents and the form for a new order: see console_driver.py."""

import json
import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from console_driver import Page, base, call, catalogue, check_accessibility, folder, keys, order, png, run, settled, status, until, upload, wait_for_photos
from playwright.sync_api import expect

ADDRESS = {"name": "Ada Lovelace", "line1": "St James's Square 12", "postal_code": "SW1Y 4JH", "city": "London", "country": "GB"}
# Two products with discount, tax and shipping charge: 20.00 + 20.00 - 2.00 + 4.90 = 42.90, including 2.87 VAT.
PARTS = {
    "tax_included": True, "shipping": {"label": "Standard", "amount": 490}, "discounts": [{"label": "Welcome", "code": "HELLO10", "amount": 200}],
    "items": [{"sku": "SKU-1", "quantity": 2, "taxes": [{"label": "VAT 19 %", "amount": 287}]}, {"sku": "SKU-2", "quantity": 1}],
    "shipping_address": ADDRESS,
}  # fmt: skip
# Events whose subject is not an order.
OTHER_SUBJECTS = re.compile(r"(product|customer|webhook_endpoint|api_key)\.|stock\.(adjusted|low)$")


def read(id):
    return call("GET", f"/v1/orders/{id}")


def labelled(customer, **parts):
    """An order whose shipping label is created."""
    id = order(customer, **parts)["id"]
    until(lambda: read(id)["shipments"] and read(id)["in_progress"] is None, "the label")
    return id


def captured(customer, **parts):
    """An order that is shipped and paid."""
    id = labelled(customer, **parts)
    call("POST", f"/v1/orders/{id}/shipments", {"carrier": "DHL", "tracking_number": f"T-{id[-4:]}"})
    until(lambda: read(id)["payment"]["captured"] == read(id)["total"], "the capture")
    return id


class Task:
    """Counts the actions, clicks and entries, of a task that starts on the dashboard."""

    def __init__(self, page):
        self.page, self.count = page.open("dashboard"), 0

    def click(self, locator):
        locator.click()
        self.count += 1

    def enter(self, locator, text):
        locator.fill(text)
        locator.press("Enter")
        self.count += 1


def refund(browser):
    """One item is refunded from its line: five actions from the dashboard."""
    customer = catalogue()
    id = captured(customer, **PARTS)
    page = Page(browser)
    task = Task(page)
    task.click(page.get_by_role("link", name="Orders", exact=True))
    task.enter(page.locator("#search"), "Ada")
    task.click(page.get_by_role("link", name="#1", exact=True))
    expect(page.locator(".totals")).to_contain_text("€42.90")
    task.click(page.button("Refund Thing 1"))
    dialog = page.get_by_role("dialog")
    # One of two units, with its share of the discount.
    expect(dialog).to_contain_text("Estimated refund: €9.50")
    expect(dialog.get_by_label("Units of Thing 1 to refund")).to_have_value("1")
    expect(dialog.get_by_label("Units of Thing 2 to refund")).to_have_value("0")
    expect(dialog.locator("[name=amount]")).to_be_hidden()
    task.click(dialog.get_by_role("button", name="Refund"))
    assert task.count <= 5, task.count
    expect(page.locator(".totals")).to_contain_text("Refunded")
    until(lambda: read(id)["payment"]["refunded"] == 950, "the refund of one unit")
    expect(page.get_by_role("region", name="Timeline")).to_contain_text("Refund of €9.50 requested for 1 × SKU-1")
    expect(page.get_by_role("region", name="Timeline")).to_contain_text("€9.50 refunded to the customer")
    # The shipping charge, and no unit.
    settled(page, id)
    page.button("Refund Thing 2").click()
    dialog.get_by_label("Units of Thing 2 to refund").fill("0")
    dialog.get_by_label("Shipping charge").check()
    expect(dialog).to_contain_text("Estimated refund: €4.90")
    page.confirm("Refund", reason="late")
    until(lambda: read(id)["payment"]["refunded"] == 1440, "the refund of the shipping charge")
    # Everything that is left.
    expect(page.locator(".totals")).to_contain_text("14.40")
    settled(page, id)
    page.button("Refund …").click()
    dialog.get_by_label("What to refund").select_option("all")
    expect(dialog.get_by_label("Units of Thing 1 to refund")).to_be_hidden()
    page.confirm("Refund")
    until(lambda: read(id)["payment"]["refunded"] == 4290, "the refund of the rest")
    expect(page.locator(".statuses")).to_contain_text("refunded")
    expect(page.button("Refund …")).to_have_count(0)
    page.assert_no_errors()


def parts(browser):
    """An order is shipped in two parts; one arrives, the other comes back after a failed delivery."""
    customer = catalogue()
    id = labelled(customer, sku="SKU-1", quantity=3, shipping_address=ADDRESS)
    page = Page(browser).open(f"orders/{id}")
    expect(page.locator(".statuses")).to_contain_text("not shipped")
    shipments = page.get_by_role("region", name="Shipments")
    expect(shipments).to_contain_text("To be shipped: 3 × Thing 1")
    page.button("Ship").click()
    expect(page.get_by_role("dialog").get_by_label("Units of Thing 1 to ship")).to_have_value("3")
    page.confirm("Ship", **{"'quantity SKU-1'": 1, "carrier": "DHL", "tracking_number": "T-1", "tracking_url": "https://track.example.com/T-1"})
    expect(shipments).to_contain_text("To be shipped: 2 × Thing 1")
    expect(page.locator(".statuses")).to_contain_text("partially shipped")
    expect(shipments.get_by_role("link", name="T-1", exact=True)).to_have_attribute("href", "https://track.example.com/T-1")
    settled(page, id)
    page.button("Ship").click()
    page.confirm("Ship", carrier="UPS", tracking_number="T-2")
    expect(page.get_by_role("heading", level=1)).to_contain_text("shipped")
    expect(page.button("Ship")).to_have_count(0)
    settled(page, id)
    page.button("Mark as delivered T-1").click()
    page.confirm("Mark as delivered")
    expect(page.row("T-1").first).to_contain_text("delivered")
    settled(page, id)
    page.button("Mark as failed T-2").click()
    page.confirm("Mark as failed")
    notice = page.get_by_role("region", name="Needs attention")
    expect(notice).to_contain_text("Delivery of shipment UPS T-2 failed")
    settled(page, id)
    notice.get_by_role("button", name="Mark as returned T-2").click()
    page.confirm("Mark as returned")
    expect(page.row("T-2").first).to_contain_text("returned")
    expect(notice).to_have_count(0)
    timeline = page.get_by_role("region", name="Timeline")
    for sentence in ("1 × SKU-1 shipped with DHL T-1", "Shipment DHL T-1 delivered", "Delivery of shipment UPS T-2 failed"):
        expect(timeline).to_contain_text(sentence)
    page.assert_no_errors()


def fix(browser):
    """A failed step is found on the dashboard's failures and fixed on the order's page: at most five actions."""
    page = Page(browser)
    task = Task(page)
    task.click(page.get_by_role("link", name="Failures", exact=True))
    task.click(page.locator("main tbody").get_by_role("link").first)
    notice = page.get_by_role("region", name="Needs attention")
    expect(notice).to_contain_text("Payment capture failed permanently")
    expect(notice).to_contain_text("can't be captured")
    expect(notice).to_contain_text("Check the payment at the provider")
    check_accessibility(page, "an order with a failed step")
    # The cause is not fixed yet: the step fails again.
    task.click(notice.get_by_role("button", name="Try again"))
    assert task.count <= 5, task.count
    id = page.url.split("/")[-1]
    until(lambda: [event["type"] for event in call("GET", f"/v1/orders/{id}/history?limit=200")["data"]].count("step.dead") == 2, "the second failure")
    expect(page.get_by_text("Payment capture failed permanently: ")).to_have_count(2)
    Path(folder, "mend").touch()
    until(lambda: Path(folder, "mended").exists(), "the payments to be repaired")
    notice.get_by_role("button", name="Try again").click()
    expect(notice).to_have_count(0)
    expect(page.get_by_role("region", name="Payment")).to_contain_text("captured")
    until(lambda: read(id)["payment"]["status"] == "captured", "the capture")
    # The step of the other order is given up.
    other = call("GET", "/v1/dead-letters")["data"][0]["order_id"]
    page.open(f"orders/{other}")
    notice.get_by_role("button", name="Give up …").click()
    expect(page.get_by_role("dialog")).to_contain_text("written off")
    page.confirm("Give up")
    expect(notice).to_have_count(0)
    expect(page.get_by_role("region", name="Timeline")).to_contain_text("written off")
    page.assert_no_errors()


def retry(browser):
    """A step that is retried automatically is tried at once, on the order's page."""
    # Far enough ahead that the button comes first: an attempt that has begun is not started again.
    is_ahead = lambda retry: datetime.fromisoformat(retry["next_attempt_at"]) > datetime.now(timezone.utc) + timedelta(seconds=6)  # noqa: E731
    until(lambda: any(map(is_ahead, call("GET", "/v1/retries")["data"])), "an attempt that is some seconds ahead")
    id = call("GET", "/v1/retries")["data"][0]["order_id"]
    page = Page(browser).open(f"orders/{id}")
    notice = page.get_by_role("region", name="Needs attention")
    expect(notice).to_contain_text("Payment authorization failed and is retried automatically")
    expect(notice).to_contain_text("500")
    expect(page.get_by_role("region", name="Progress")).to_contain_text("last error")
    notice.get_by_role("button", name="Retry now").click()
    expect(page.get_by_text("Retry started.")).to_be_visible()
    expect(page.get_by_role("region", name="Timeline")).to_contain_text("Payment authorization started again")
    page.assert_no_errors()
    # For a clock that is two hours ahead, the step is late.
    later = Page(browser)
    later.clock.set_fixed_time(time.time() * 1000 + 7_200_000)
    later.open(f"orders/{id}")
    notice = later.get_by_role("region", name="Needs attention")
    expect(notice).to_contain_text("Payment authorization is late")
    expect(notice.get_by_role("link", name="Check the system on the dashboard")).to_be_visible()


def transfer(browser):
    """A bank transfer is recorded: the next action of the order's page, with the outstanding amount preset."""
    customer = catalogue()
    id = order(customer, quantity=2, payment_method="manual")["id"]
    page = Page(browser)
    task = Task(page)
    task.click(page.get_by_role("link", name="Orders", exact=True))
    task.click(page.get_by_role("link", name="#1", exact=True))
    expect(page.get_by_role("region", name="Needs attention")).to_contain_text("€20.00 is outstanding")
    task.click(page.button("Record payment"))
    task.click(page.get_by_role("dialog").get_by_role("button", name="Record payment"))
    assert task.count <= 5, task.count
    expect(page.locator(".totals")).to_contain_text("€20.00")
    until(lambda: read(id)["payment"]["captured"] == 2000, "the payment")
    timeline = page.get_by_role("region", name="Timeline")
    expect(timeline).to_contain_text("Payment of €20.00 received")
    # In parts, with a reference and the day of the receipt.
    other = order(customer, quantity=2, payment_method="manual")["id"]
    received_at = call("GET", f"/v1/orders/{other}")["created_at"]
    page.open(f"orders/{other}")
    settled(page, other)
    page.button("Record payment").click()
    page.get_by_role("dialog").locator("[name=received_at]").fill("2026-01-02T10:30")
    page.confirm("Record payment", amount="5.00", reference="transfer 77")
    expect(page.get_by_role("region", name="Payment")).to_contain_text("€5.00 of €20.00 received, €15.00 outstanding.")
    expect(timeline).to_contain_text("Payment of €5.00 received: transfer 77")
    (payment,) = read(other)["transactions"]
    assert payment["received_at"].startswith("2026-01-02") and payment["received_at"] < received_at, payment
    page.assert_no_errors()


def sample(schema, schemas, is_full):
    """A value of a schema: with all members, or with the required ones only."""
    if "$ref" in schema:
        return sample(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas, is_full)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for members in ("allOf", "anyOf", "oneOf"):
        if members in schema:
            return sample(schema[members][0], schemas, is_full)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        required = schema.get("required", [])
        return {name: sample(member, schemas, is_full) for name, member in schema.get("properties", {}).items() if is_full or name in required}
    if kind == "array":
        return [sample(schema.get("items", {"type": "string"}), schemas, is_full)] if is_full else []
    if kind == "string":
        return "2026-01-31T12:00:00Z" if schema.get("format") == "date-time" else "text"
    return {"integer": 1, "number": 1, "boolean": True, "null": None}[kind]


def events_of_orders(is_full):
    """An event of each type that an order can have, by docs/asyncapi.json."""
    document = json.loads((Path(__file__).parents[3] / "docs/asyncapi.json").read_text())
    components = document["components"]
    events = []
    for message in components["messages"].values():
        payload = message.get("payload", {})
        for part in payload.get("allOf", []):
            kind = part.get("properties", {}).get("type", {}).get("const")
            if kind and not OTHER_SUBJECTS.match(kind):
                data = sample(part["properties"]["data"], components["schemas"], is_full)
                # The times of the steps have no format in the document.
                data = {name: "2026-01-31T12:00:00Z" if name.endswith("_at") else value for name, value in data.items()}
                events.append({"type": kind, "data": data})
    assert len(events) > 35 and any(event["type"] == "payment.authorized" for event in events), events
    return events


def sentences(browser):
    """Each event type of an order has a sentence of its own, in English and German."""
    texts = {}
    for locale in ("en-US", "de-DE"):
        page = Page(browser, locale=locale).open("dashboard")
        for is_full in (True, False):
            found = page.evaluate("""async (events) => {
                const { isKnown, sentence } = await import("/console/order_sentences.js");
                const order = { currency: "EUR", payment: { provider: "sandbox" }, shipments: [], returns: [] };
                return events.map((event) => [event.type, isKnown(event.type), sentence(event, order)]);
            }""", events_of_orders(is_full))
            for kind, is_known, text in found:
                assert is_known, f"{kind} has no sentence in order_sentences.js"
                assert isinstance(text, str) and len(text) > 5, (kind, text)
                assert not re.search(r"undefined|null|NaN|\[object|[{}]", text), (kind, text)
                texts[locale, kind, is_full] = text
        page.assert_no_errors()
    untranslated = [kind for locale, kind, is_full in texts if texts["en-US", kind, is_full] == texts["de-DE", kind, is_full]]
    assert not untranslated, untranslated
    assert texts["en-US", "payment.captured", True] == "Payment of €0.01 captured"


def timeline(browser):
    """An order's timeline, with its note, details and exact times."""
    customer = catalogue()
    id = labelled(customer, sku="SKU-1")
    page = Page(browser).open(f"orders/{id}")
    card = page.get_by_role("region", name="Timeline")
    authorized = card.get_by_role("listitem").filter(has_text="Payment of €10.00 authorized by the sandbox provider")
    expect(authorized).to_have_count(1)
    expect(card.get_by_text("Order placed: 1 × SKU-1, €10.00")).to_be_visible()
    # Newest first, under the day, with the exact time on hover.
    shown = card.locator(".sentence").all_inner_texts()
    assert shown[-1].startswith("Order placed") and shown[0].startswith("Shipping label"), shown
    assert card.locator("h3").count() == 1
    assert re.search(r"\d{4}.*:\d\d:\d\d", authorized.locator("time").first.get_attribute("title")), authorized.inner_html()
    authorized.get_by_text("Details").click()
    expect(authorized.locator("pre")).to_contain_text('"amount": 1000')
    # A draft of the note stays, as do open details, when an event draws the page again.
    page.get_by_label("Note").fill("deliver after 5 pm")
    call("PATCH", f"/v1/orders/{id}", {"tags": ["VIP"]})
    expect(card.get_by_text("Changed: tags")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("deliver after 5 pm")
    expect(authorized.locator("pre")).to_be_visible()
    page.button("Save note").click()
    expect(page.get_by_text("Note saved.")).to_be_visible()
    assert read(id)["note"] == "deliver after 5 pm"
    expect(page.button("Save note")).to_be_disabled()
    # The note was changed by another person meanwhile.
    page.get_by_label("Note").fill("deliver before noon")
    call("PATCH", f"/v1/orders/{id}", {"note": "leave it at the door"})
    expect(page.get_by_text("changed in the meantime, to: leave it at the door")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("deliver before noon")
    german = Page(browser, locale="de-DE").open(f"orders/{id}")
    expect(german.get_by_role("region", name="Verlauf")).to_contain_text("Zahlung von 10,00 € autorisiert von der Sandbox")
    german.assert_no_errors()
    page.assert_no_errors()


def printed(browser):
    """Packing slip without prices and summary with all amounts, without navigation and in light colours."""
    customer = catalogue()
    id = labelled(customer, **PARTS)
    call("PATCH", f"/v1/orders/{id}", {"note": "internal"})
    page = Page(browser, color_scheme="dark", viewport={"width": 1280, "height": 850}).open(f"orders/{id}")
    page.get_by_role("link", name="Packing slip", exact=True).first.click()
    sheet = page.get_by_role("article")
    for text in ("Packing slip", "Order #1", "Ada Lovelace", "SW1Y 4JH London", "United Kingdom", "Thing 1", "SKU-2"):
        expect(sheet).to_contain_text(text)
    assert not re.search(r"€|\d\.\d\d|internal", sheet.inner_text()), sheet.inner_text()
    check_accessibility(page, "packing slip")
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in (page.get_by_role("navigation"), page.button("Print"), page.locator("header.top")):
        expect(hidden).to_be_hidden()
    expect(sheet).to_be_visible()
    colors = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.sheet')).color]")
    assert colors[0] == "rgb(255, 255, 255)" and colors[1] != colors[0], colors
    page.emulate_media(media="screen", color_scheme="dark")
    page.get_by_role("link", name="Back to the order").click()
    page.get_by_role("link", name="Order summary").click()
    for text in ("not a tax invoice", "€42.90", "including VAT 19 %", "HELLO10", "Shipping (Standard)", "ada@example.com", "Outstanding"):
        expect(sheet).to_contain_text(text)
    assert "internal" not in sheet.inner_text()
    check_accessibility(page, "order summary")
    # The packing slip of one shipment has its items only.
    call("POST", f"/v1/orders/{id}/shipments", {"items": [{"sku": "SKU-2", "quantity": 1}], "carrier": "DHL", "tracking_number": "T-9"})
    page.open(f"orders/{id}")
    page.get_by_role("link", name="Packing slip of T-9").click()
    expect(sheet).to_contain_text("DHL")
    expect(sheet.locator("tbody tr")).to_have_count(1)
    german = Page(browser, locale="de-DE").open(f"orders/{id}/print/packing-slip")
    expect(german.get_by_role("heading", level=1)).to_have_text("Lieferschein")
    page.assert_no_errors()
    german.assert_no_errors()


def place(browser):
    """A new order with pickers that search on the server, by keyboard, with all amounts."""
    catalogue()
    for number in range(1, 26):
        call("POST", "/v1/customers", {"name": f"Buyer {number:02}", "email": f"buyer{number}@example.com", "addresses": [{"name": f"Buyer {number:02}", "city": "Berlin", "country": "DE"}]})
    page = Page(browser).open("new")
    customer = page.get_by_role("combobox", name="Customer")
    options = page.locator(".choices").get_by_role("option")
    # The list has a few entries only, until a text narrows it down.
    customer.focus()
    expect(options).to_have_count(10)
    customer.press_sequentially("Buyer 2", delay=20)
    expect(options).to_have_count(6)
    expect(customer).to_have_attribute("aria-expanded", "true")
    expect(options.first).to_have_attribute("aria-selected", "true")
    customer.press("ArrowDown")
    second = options.nth(1)
    expect(second).to_have_attribute("aria-selected", "true")
    assert customer.get_attribute("aria-activedescendant") == second.get_attribute("id")
    check_accessibility(page, "new order with an open picker")
    customer.press("Escape")
    expect(options).to_have_count(0)
    # A text that is no choice is not accepted.
    page.button("Place order").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New order")
    customer.fill("buyer25@")
    expect(options).to_have_count(1)
    customer.press("Enter")
    expect(customer).to_have_value("Buyer 25")
    expect(page.get_by_label("City")).to_have_value("Berlin")
    product = page.get_by_role("combobox", name="Product 1")
    product.fill("Thing 2")
    options.filter(has_text="SKU-2").click()
    page.get_by_label("Quantity").fill("2")
    expect(page.locator("#total")).to_contain_text("€40.00")
    # Nothing is found, and the text is kept.
    page.button("Add item").click()
    other = page.get_by_role("combobox", name="Product 2")
    other.fill("nothing of that kind")
    expect(page.get_by_text("No results.")).to_have_count(1)
    other.fill("SKU-1")
    expect(options).to_have_count(1)
    other.press("Enter")
    item = page.get_by_role("group", name="Item 2")
    item.get_by_text("Price, discount and tax").click()
    item.get_by_label("Agreed unit price").fill("9.50")
    item.get_by_label("Discount on this item, all units").fill("0.50")
    item.get_by_label("Name of the tax").fill("VAT 19 %")
    item.get_by_label("Tax on this item, all units").fill("1.71")
    page.get_by_label("Shipping charge").fill("4.90")
    page.get_by_label("Tax on shipping").fill("0.93")
    page.get_by_label("Discount on the order").fill("2")
    page.get_by_label("Discount code").fill("HELLO")
    page.get_by_role("combobox", name="Payment").select_option("manual")
    # 40.00 + 9.50 - 0.50 + 1.71 + 4.90 + 0.93 - 2.00
    expect(page.locator("#total")).to_contain_text("€54.54")
    page.button("Place order").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Order #1")
    placed = call("GET", "/v1/orders")["data"][0]
    assert placed["total"] == 5454 and placed["payment"]["provider"] == "manual", placed
    assert placed["discounts"] == [{"label": "Discount", "amount": 200, "code": "HELLO"}], placed
    assert placed["shipping_address"] == {"name": "Buyer 25", "city": "Berlin", "country": "DE"}, placed
    expect(page.get_by_role("region", name="Customer")).to_contain_text("Buyer 25")
    # The customer is preset by a link.
    page.open(f"new?customer_id={placed['customer_id']}")
    expect(customer).to_have_value("Buyer 25")
    page.assert_no_errors()


def roles(browser):
    """A storefront sees its order without the operators' actions, note and tags."""
    operator, storefront = keys
    keys[:] = [operator]
    catalogue()
    customer = call("POST", "/v1/customers", {"name": "Eve", "email": "eve@example.com"}, storefront)["id"]
    request = {"customer_id": customer, "items": [{"sku": "SKU-1", "quantity": 1}]}
    id = call("POST", "/v1/orders", request, storefront)["id"]
    call("PATCH", f"/v1/orders/{id}", {"note": "internal", "tags": ["VIP"]})
    until(lambda: read(id)["shipments"] and read(id)["in_progress"] is None, "the label")
    page = Page(browser)
    page.goto("/")
    page.get_by_label("API key or token").fill(storefront)
    page.button("Log in").click()
    expect(page.locator("main h1")).to_be_visible()
    page.open(f"orders/{id}")
    expect(page.get_by_role("region", name="Timeline")).to_contain_text("Payment of €10.00 authorized")
    expect(page.button("Cancel order")).to_be_visible()
    for name in ("Ship", "Save note", "Edit tags", "Refund …", "Cancel label"):
        expect(page.button(name)).to_have_count(0)
    assert "internal" not in page.locator("main").inner_text()
    check_accessibility(page, "an order for a storefront")
    page.assert_no_errors()


def appearance(browser):
    """An order's page has no accessibility issues in light, dark and phone layout, and its photos are shown."""
    customer = catalogue()
    call("PATCH", "/v1/products/SKU-2", {"image_urls": [f"{base}/console/icon.svg"]})
    upload("SKU-1", png(640, 480, (190, 60, 50)))
    id = captured(customer, **PARTS)
    call("PATCH", f"/v1/orders/{id}", {"note": "Regular customer: add a sample.", "tags": ["VIP", "gift"], "metadata": {"cart": "42"}})
    call("POST", f"/v1/orders/{id}/returns", {"items": [{"sku": "SKU-1", "quantity": 1, "reason": "too small"}]})
    call("POST", f"/v1/orders/{id}/refunds", {"amount": 100, "reason": "a scratch"})
    until(lambda: read(id)["payment"]["refunded"] == 100, "the refund")
    declined = order(customer, "SKU-1", payment_method="pm_declined")["id"]
    until(lambda: status(declined) == "cancelled", "the declined payment")
    views = {
        "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 850}},
        "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 850}},
        "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
        "German": {"locale": "de-DE", "viewport": {"width": 390, "height": 844}},
    }
    for name, options in views.items():
        page = Page(browser, **options).open(f"orders/{id}")
        expect(page.locator(".product img")).to_have_count(2)
        wait_for_photos(page, ".product img")
        page.locator("details.card > summary").click()
        check_accessibility(page, f"order {name}")
        page.locator("#do-refund").click()
        check_accessibility(page, f"refund {name}")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.open(f"orders/{declined}")
        check_accessibility(page, f"cancelled order {name}")
        page.open(f"orders/{id}/print/summary")
        check_accessibility(page, f"summary {name}")
        page.open("new")
        check_accessibility(page, f"new order {name}")
        page.assert_no_errors()
    # The next action leads to the return that waits for a decision.
    page = Page(browser).open(f"orders/{id}")
    page.button("Go to the return request").press("Enter")
    expect(page.button("Approve 1-R1")).to_be_focused()


run(globals())
