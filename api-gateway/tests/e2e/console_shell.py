"""Browser tests of the console's frame, dashboard and settings: console_shell.py SCENARIO BASE FOLDER [KEY…]."""

import json
import re
import urllib.request

from console_driver import SCREENS, Page, base, call, catalogue, check_accessibility, keys, order, run, status, until
from playwright.sync_api import expect

PHONE = {"viewport": {"width": 390, "height": 844}}
VIEWS = [{}, {"color_scheme": "dark"}, PHONE]
# The largest document with its scripts, styles and images that the first page may load.
MAX_FIRST_PAGE = 150_000


def log_in(page, key):
    page.goto("/")
    page.get_by_label("API key or token").fill(key)
    page.button("Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")


def frame(browser):
    """Navigation by role, search, keyboard shortcuts, account menu, language, and the phone's menu."""
    admin, operator, storefront = keys
    customer = catalogue()
    placed = order(customer)
    page = Page(browser)
    log_in(page, admin)
    assert page.title() == "Dashboard – Orderwright", page.title()
    navigation = page.get_by_role("navigation", name="Main navigation")
    for name in ("Dashboard", "Orders", "Returns", "Customers", "Webhooks", "Keys", "Failures", "Settings"):
        expect(navigation.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(navigation.get_by_role("link", name="Dashboard")).to_have_attribute("aria-current", "page")
    expect(page.get_by_text("Times in")).to_contain_text(page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone"))
    expect(page.locator("#live")).to_have_text("live")
    # The search leads to the list of orders: an order is found by its customer's name.
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("ada love")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"#/orders\?q="))
    expect(page.row(f"#{placed['number']}")).to_be_visible()
    page.get_by_role("link", name=f"#{placed['number']}", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"#{placed['number']}")
    # Keys open screens, but not while a person types.
    page.locator("#main").focus()
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Customers")
    page.keyboard.press("/")
    page.keyboard.type("go?n")
    expect(page.get_by_role("heading", level=1)).to_have_text("Customers")
    # A screen with a search of its own gets the key.
    expect(page.locator("main input:focus")).to_have_value("go?n")
    page.locator("#main").focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Keyboard shortcuts")
    expect(dialog).to_contain_text("Find orders")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    # Language: the page loads again, and the choice stays.
    page.locator(".account-menu summary").click()
    check_accessibility(page, "account menu")
    page.button("Deutsch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kunden")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.locator(".account-menu summary").click()
    page.button("English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Customers")
    # Log out, and the other roles.
    page.locator(".account-menu summary").click()
    page.button("Log out").click()
    expect(page.button("Log in")).to_be_visible()
    expect(navigation).to_be_hidden()
    log_in(page, operator)
    expect(navigation.get_by_role("link", name="Keys", exact=True)).to_have_count(0)
    expect(navigation.get_by_role("link", name="Settings", exact=True)).to_be_visible()
    page.locator(".account-menu summary").click()
    page.button("Log out").click()
    log_in(page, storefront)
    expect(navigation.get_by_role("link", name="Settings", exact=True)).to_have_count(0)
    expect(page.get_by_role("region", name="Needs attention")).to_have_count(0)
    expect(page.get_by_text("Health")).to_have_count(0)
    expect(page.get_by_role("heading", name="No orders yet")).to_be_visible()
    page.assert_no_errors()
    # On a phone the navigation is behind a button.
    phone = Page(browser, **PHONE)
    log_in(phone, admin)
    phone_navigation = phone.get_by_role("navigation", name="Main navigation")
    expect(phone_navigation).to_be_hidden()
    phone.button("Menu").click()
    expect(phone.button("Menu")).to_have_attribute("aria-expanded", "true")
    check_accessibility(phone, "menu of the phone")
    phone_navigation.get_by_role("link", name="Orders", exact=True).click()
    expect(phone.get_by_role("heading", level=1)).to_have_text("Orders")
    expect(phone_navigation).to_be_hidden()
    phone.assert_no_errors()


def figure(page, title):
    return page.get_by_role("region", name=title, exact=True)


def dashboard(browser):
    """Figures of a period, charts with the keyboard, and work to do."""
    page = Page(browser)
    page.open("dashboard")
    expect(page.get_by_role("heading", name="No orders yet")).to_be_visible()
    expect(page.get_by_text("Nothing needs your attention.")).to_be_visible()
    expect(page.get_by_text("All systems work")).to_be_visible()
    customer = catalogue()
    call("PATCH", "/v1/products/SKU-2", {"low_stock_at": 100})
    ids = [order(customer, quantity=quantity)["id"] for quantity in (1, 2, 3)]
    order(customer, payment_method="manual")
    work = page.get_by_role("region", name="Needs attention")
    # The page follows the events without a reload.
    expect(work).to_contain_text("4 orders to approve")
    expect(work).to_contain_text("1 payment to record")
    expect(work).to_contain_text("1 product low on stock")
    # Each number leads to the list of exactly these.
    for title, path, rows in [("4 orders to approve", "#/orders?tab=awaiting_approval", 4), ("1 payment to record", "#/orders?payment=outstanding", 1),
                              ("1 product low on stock", "#/products?low_stock=true", 1)]:  # fmt: skip
        link = work.get_by_role("link", name=title)
        expect(link).to_have_attribute("href", path)
        link.click()
        expect(page.locator("main tbody tr")).to_have_count(rows)
        page.open("dashboard")
    call("POST", f"/v1/orders/{ids[0]}/approve", {})
    until(lambda: call("GET", f"/v1/orders/{ids[0]}")["shipments"], "the label")
    call("POST", f"/v1/orders/{ids[0]}/shipments", {})
    until(lambda: call("GET", f"/v1/orders/{ids[0]}")["payment"]["captured"] == 1000, "the capture")
    call("POST", f"/v1/orders/{ids[0]}/refunds", {"amount": 250})
    call("POST", f"/v1/orders/{ids[0]}/returns", {"items": [{"sku": "SKU-1", "quantity": 1}]})
    until(lambda: call("GET", f"/v1/orders/{ids[0]}")["payment"]["refunded"] == 250, "the refund")
    work.get_by_role("link", name="1 return to approve or reject").click()
    page.wait_for_url(re.compile(r"#/returns\?status=requested"))
    expect(page.locator("main tbody tr")).to_have_count(1)
    page.open("dashboard")
    expect(work).to_contain_text("3 orders to approve")
    expect(figure(page, "Orders")).to_contain_text("4")
    expect(figure(page, "Revenue")).to_contain_text("€10.00")
    expect(figure(page, "Refunds")).to_contain_text("€2.50")
    expect(figure(page, "Average order value")).to_contain_text("€17.50")
    expect(figure(page, "Orders")).to_contain_text("no comparison")
    # The chart is read with the keyboard: the last day first.
    chart = page.get_by_role("group", name=re.compile("^Orders by day"))
    chart.get_by_role("img").last.focus()
    expect(page.locator(".tooltip:visible")).to_contain_text("placed: 4")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".tooltip:visible")).to_contain_text("placed: 0")
    page.keyboard.press("Home")
    expect(chart.get_by_role("img").first).to_be_focused()
    expect(chart.locator("[tabindex='0']")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".tooltip:visible")).to_have_count(0)
    # With the pointer, and as a table.
    chart.get_by_role("img").last.hover()
    expect(page.locator(".tooltip:visible")).to_contain_text("placed: 4")
    page.get_by_text("Show as a table").first.click()
    expect(page.get_by_role("table", name="Orders by day").get_by_role("row")).to_have_count(31)
    # The period is in the address.
    page.get_by_role("link", name="7 days", exact=True).click()
    page.wait_for_url(re.compile(r"#/dashboard\?days=7"))
    expect(chart.get_by_role("img")).to_have_count(7)
    page.reload()
    expect(page.get_by_role("link", name="7 days", exact=True)).to_have_attribute("aria-current", "true")
    # Each status leads to its orders.
    page.get_by_role("row").filter(has_text="shipped").get_by_role("link").click()
    page.wait_for_url(re.compile(r"#/orders\?status=shipped"))
    assert status(ids[0]) == "shipped"
    page.assert_no_errors()
    for options in VIEWS:
        view = Page(browser, **options)
        view.open("dashboard?days=90")
        expect(figure(view, "Orders")).to_contain_text("4")
        check_accessibility(view, f"dashboard {options}")
        view.assert_no_errors()


def settings(browser):
    """Configuration, connected systems, and the state of the system."""
    customer = catalogue()
    id = order(customer)["id"]
    until(lambda: call("GET", f"/v1/orders/{id}")["shipments"], "the label")
    page = Page(browser)
    page.open("settings")
    worker = page.locator("section").filter(has=page.get_by_role("heading", name=re.compile("^Worker ")))
    row = worker.get_by_role("row").filter(has_text="CUSTOMER_VERIFICATION")
    expect(row).to_contain_text("off")
    expect(row).to_contain_text("environment")
    expect(worker.get_by_role("row").filter(has_text="ORDER_APPROVAL")).to_contain_text("default")
    expect(worker.get_by_role("row").filter(has_text="SHIPPER_WEBHOOK_SECRET")).to_contain_text("set")
    page.get_by_label("Filter variables").fill("returns")
    expect(worker.get_by_role("row").filter(has_text="CUSTOMER_VERIFICATION")).to_have_count(0)
    expect(page.get_by_label("Filter variables")).to_be_focused()
    page.get_by_role("link", name="Connected systems").click()
    expect(page.row("Payment provider")).to_contain_text("works")
    expect(page.row("Mail server")).to_contain_text("not configured")
    page.get_by_role("link", name="System", exact=True).click()
    expect(page.get_by_role("heading", name="Health")).to_be_visible()
    expect(page.row("authorize payment")).to_be_visible()
    page.assert_no_errors()
    for options in VIEWS:
        view = Page(browser, **options)
        for tab in ("configuration", "partners", "system"):
            view.open(f"settings?tab={tab}")
            expect(view.get_by_role("region").or_(view.locator("section.card")).first).to_be_visible()
            check_accessibility(view, f"settings {tab} {options}")
        view.assert_no_errors()


def english_texts():
    """English texts of the console whose German translation is another one."""
    with urllib.request.urlopen(f"{base}/console/de.js") as answer:
        script = answer.read().decode()
    german_by_english = json.loads(script[script.index("export default {") + 15 : script.rindex("}") + 1])
    texts = {text for text, german in german_by_english.items() if german != text and not text.startswith("code:")}
    return texts - {german for german in german_by_english.values() if isinstance(german, str)}


def german(browser):
    """A browser in German shows German texts, numbers, amounts and dates, and no English text on any screen."""
    customer = catalogue()
    ids = [order(customer, quantity=20)["id"] for _ in range(2)]
    call("POST", "/v1/webhook-endpoints", {"url": "https://example.com/hook", "event_types": ["order.*"]})
    until(lambda: call("GET", f"/v1/orders/{ids[1]}")["shipments"], "the label")
    page = Page(browser, locale="de-DE", timezone_id="Europe/Berlin")
    page.open("dashboard")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.get_by_role("heading", level=1)).to_have_text("Übersicht")
    expect(figure(page, "Durchschnittlicher Bestellwert")).to_contain_text("200,00\xa0€")
    expect(page.get_by_text("Zeiten in Europe/Berlin")).to_be_visible()
    assert page.title() == "Übersicht – Orderwright", page.title()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Tastenkürzel")
    page.keyboard.press("Escape")
    english = english_texts()
    assert "Log out" in english and "Orders" in english, english
    settings_tabs = [f"settings?tab={tab}" for tab in ("partners", "system")]
    details = [f"orders/{ids[1]}", f"customers/{customer}", "products/SKU-1"]
    for screen in [*SCREENS, *settings_tabs, *details]:
        page.open(screen)
        page.locator(".account-menu summary").click()
        lines = {line.strip() for line in page.locator("body").inner_text().splitlines()}
        assert not lines & english, f"{screen}: {lines & english}"
    page.open("settings?tab=system")
    expect(page.locator("main")).to_contain_text("Systemzustand")
    page.assert_no_errors()


def first_page(browser, **options):
    """The bytes of the dashboard's document, scripts, styles and images: as they are, and as they are served."""
    responses = []
    page = Page(browser, **options)
    page.on("response", lambda response: responses.append(response))
    page.open("dashboard")
    expect(page.locator("main .badge.good").first).to_be_visible()
    assets = [one for one in responses if "/console/" in one.url and not one.url.endswith("/session") or one.url.endswith("/")]
    names = [one.url.rsplit("/")[-1] for one in assets]
    assert "dashboard.js" in names and "style.css" in names, names
    page.assert_no_errors()
    return sum(len(one.body()) for one in assets), sum(one.request.sizes()["responseBodySize"] for one in assets), names


def size(browser):
    """The first page has less than 150 kB even without compression; with German texts less than that as it is served."""
    plain, served, names = first_page(browser)
    assert "de.js" not in names, names
    assert plain < MAX_FIRST_PAGE, plain
    assert served < plain, (served, plain)
    _, served, names = first_page(browser, locale="de-DE")
    assert "de.js" in names, names
    assert served < MAX_FIRST_PAGE / 2, served


run(globals())
