"""Browser tests of the console's order list: console_orders.py SCENARIO BASE FOLDER [KEY…]."""

import csv
import io
import json
import re
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

from console_driver import HOSTILE, Page, base, call, catalogue, check_accessibility, keys, order, run, status, until
from playwright.sync_api import expect


def customer_named(name, email):
    return call("POST", "/v1/customers", {"name": name, "email": email})["id"]


def search(page, word):
    page.locator("#search").fill(word)
    page.button("Search").click()


def expect_rows(page, *numbers):
    """The list has the orders with these numbers, in this order."""
    expect(page.locator("tbody th a")).to_have_text([f"#{number}" for number in numbers])


def tab(page, name):
    return page.get_by_role("navigation", name="Orders by status").get_by_role("link", name=re.compile(f"^{name}"))


def find(browser):
    """One search box, tabs with counts, filters as chips in the address, and the order of the list."""
    page = Page(browser).open("orders")
    expect(page.get_by_text("No orders yet.")).to_be_visible()
    page.get_by_role("link", name="Add a product").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Inventory|Products"))
    ada = catalogue()
    grace = customer_named("Grace Hopper", "grace@navy.example")
    import_lines([{"external_id": "WEB-77", "customer_id": ada, "items": [{"sku": "SKU-1", "quantity": 1}]}])
    first = call("GET", "/v1/orders")["data"][0]["id"]
    order(grace, "SKU-2", payment_method="pm_declined")
    order(grace, payment_method="manual", quantity=2)
    order(ada, "SKU-3", items=[{"sku": f"SKU-{number}", "quantity": number} for number in (1, 2, 3)])
    call("PATCH", f"/v1/orders/{first}", {"tags": ["VIP"]})
    until(lambda: call("GET", "/v1/orders?status=processing")["data"].__len__() == 2, "two orders in processing")
    until(lambda: call("GET", "/v1/orders?status=cancelled")["data"], "one to be declined")
    call("POST", f"/v1/orders/{first}/shipments", {"carrier": "DHL", "tracking_number": "TRACK-1"})
    until(lambda: status(first) == "shipped", "the shipment")

    page.open("orders")
    expect_rows(page, 4, 3, 2, 1)
    row = page.row("#3")
    expect(row.get_by_role("link", name="Grace Hopper")).to_have_attribute("href", f"#/customers/{grace}")
    expect(row).to_contain_text("€20.00 outstanding")
    expect(page.row("#4")).to_contain_text("and 1 other item")
    expect(page.row("#1")).to_contain_text(re.compile("ago|now|yesterday"))
    expect(page.row("#1").locator("time")).to_have_attribute("title", re.compile(r"20\d\d"))

    # The search finds by number, external id, customer, tracking number, SKU and ID.
    for word, numbers in [("2", [2]), ("#3", [3]), ("WEB-77", [1]), ("grace h", [3, 2]), ("ADA@", [4, 1]), ("track-1", [1]),
                          ("SKU-3", [4]), (first, [1]), (grace, [3, 2]), ("nothing", [])]:  # fmt: skip
        search(page, word)
        expect_rows(page, *numbers)
    expect(page.get_by_text("No orders match these filters.")).to_be_visible()
    page.button("Clear filters").click()
    expect_rows(page, 4, 3, 2, 1)

    # The tabs say how many orders they have, and keep the filters.
    for name, count, numbers in [("Pending", 1, [3]), ("Awaiting approval", 0, []), ("Processing", 1, [4]), ("Shipped", 1, [1]), ("Delivered", 0, []), ("Cancelled", 1, [2]), ("All", 4, [4, 3, 2, 1])]:  # fmt: skip
        expect(tab(page, name)).to_have_text(f"{name} {count}")
        tab(page, name).click()
        expect_rows(page, *numbers)
        expect(tab(page, name)).to_have_attribute("aria-current", "page")
    tab(page, "Processing").click()
    search(page, "ada")
    expect_rows(page, 4)
    assert page.url.endswith("#/orders?tab=processing&q=ada"), page.url
    tab(page, "Shipped").click()
    expect_rows(page, 1)

    # Filters are chips, each of which can be removed.
    page.button("Clear all").click()
    tab(page, "All").click()
    expect_rows(page, 4, 3, 2, 1)
    page.get_by_text("Filters", exact=True).click()
    page.locator("[name=payment_status]").select_option(label="Payment to record")
    expect_rows(page, 3)
    page.button("Remove filter Payment: Payment to record").click()
    expect_rows(page, 4, 3, 2, 1)
    page.locator("[name=tag]").fill("vip")
    page.locator("[name=sku]").fill("SKU-1")
    page.button("Apply").click()
    expect_rows(page, 1)
    assert "sku=SKU-1&tag=vip" in page.url, page.url
    page.reload()
    expect_rows(page, 1)
    expect(page.button("Remove filter Tag: vip")).to_be_visible()
    page.button("Remove filter Tag: vip").click()
    expect_rows(page, 4, 3, 1)
    expect(tab(page, "All")).to_have_text("All 3")
    page.go_back()
    expect_rows(page, 1)
    page.button("Clear all").click()
    expect_rows(page, 4, 3, 2, 1)
    page.get_by_text("Filters", exact=True).click()
    tomorrow = (datetime.now() + timedelta(days=1)).strftime("%Y-%m-%d")
    today = datetime.now().strftime("%Y-%m-%d")
    page.locator("[name=from]").fill(tomorrow)
    expect_rows(page)
    page.locator("[name=from]").fill(today)
    page.locator("[name=to]").fill(today)
    expect_rows(page, 4, 3, 2, 1)
    page.locator("[name=storefront]").fill("other")
    page.locator("[name=storefront]").press("Enter")
    expect_rows(page)
    page.button("Clear all").click()

    # The header of the column turns the order around.
    header = page.get_by_role("columnheader", name="Placed")
    expect(header).to_have_attribute("aria-sort", "descending")
    header.get_by_role("button").click()
    expect_rows(page, 1, 2, 3, 4)
    expect(page.get_by_role("columnheader", name="Placed")).to_have_attribute("aria-sort", "ascending")
    assert page.url.endswith("#/orders?sort=created_at"), page.url

    # Deleted orders are listed on request, with the name of an erased customer.
    call("DELETE", f"/v1/orders/{call('GET', '/v1/orders?status=cancelled')['data'][0]['id']}")
    page.get_by_label("Include deleted").check()
    expect(page.row("#2")).to_contain_text("(deleted)")
    page.open("orders?status=cancelled")
    expect(page.get_by_text("No orders match these filters.")).to_be_visible()
    page.open(f"orders?customer_id={grace}")
    expect(page.button("Remove filter Customer: Grace Hopper")).to_be_visible()
    page.assert_no_errors()


def import_lines(lines):
    data = "\n".join(json.dumps(line) for line in lines).encode()
    request = urllib.request.Request(f"{base}/v1/orders/import", method="POST", data=data)
    request.add_header("Content-Type", "application/x-ndjson")
    with urllib.request.urlopen(request) as answer:
        report = json.load(answer)
    assert report["accepted"] == len(lines), report


def import_orders(customer, count, prefix="x"):
    import_lines([{"external_id": f"{prefix}-{number}", "customer_id": customer, "items": [{"sku": "SKU-1", "quantity": 1}]} for number in range(count)])


def stay(browser):
    """More than 200 loaded orders stay when others change, and a changed order is highlighted."""
    customer = catalogue(stock=500)
    import_orders(customer, 260)
    page = Page(browser).open("orders")
    for count in (50, 100, 150, 200, 250):
        expect(page.locator("tbody tr")).to_have_count(count)
        page.button("Load more").click()
    expect(page.locator("tbody tr")).to_have_count(260)
    page.get_by_label("Select order 1", exact=True).check()
    first = call("GET", "/v1/orders?number=1")["data"][0]["id"]
    call("PATCH", f"/v1/orders/{first}", {"tags": ["seen"]})
    # A row beyond the first 200 changes in place, stays selected, and is highlighted.
    row = page.locator(f"tr[data-key='{first}']")
    expect(row).to_contain_text("seen")
    expect(row).to_have_class(re.compile("fresh"))
    expect(page.get_by_label("Select order 1", exact=True)).to_be_checked()
    expect(page.locator("tbody tr")).to_have_count(260)
    order(customer, "SKU-2")
    expect(page.row("#261")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(260)
    page.assert_no_errors()


def bulk(browser):
    """Selection and the actions on several orders; each failure says why."""
    customer = catalogue()
    ids = [order(customer, quantity=number)["id"] for number in (1, 2, 3, 4)]
    page = Page(browser).open("orders")
    expect(tab(page, "Awaiting approval")).to_have_text("Awaiting approval 4")
    everything = page.get_by_label("Select all listed orders")
    page.get_by_label("Select order 1").check()
    assert everything.evaluate("(box) => box.indeterminate")
    expect(page.get_by_text("1 order selected")).to_be_visible()
    everything.check()
    expect(page.get_by_text("4 orders selected")).to_be_visible()
    page.get_by_label("Select order 4").uncheck()
    assert everything.evaluate("(box) => box.indeterminate && !box.checked")
    region = page.get_by_role("region", name="Selected orders")
    region.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog")).to_contain_text("Approve 3 orders?")
    page.confirm("Approve")
    expect(page.get_by_text("3 orders approved.")).to_be_visible()
    until(lambda: all(status(id) == "processing" for id in ids[:3]), "three to be approved")
    expect(page.row("#1")).to_contain_text("processing")
    expect(tab(page, "Awaiting approval")).to_have_text("Awaiting approval 1")

    # An action says to how many of the selected orders it does not apply.
    page.get_by_label("Select order 4").check()
    region.get_by_role("button", name="Add tag").click()
    page.confirm("Add tag", tag="october")
    expect(page.get_by_text("4 orders tagged.")).to_be_visible()
    expect(page.row("#4")).to_contain_text("october")
    assert all(call("GET", f"/v1/orders/{id}")["tags"] == ["october"] for id in ids)
    until(lambda: all(call("GET", f"/v1/orders/{id}")["shipments"] for id in ids[:3]), "the labels")
    region.get_by_role("button", name="Ship", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Ship 3 orders?")
    expect(dialog).to_contain_text("1 selected order is left as it is")
    # While the dialog is open, an order is cancelled: it fails alone, with the reason.
    call("POST", f"/v1/orders/{ids[1]}/cancel", {})
    page.confirm("Ship", carrier="DHL")
    failures = page.get_by_role("dialog")
    expect(failures).to_contain_text("1 order failed")
    expect(failures).to_contain_text("#2")
    expect(failures).to_contain_text("cancelled")
    expect(page.get_by_text("2 orders shipped.")).to_be_visible()
    failures.get_by_role("button", name="Close").click()
    until(lambda: status(ids[0]) == status(ids[2]) == "shipped", "two to be shipped")
    shipments = call("GET", f"/v1/orders/{ids[0]}")["shipments"]
    assert [shipment["carrier"] for shipment in shipments] == ["DHL"], shipments

    expect(page.row("#1")).to_contain_text("shipped")
    region.get_by_role("button", name="Cancel orders").click()
    expect(page.get_by_role("dialog")).to_contain_text("Cancel 1 order?")
    page.confirm("Cancel orders", reason="out of season")
    expect(page.get_by_text("1 order cancelled.")).to_be_visible()
    until(lambda: status(ids[3]) == "cancelled", "one to be cancelled")
    expect(page.row("#4")).to_contain_text("cancelled")
    region.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("None of the selected orders awaits approval.")).to_be_visible()
    page.button("Clear selection").click()
    expect(region).to_have_count(0)
    page.assert_no_errors()


def download(page, button):
    with page.expect_download() as started:
        page.button(button).click()
    text = Path(started.value.path()).read_bytes().decode("utf-8")
    assert text.startswith("\ufeff") and text.endswith("\r\n"), text[:40]
    return started.value.suggested_filename, list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def export(browser):
    """CSV of the selection and of all orders that match; no text is a formula, and amounts are decimals."""
    customer = catalogue(stock=500)
    call("POST", "/v1/products", {"sku": "YEN", "name": "a \"quoted\", name", "price": 1234, "currency": "JPY"})
    call("PUT", "/v1/products/YEN/stock/berlin", {"on_hand": 5})
    names = ["=HYPERLINK(\"http://example.com\")", "+1", "-1", "@SUM(A1)", "Ada; Ö", HOSTILE]
    for number, name in enumerate(names):
        named = customer_named(name, "a@example.com")
        import_lines([{"external_id": f"{name[:9]}|{number}", "customer_id": named, "items": [{"sku": "SKU-1", "quantity": 1}]}])
    order(customer, "YEN", 2)
    page = Page(browser).open("orders")
    page.get_by_label("Select order 7").check()
    page.get_by_label("Select order 1", exact=True).check()
    name, rows = download(page, "Export selected")
    assert re.fullmatch(r"orders-\d{4}-\d\d-\d\d\.csv", name), name
    assert [row["number"] for row in rows] == ["7", "1"], rows
    yen, euro = rows
    assert (yen["total"], yen["currency"], yen["quantity"]) == ("2468", "JPY", "2"), yen
    assert yen["items"] == "2 × YEN a \"quoted\", name", yen
    assert (euro["total"], euro["currency"], euro["captured"]) == ("10.00", "EUR", "0.00"), euro
    assert datetime.fromisoformat(euro["created_at"]).utcoffset() == timedelta(0), euro
    assert (euro["status"], euro["awaits_approval"]) == ("pending", "true"), euro

    import_orders(customer, 260)
    page.open("orders?tab=pending")
    expect(tab(page, "Pending")).to_have_text("Pending 267")
    _, rows = download(page, "Export CSV")
    assert len(rows) == 267, len(rows)
    by_number = {int(row["number"]): row for row in rows}
    for number, text in enumerate(names, 1):
        assert by_number[number]["customer_name"] == (f"'{text}" if text[0] in "=+-@" else text), by_number[number]
        assert not by_number[number]["external_id"].startswith(tuple("=+-@")), by_number[number]
    page.open(f"orders?customer_id={customer}&sort=created_at")
    _, rows = download(page, "Export CSV")
    assert [int(row["number"]) for row in rows] == list(range(7, 268)), rows[:3]

    # The export can be stopped; then nothing is saved.
    page.route("**/v1/orders?*cursor=*", lambda route: None)
    page.open("orders")
    expect(tab(page, "All")).to_have_text("All 267")
    page.button("Export CSV").click()
    expect(page.get_by_role("dialog")).to_contain_text("200 of 267")
    page.button("Stop").click()
    expect(page.get_by_text("Export stopped. Nothing was saved.")).to_be_visible()
    page.assert_no_errors()


def keys_alone(browser):
    """Orders are found, selected, approved and opened with the keyboard alone."""
    customer = catalogue()
    for number in (1, 2, 3):
        order(customer, quantity=number)
    page = Page(browser).open("orders")
    expect_rows(page, 3, 2, 1)
    focused = lambda: page.evaluate("document.activeElement.textContent")  # noqa: E731
    press = page.keyboard.press
    for key, text in [("j", "#3"), ("j", "#2"), ("ArrowDown", "#1"), ("j", "#1"), ("k", "#2"), ("ArrowUp", "#3")]:
        press(key)
        assert focused() == text, (key, focused())
    press("x")
    press("j")
    press("x")
    expect(page.get_by_text("2 orders selected")).to_be_visible()
    press("x")
    expect(page.get_by_text("1 order selected")).to_be_visible()
    assert focused() == "#2", focused()
    # The search, and its way back to the list. What one types there is no shortcut.
    press("/")
    page.keyboard.type("jxn#1")
    expect(page.locator("#search")).to_have_value("jxn#1")
    page.locator("#search").fill("#1")
    press("Enter")
    expect_rows(page, 1)
    press("Tab")
    for _ in range(40):
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Select order 1":
            break
        press("Tab")
    press("Space")
    expect(page.get_by_text("1 order selected")).to_be_visible()
    for _ in range(40):
        if focused() == "Approve":
            break
        press("Shift+Tab")
    press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Approve 1 order?")
    # Shortcuts have no effect while a dialog is open.
    press("n")
    expect(page.get_by_role("dialog")).to_be_visible()
    for _ in range(10):
        if focused() == "Approve":
            break
        press("Tab")
    press("Enter")
    expect(page.get_by_text("1 order approved.")).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    press("j")
    assert focused() == "#1", focused()
    press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("#1")
    page.open("orders")
    expect_rows(page, 3, 2, 1)
    page.evaluate("document.activeElement.blur()")
    press("?")
    shortcuts = page.get_by_role("dialog")
    expect(shortcuts).to_contain_text("Select the order")
    shortcuts.get_by_role("button", name="Close").click()
    expect(shortcuts).to_have_count(0)
    press("n")
    expect(page.get_by_role("heading", level=1)).to_have_text("New order")
    page.assert_no_errors()


def of_storefront(browser):
    """A storefront sees neither the filters nor the actions of operators."""
    operator, storefront = keys
    catalogue()
    customer = call("POST", "/v1/customers", {"name": "Ada", "email": "ada@example.com"}, key=storefront)["id"]
    call("POST", "/v1/orders", {"customer_id": customer, "items": [{"sku": "SKU-1", "quantity": 1}]}, key=storefront)
    page = Page(browser)
    page.goto("/#/orders?tab=pending&tag=vip&storefront=us")
    page.get_by_label("API key or token").fill(storefront)
    page.button("Log in").click()
    expect_rows(page, 1)
    expect(tab(page, "Pending")).to_have_text("Pending 1")
    expect(page.get_by_role("button", name=re.compile("Process all|Reset state|Remove filter"))).to_have_count(0)
    page.get_by_text("Filters", exact=True).click()
    expect(page.locator("[name=sku]")).to_be_visible()
    expect(page.locator("[name=tag], [name=storefront], [name=include_deleted]")).to_have_count(0)
    page.get_by_label("Select order 1").check()
    region = page.get_by_role("region", name="Selected orders")
    expect(region.get_by_role("button")).to_have_text(["Cancel orders", "Export selected", "Clear selection"])
    region.get_by_role("button", name="Cancel orders").click()
    page.confirm("Cancel orders")
    expect(page.get_by_text("1 order cancelled.")).to_be_visible()
    page.assert_no_errors()


def list_looks(browser):
    """axe-core finds no issues in the states of the list: light, dark and on a phone."""
    views = {
        "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 850}},
        "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 850}},
        "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    }
    pages = {name: Page(browser, **options) for name, options in views.items()}
    for name, page in pages.items():
        check_accessibility(page.open("orders"), f"no orders, {name}")
        check_accessibility(page.open("orders?tab=shipped&tag=vip"), f"nothing found, {name}")
    customer = catalogue()
    order(customer, payment_method="manual", items=[{"sku": f"SKU-{number}", "quantity": number} for number in (1, 2, 3)])
    order(customer, "SKU-2")
    for name, page in pages.items():
        page.open("orders?from=2026-01-01&payment_status=outstanding&sort=created_at")
        page.get_by_text("Filters", exact=True).click()
        page.get_by_label("Select all listed orders").check()
        check_accessibility(page, f"selection, {name}")
        page.button("Cancel orders").click()
        check_accessibility(page, f"bulk action, {name}")
        page.get_by_role("dialog").get_by_role("button", name="Back").click()
        # The progress of an action, and what failed.
        waiting = []
        page.route("**/v1/orders/*", lambda route: waiting.append(route) if route.request.method == "PATCH" else route.continue_())
        page.button("Add tag").click()
        page.confirm("Add tag", tag="x")
        expect(page.get_by_role("dialog")).to_contain_text("0 of 1")
        check_accessibility(page, f"progress, {name}")
        until(lambda: waiting or page.wait_for_timeout(20), "the request")
        waiting.pop().fulfill(status=409, content_type="application/problem+json", body='{"detail": "not now", "request_id": "r-1"}')
        expect(page.get_by_role("dialog")).to_contain_text("1 order failed")
        expect(page.get_by_role("dialog")).to_contain_text("not now")
        check_accessibility(page, f"failures, {name}")
        page.button("Close").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.assert_no_errors()


def many(browser):
    """The list stays usable with a hundred thousand orders and customers while more are imported."""
    customer = catalogue(stock=200_000)
    page = Page(browser).open("orders")
    expect(page.locator("#live")).to_have_text("live")
    import_orders(customer, 100_000)
    # The list was open during the import and is up to date; the tabs count up to a limit.
    expect(page.row("#100000")).to_be_visible()
    expect(tab(page, "All")).to_have_text("All 10,000+")
    expect(page.locator("tbody tr")).to_have_count(50)
    for count in (100, 150, 200, 250):
        page.button("Load more").click()
        expect(page.locator("tbody tr")).to_have_count(count)
    newcomer = call("GET", "/v1/customers?email=c4242@example.com")["data"][0]["id"]
    order(newcomer)
    for word, number in [("50000", "#50000"), ("#1", "#1"), ("Customer 4242", "#100001"), ("c4242@", "#100001")]:
        search(page, word)
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.row(number)).to_be_visible()
    page.open("orders?tab=awaiting_approval")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.open("orders?q=%231")
    page.get_by_role("link", name="#1", exact=True).click()
    page.button("Approve").click()
    page.confirm("Approve")
    expect(page.get_by_role("heading", level=1)).to_contain_text("processing")
    page.open("orders?tab=processing")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(tab(page, "Processing")).to_have_text("Processing 1")
    page.open("orders?q=SKU-1&tab=pending")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.open("orders")
    import_orders(customer, 1000, prefix="y")
    expect(page.row("#101001")).to_be_visible()
    page.open("dashboard")
    expect(page.get_by_text(re.compile("^101,?001$"))).to_be_visible(timeout=60_000)
    page.assert_no_errors()


run(globals())
