"""Browser tests of the console: console.py SCENARIO BASE FOLDER [KEY…].

A scenario is a function of this file. With SCREENSHOTS=FOLDER the scenario "looks" saves a screenshot of each screen.
"""

import json
import os
import re
import urllib.request
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from console_driver import HOSTILE, SCREENS, Page, base, call, catalogue, folder, keys, order, pick, png, run, settled, shows_idle_order, status, until, upload, wait_for_photos
from playwright.sync_api import expect


def messages(browser):
    """The messages of an order, with the reason why one was not sent, and its button to resend it."""
    customer = catalogue()
    id = order(customer)["id"]
    call("POST", f"/v1/customers/{customer}/block", {})
    call("POST", f"/v1/orders/{id}/approve", {})
    page = Page(browser).open(f"orders/{id}")
    card = page.get_by_role("region", name="Messages")
    expect(card).to_contain_text("the customer is blocked")
    expect(card).to_contain_text("order confirmed")
    call("POST", f"/v1/customers/{customer}/unblock", {})
    card.get_by_role("button", name="Resend").click()
    page.confirm("Resend")
    expect(card).to_contain_text("pending")
    expect(card.get_by_role("button", name="Resend")).to_have_count(0)
    found = Axe().run(page.page)
    assert found.violations_count == 0, found.generate_report()
    page.assert_no_errors()


def live(browser):
    """A change in one window appears in the other without a reload."""
    here, there = Page(browser), Page(browser)
    here.open("orders")
    expect(here.get_by_text("No orders yet.")).to_be_visible()
    here.open("new")
    expect(here.get_by_text("To place an order, first create")).to_be_visible()
    customer = catalogue()
    there.open("orders")
    expect(there.locator("#live")).to_have_text("live")
    here.open("orders").open("new")
    pick(here, "Customer", "Ada")
    pick(here, "Product 1", "SKU-1")
    here.get_by_label("Quantity").fill("2")
    expect(here.locator("#curl")).to_contain_text('"quantity":2')
    expect(here.locator("#total")).to_contain_text("20.00")
    here.locator("[name=city]").fill("Berlin")
    here.button("Place order").click()
    expect(here.get_by_role("heading", level=1)).to_contain_text("Order #1")
    # The other window shows the order and follows its changes.
    expect(there.row("#1")).to_contain_text("2 × Thing 1")
    expect(there.row("#1")).to_contain_text("processing")
    id = here.url.split("/")[-1]
    expect(here.get_by_text("label created")).to_be_visible()
    expect(here.locator(".timeline")).to_contain_text("Payment authorized")
    expect(here.get_by_text("Berlin", exact=True)).to_be_visible()
    there.get_by_role("link", name="#1", exact=True).click()
    there.button("Cancel order").click()
    expect(there.get_by_role("dialog")).to_contain_text("the payment authorization is voided")
    there.get_by_role("dialog").locator("[name=reason]").fill("changed my mind")
    there.confirm("Cancel order")
    expect(here.get_by_role("heading", level=1)).to_contain_text("cancelled")
    expect(here.get_by_text("changed my mind").first).to_be_visible()
    expect(here.get_by_text("console.cancel").first).to_be_attached()
    expect(here.get_by_role("button", name="Cancel order")).to_have_count(0)
    assert status(id) == "cancelled"
    # The order changed while the dialog was open: the action is refused with an explanation.
    other = order(customer)["id"]
    here.open(f"orders/{other}")
    expect(here.get_by_text("label created")).to_be_visible()
    here.button("Ship").click()
    call("POST", f"/v1/orders/{other}/cancel", {})
    here.get_by_role("dialog").get_by_role("button", name="Ship").click()
    expect(here.get_by_role("dialog")).to_contain_text("Changed in the meantime")
    here.get_by_role("dialog").get_by_role("button", name="Back", exact=True).click()
    expect(here.get_by_role("heading", level=1)).to_contain_text("cancelled")
    # Search by number, ID, customer ID and SKU.
    here.open("orders")
    for word, count in [("1", 1), ("#2", 1), (id, 1), (customer, 2), ("SKU-1", 2), ("SKU-9", 0)]:
        here.locator("#search").fill(word)
        here.button("Search").click()
        expect(here.locator("tbody tr")).to_have_count(count)
    expect(here.get_by_text("No orders match these filters.")).to_be_visible()
    here.button("Clear filters").click()
    here.get_by_role("link", name=re.compile("^Processing")).click()
    expect(here.get_by_text("No orders match these filters.")).to_be_visible()
    # Paging.
    for _ in range(55):
        order(customer, "SKU-2", payment_method="pm_declined")
    until(lambda: call("GET", "/v1/orders?status=pending")["data"] == [], "all to be declined")
    here.open("orders?status=cancelled")
    expect(here.locator("tbody tr")).to_have_count(50)
    here.button("Load more").click()
    expect(here.locator("tbody tr")).to_have_count(57)
    here.assert_no_errors()
    there.assert_no_errors()


def operate(browser):
    """All actions on orders, with manual approval."""
    customer = catalogue()
    page = Page(browser)
    ids = [order(customer, quantity=number)["id"] for number in (1, 2, 3, 4)]
    page.open("orders")
    expect(page.locator("tbody .badge").get_by_text("awaiting approval")).to_have_count(4)
    page.get_by_label("Select order 1").check()
    page.get_by_label("Select order 2").check()
    page.get_by_role("region", name="Selected orders").get_by_role("button", name="Approve").click()
    page.confirm("Approve")
    until(lambda: status(ids[0]) == status(ids[1]) == "processing", "two to be approved")
    page.open(f"orders/{ids[2]}")
    page.button("Reject").click()
    page.confirm("Reject", reason="not to this country")
    expect(page.get_by_text("Cancelled: rejected")).to_be_visible()
    page.open("orders")
    page.button("Process all").click()
    expect(page.get_by_role("dialog")).to_contain_text("every order that awaits approval")
    page.confirm("Process all")
    expect(page.get_by_text("1 order approved.")).to_be_visible()
    until(lambda: status(ids[3]) == "processing", "the last to be approved")
    # Edit: a product and a shipping charge are added, then the product is removed.
    page.open(f"orders/{ids[0]}")
    shows_idle_order(page, ids[0], 1000)
    page.button("Edit order").click()
    pick(page, "Add product", "SKU-2")
    page.confirm("Save", quantity=2, shipping="5.00", reason="the customer wants more")
    shows_idle_order(page, ids[0], 5500)
    expect(page.get_by_role("row").filter(has_text="SKU-2").first).to_contain_text("20.00")
    page.button("Edit order").click()
    page.get_by_role("dialog").get_by_label("New quantity of Thing 2").fill("0")
    page.confirm("Save", shipping="")
    shows_idle_order(page, ids[0], 1000)
    # Ship, refund, delete and restore. Shipping without payment needs a second confirmation.
    page.open(f"orders/{ids[3]}")
    expect(page.get_by_text("label created")).to_be_visible()
    page.button("Ship").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Ship without payment").check()
    dialog.get_by_role("button", name="Ship", exact=True).click()
    confirmation = page.locator("dialog").last
    expect(confirmation).to_contain_text("the shop is not paid")
    confirmation.get_by_role("button", name="Back", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("was not confirmed")
    dialog.get_by_role("button", name="Ship", exact=True).click()
    confirmation.get_by_role("button", name="Ship without payment").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("shipped")
    page.open(f"orders/{ids[1]}")
    expect(page.get_by_text("label created")).to_be_visible()
    page.button("Ship").click()
    tracking_url = "https://track.example.com/T-1"
    page.confirm("Ship", carrier="DHL", tracking_number="T-1", tracking_url=tracking_url)
    expect(page.get_by_role("row").filter(has_text="T-1").first).to_contain_text("DHL")
    expect(page.get_by_role("link", name="T-1", exact=True)).to_have_attribute("href", tracking_url)
    page.button("Refund …").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("[name=amount]").fill("15")
    page.confirm("Refund", reason="one was broken")
    expect(page.locator(".statuses")).to_contain_text("partially refunded")
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    page.open(f"orders/{ids[2]}")
    page.button("Delete").click()
    page.confirm("Delete")
    expect(page.get_by_role("heading", level=1)).to_contain_text("deleted")
    page.button("Restore").click()
    page.confirm("Restore")
    expect(page.button("Delete")).to_be_visible()
    # Reset, which only demo mode allows.
    page.open("orders")
    page.button("Reset state").click()
    expect(page.get_by_role("dialog")).to_contain_text("permanently deleted")
    page.confirm("Delete all orders")
    expect(page.get_by_text("No orders yet.")).to_be_visible()
    page.assert_no_errors()


def edit(browser):
    """Address, note and tags of an order, and the list of orders with a tag."""
    customer = catalogue()
    page = Page(browser)
    address = {"name": "Ada", "line1": "Main Street 1", "line2": "c/o King", "city": "Berlin"}
    id = order(customer, shipping_address=address)["id"]
    order(customer, "SKU-2")
    page.open(f"orders/{id}")
    expect(page.get_by_text("label created")).to_be_visible()
    page.button("Edit shipping address").click()
    expect(page.get_by_role("dialog")).to_contain_text("a new one is requested for the new address")
    expect(page.get_by_role("dialog").locator("[name=line2]")).to_have_value("c/o King")
    page.confirm("Save", city="Cologne", line2="")
    expect(page.get_by_text("Cologne", exact=True)).to_be_visible()
    expect(page.get_by_text("c/o King", exact=True)).to_have_count(0)
    expect(page.locator("tbody").filter(has_text="label created")).to_contain_text("cancelled")
    changed = call("GET", f"/v1/orders/{id}")
    assert changed["shipping_address"] == {"name": "Ada", "line1": "Main Street 1", "city": "Cologne"}, changed
    settled(page, id)
    note = f"{HOSTILE}\ndeliver after 5 pm"
    page.get_by_label("Note").fill(note)
    page.button("Save note").click()
    expect(page.get_by_text("Note saved.")).to_be_visible()
    page.button("Edit tags").click()
    page.confirm("Save", tags="VIP, gift ,vip")
    expect(page.get_by_role("link", name="gift", exact=True)).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value(note)
    assert call("GET", f"/v1/orders/{id}")["note"] == note
    page.get_by_role("link", name="VIP", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.row("#1")).to_contain_text("gift")
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Tag", exact=True).fill("none")
    page.button("Apply").click()
    expect(page.get_by_text("No orders match these filters.")).to_be_visible()
    page.get_by_label("Tag", exact=True).fill("GIFT")
    page.button("Apply").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.open(f"orders/{id}")
    settled(page, id)
    page.button("Edit tags").click()
    page.confirm("Save", tags="")
    expect(page.get_by_text("No tags.")).to_be_visible()
    page.get_by_label("Note").fill("")
    page.button("Save note").click()
    until(lambda: "note" not in call("GET", f"/v1/orders/{id}"), "the note to be removed")
    assert page.evaluate("window.hacked") is None
    page.assert_no_errors()


def paid_manually(browser):
    """Payments in parts and refunds that an operator records."""
    customer = catalogue()
    page = Page(browser)
    id = order(customer, quantity=2, payment_method="manual")["id"]
    page.open(f"orders/{id}")
    expect(page.locator(".totals")).to_contain_text("Outstanding€20.00")
    page.button("Record payment").click()
    expect(page.get_by_role("dialog").locator("[name=amount]")).to_have_value("20.00")
    page.confirm("Record payment", amount="5.00", reference="transfer 1")
    expect(page.row("transfer 1").first).to_contain_text("success")
    page.button("Record payment").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("[name=amount]")).to_have_value("15.00")
    dialog.locator("[name=amount]").fill("16.00")
    dialog.get_by_role("button", name="Record payment").click()
    expect(dialog.get_by_role("alert")).to_contain_text("only 1500 are outstanding")
    page.confirm("Record payment", amount="15.00")
    expect(page.get_by_text("label created")).to_be_visible()
    assert status(id) == "processing"
    expect(page.get_by_role("button", name="Record payment")).to_have_count(0)
    page.button("Cancel order").click()
    expect(page.get_by_role("dialog")).to_contain_text("to be paid back")
    page.confirm("Cancel order")
    notice = page.get_by_role("region", name="Needs attention")
    expect(notice).to_contain_text("Refund to the customer failed permanently")
    expect(notice).to_contain_text("pay the customer back")
    page.open("failures")
    expect(page.get_by_text("to be paid back by hand").first).to_be_visible()
    page.open(f"orders/{id}")
    page.button("Record refund").click()
    expect(page.get_by_role("dialog").locator("[name=amount]")).to_have_value("20.00")
    page.confirm("Record refund", reference="back 1", reason="changed my mind")
    expect(page.row("back 1").first).to_contain_text("refund")
    expect(page.get_by_role("button", name="Record refund")).to_have_count(0)
    expect(notice).not_to_contain_text("Refund to the customer")
    assert call("GET", "/v1/dead-letters")["data"] == []
    page.assert_no_errors()


def enter(browser):
    """Login, the rights of each role, and the protection of the session."""
    operator, storefront = keys
    page = Page(browser)
    page.goto("/")
    page.get_by_label("API key or token").fill("not-a-valid-key")
    page.button("Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("the credential is not known")
    page.get_by_label("API key or token").fill(storefront)
    page.button("Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")
    expect(page.locator("#who")).to_contain_text("storefront@eu")
    # The actions of operators are missing.
    expect(page.get_by_role("link", name="Failures")).to_have_count(0)
    page.open("orders")
    expect(page.get_by_role("button", name="Process all")).to_have_count(0)
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and storefront not in cookie["value"], cookie
    # Another site cannot use the session.
    answer = page.context.request.post(f"{base}/v1/customers", data={"name": "Eve", "email": "eve@example.com"})
    assert answer.status == 403, answer.status
    page.open("customers")
    page.button("New customer").click()
    page.confirm("Create", name="Ada", email="ada@example.com")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Ada")
    page.open("dashboard")
    expect(page.get_by_text("Health")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")
    page.locator(".account-menu summary").click()
    page.button("Log out").click()
    expect(page.button("Log in")).to_be_visible()
    page.get_by_label("API key or token").fill(operator)
    page.get_by_label("API key or token").press("Enter")
    expect(page.get_by_role("link", name="Failures")).to_be_visible()
    page.open("dashboard")
    expect(page.get_by_text("Health")).to_be_visible()
    page.assert_no_errors()


def outage(browser):
    """The worker is killed and restarted."""
    customer = catalogue()
    id = order(customer)["id"]
    page, other = Page(browser), Page(browser)
    page.open("orders")
    other.open(f"orders/{id}")
    expect(page.row("#1")).to_contain_text("processing")
    Path(folder, "kill").touch()
    for one in (page, other):
        expect(one.locator("#connection")).to_contain_text("not responding", timeout=40_000)
    other.button("Cancel order").click()
    other.get_by_role("dialog").get_by_role("button", name="Cancel order").click()
    expect(other.get_by_role("dialog").get_by_role("alert")).to_be_visible(timeout=40_000)
    Path(folder, "restart").touch()
    for one in (page, other):
        expect(one.locator("#connection")).to_have_text("", timeout=40_000)
    dialog = other.get_by_role("dialog")
    if dialog.count():
        dialog.get_by_role("button", name="Back", exact=True).click()
    order(customer, "SKU-2")
    expect(page.row("#2")).to_be_visible()
    expect(page.row("#2")).to_contain_text("processing")


def hostile(browser):
    """Text from outside is never interpreted as HTML or script."""
    receiver = keys.pop()
    call("POST", "/v1/products", {"sku": "SKU-1", "name": HOSTILE, "price": 100, "currency": "EUR",
                                  "image_urls": ["https://example.com/x.png?\"><script>window.hacked=1</script>"]})  # fmt: skip
    call("PUT", "/v1/products/SKU-1/stock/berlin", {"on_hand": 9, "reason": HOSTILE})
    customer = call("POST", "/v1/customers", {"name": HOSTILE, "email": "\"<b>\"@example.com"})["id"]
    call("POST", "/v1/webhook-endpoints", {"url": f"{receiver}?<script>", "description": HOSTILE})
    placed = order(customer, shipping_address={"name": HOSTILE, "<b>": HOSTILE}, metadata={HOSTILE: HOSTILE})
    request = urllib.request.Request(f"{base}/v1/orders/{placed['id']}/cancel", method="POST",
                                     data=json.dumps({"reason": HOSTILE}).encode())  # fmt: skip
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {keys[0]}") if keys else None
    urllib.request.urlopen(request)
    page = Page(browser)
    page.on("dialog", lambda dialog: page.errors.append("a dialog"))
    for screen in [*SCREENS, f"orders/{placed['id']}", f"orders?customer_id={customer}", "orders?q=%3Cscript%3E", "inventory?q=%3Cscript%3E"]:
        page.open(screen)
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked") is None, screen
        assert page.evaluate("document.querySelectorAll('main script, main [onerror], main b > img').length") == 0, screen
    page.open(f"orders/{placed['id']}")
    expect(page.get_by_text("window.hacked=1").first).to_be_visible()
    page.open("new")
    for label in ("Customer", "Product 1"):
        page.get_by_role("combobox", name=label).focus()
        expect(page.locator(".choices").get_by_role("option").filter(has_text="window.hacked=1")).to_have_count(1)
    page.locator(".choices").get_by_role("option").click()
    page.get_by_text("Same request with curl").click()
    expect(page.locator("#curl")).to_be_visible()
    page.assert_no_errors()
    # Even injected HTML would be refused by the browser (trusted types).
    refused = page.evaluate("""() => { try { document.body.innerHTML = "<p>x</p>"; return false } catch { return true } }""")
    assert refused, "trusted types are not required"


def keyboard(browser):
    """An order is placed and cancelled with the keyboard alone."""
    catalogue()
    page = Page(browser)
    page.open("orders")
    page.keyboard.press("Tab")

    def tab_to(name, tag=None):
        for _ in range(60):
            focused = page.evaluate("""() => { const e = document.activeElement;
                return [e.textContent.trim() || e.getAttribute("aria-label") || e.name || "", e.tagName] }""")
            if focused[0] == name and (tag is None or focused[1] == tag):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{name} cannot be reached with the Tab key")

    page.goto("/#/orders")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    tab_to("Skip to content")
    page.keyboard.press("Enter")
    page.goto("/#/orders")
    tab_to("New order", "A")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("New order")
    for name, text in (("customer", "Ada"), ("sku", "SKU-1")):
        tab_to(name, "INPUT")
        page.keyboard.type(text)
        expect(page.locator(".choices").get_by_role("option").first).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        expect(page.locator(".choices").get_by_role("option")).to_have_count(0)
    tab_to("Place order")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Order #1")
    expect(page.get_by_text("label created")).to_be_visible()
    tab_to("Cancel order")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    # The dialog keeps the focus.
    page.keyboard.press("Tab")
    tab_to("Cancel order", "BUTTON")
    assert page.evaluate("!!document.activeElement.closest('dialog')")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    page.assert_no_errors()


def looks(browser):
    """axe-core finds no accessibility issues: light, dark and phone layouts, with and without data."""
    axe = Axe()
    pictures = os.environ.get("SCREENSHOTS")
    views = {
        "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 850}},
        "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 850}},
        "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    }
    pages = {name: Page(browser, **options) for name, options in views.items()}

    def check(name, page, screen):
        page.open(screen)
        page.wait_for_timeout(700)
        found = axe.run(page.page)
        assert found.violations_count == 0, f"{screen} {name}:\n{found.generate_report()}"
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{screen} is too wide on a {name} by {width}"

    for name, page in pages.items():
        for screen in SCREENS:
            check(name, page, screen)
    customer = catalogue()
    call("PATCH", "/v1/products/SKU-2", {"image_urls": [f"{base}/console/icon.svg"], "low_stock_at": 100})
    for color in ((190, 60, 50), (60, 90, 190)):
        upload("SKU-1", png(640, 480, color))
    call("POST", "/v1/webhook-endpoints", {"url": "https://example.com/hook", "event_types": ["order.*"]})
    address = {"name": "Ada Lovelace", "line1": "St James's Square 12", "city": "London", "country": "GB"}
    parts = {"tax_included": True, "shipping": {"label": "Standard", "amount": 490}, "discounts": [{"label": "Welcome", "code": "HELLO10", "amount": 200}],
             "items": [{"sku": "SKU-1", "quantity": 2, "taxes": [{"label": "VAT 19 %", "amount": 287}]}, {"sku": "SKU-2", "quantity": 1}]}  # fmt: skip
    placed = [order(customer, shipping_address=address, **parts)["id"]]
    placed += [order(customer, f"SKU-{number % 3 + 1}", number % 4 + 1, shipping_address=address)["id"] for number in range(1, 9)]
    call("PATCH", f"/v1/orders/{placed[0]}", {"note": "Regular customer: add a sample.", "tags": ["VIP", "gift"]})
    placed.append(order(customer, "SKU-1", payment_method="pm_declined")["id"])
    until(lambda: all(call("GET", f"/v1/orders/{id}")["in_progress"] is None for id in placed), "orders to become idle")
    for id in placed[:5]:
        call("POST", f"/v1/orders/{id}/shipments", {"carrier": "DHL", "tracking_number": f"00340434{placed.index(id)}"})
    call("POST", f"/v1/orders/{placed[0]}/returns", {"items": [{"sku": "SKU-1", "quantity": 1, "reason": "too small"}]})
    call("POST", f"/v1/orders/{placed[6]}/cancel", {"reason": "changed my mind"})
    until(lambda: call("GET", "/v1/stats")["orders"]["total"] == 10, "statistics")
    until(lambda: all(call("GET", f"/v1/orders/{id}")["in_progress"] is None for id in placed), "orders to become idle")
    for name, page in pages.items():
        for screen in [*SCREENS, "settings?tab=partners", "settings?tab=system", f"orders/{placed[0]}", f"customers/{customer}", "products/SKU-1"]:
            check(name, page, screen)
            if pictures:
                title = screen.split("/")[0][:-1] if "/" in screen else screen.replace("?tab=", "-")
                page.screenshot(path=f"{pictures}/{title}-{name}.png", full_page=name == "phone")
        page.open("products/SKU-1?tab=photos")
        wait_for_photos(page)
        if pictures:
            page.screenshot(path=f"{pictures}/product-images-{name}.png")
        page.open(f"orders/{placed[5]}")
        for button in ("Ship", "Edit order"):
            page.button(button).click()
            found = axe.run(page.page)
            assert found.violations_count == 0, found.generate_report()
            if pictures and button == "Edit order":
                page.screenshot(path=f"{pictures}/edit-{name}.png")
            page.get_by_role("dialog").get_by_role("button", name="Back", exact=True).click()
        page.assert_no_errors()
    sizes = []
    page = Page(browser)
    page.on("response", lambda answer: sizes.append(len(answer.body())) if "/console" in answer.url or answer.url.endswith("/") else None)
    page.open("orders")
    assert sum(sizes) < 150_000, sum(sizes)


run(globals())
