// The order list: tabs with counts, search, filters, selection, live updates and keyboard shortcuts. The filter
// is in the address; orders_filters.js reads it, orders_table.js draws the rows. Bulk actions and the export are
// loaded when they are used.

import { change, get, loadAtLeast, query } from "./api.js";
import { empty, fill, h, labelled, input, loading, problem, showDialog, toast } from "./dom.js";
import { number, plural, relativeTime, t } from "./i18n.js";
import { TABS, address, chips, cleared, countParameters, filterForm, isFiltered, listParameters, readFilter, tabTitle } from "./orders_filters.js";
import { orderTable, showSelection } from "./orders_table.js";

const PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 200;
/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 900;
/** Delay between a reload and the new counts. */
const COUNT_DELAY_MS = 1500;
/** Interval for updating relative times. */
const CLOCK_MS = 30_000;

const ID = /^[0-9a-f]{8}-[0-9a-f-]{27}$/i;
const SKU = /^[A-Za-z0-9._-]{1,64}$/;

/** Keyboard shortcuts of this screen, beside those of the shell: [keys, title]. */
export const shortcuts = [
  [["j", "↓"], t("Next order")], [["k", "↑"], t("Previous order")], [["x"], t("Select the order")], [["Enter"], t("Open the order")],
];

export async function open(root, { me, parameters, isOperator }) {
  let filter = readFilter(parameters, isOperator), orders = [], next = null, versions = new Map(), counts = null, failed = null;
  let reloadTimer = null, countTimer = null, isFirst = true, load = 0, byProduct = false, isLoading = false, isOpen = true;
  const selected = new Set();

  const tabs = h("nav", { class: "tabs status-tabs", "aria-label": t("Orders by status") });
  const tools = h("div", { class: "actions" }), list = h("div", {}), bulk = h("div", { class: "bulk", role: "region", "aria-label": t("Selected orders") });
  const search = input({ name: "q", type: "search", value: filter.q, placeholder: t("Order number, customer, e-mail, tracking number, SKU or ID") });
  search.id = "search";
  const searchForm = h("form", { class: "bar", role: "search", onsubmit: (event) => { event.preventDefault(); apply({ q: search.value.trim() }); } },
    labelled({ label: t("Search") }, search), h("button", {}, t("Search")));
  // A cleared search field shows all orders at once.
  search.addEventListener("search", () => { if (!search.value && filter.q) apply({ q: "" }); });
  const form = filterForm(filter, isOperator, (changes) => apply(changes)), active = h("div", {});
  const more = h("details", { class: "filters" }, h("summary", {}, t("Filters")), form.element);

  /** Changes the filter and the address, and loads the list without opening the screen again. */
  function apply(changes) {
    filter = { ...filter, ...changes };
    history.pushState(null, "", address(filter));
    search.value = filter.q;
    form.show(filter);
    [orders, next, versions, counts, isFirst] = [[], null, new Map(), null, true];
    selected.clear();
    isLoading = true;
    draw();
    loadCounts();
    return refresh();
  }

  /** A page of the list. The API searches for neither IDs nor products: an ID is looked up, and a text that finds nothing else may be an SKU. */
  async function page(limit, cursor) {
    const read = (more) => get(query("/v1/orders", { ...listParameters(filter), limit, cursor, ...more }));
    if (ID.test(filter.q)) return pageById(filter.q.toLowerCase(), read);
    const byText = () => read({});
    const byItem = () => read({ q: "", sku: filter.q });
    if (cursor) return byProduct ? byItem() : byText();
    byProduct = false;
    const found = await byText();
    if (found.data.length || !SKU.test(filter.q) || filter.sku) return found;
    const foundByItem = await byItem();
    byProduct = foundByItem.data.length > 0;
    return foundByItem;
  }

  async function pageById(id, read) {
    try {
      return { data: [await get(query(`/v1/orders/${id}`, { include_deleted: isOperator ? "true" : "" }))], next_cursor: null };
    } catch (failure) {
      if (failure.status !== 404) throw failure;
      return read({ q: "", customer_id: id });
    }
  }

  /** Loads the listed orders again, all of them: those beyond the first page stay. */
  async function refresh() {
    reloadTimer = null;
    const current = ++load;
    try {
      // If the end of the list is shown, new orders move it down.
      const found = await loadAtLeast(next ? orders.length : orders.length && Math.max(MAX_PAGE_SIZE, orders.length), page);
      if (current !== load || !isOpen) return;
      [orders, next, failed] = [found.data, found.next_cursor, null];
    } catch (failure) {
      if (current !== load || !isOpen) return;
      failed = failure;
    }
    isLoading = false;
    draw();
    if (!isFirst) countTimer ??= setTimeout(loadCounts, COUNT_DELAY_MS);
    isFirst = false;
  }

  async function showMore() {
    const current = load;
    try {
      const found = await page(PAGE_SIZE, next);
      if (current !== load) return;
      const listed = new Set(orders.map((order) => order.id));
      [orders, next] = [[...orders, ...found.data.filter((order) => !listed.has(order.id))], found.next_cursor];
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  /** Loads the counts of the tabs. The list does not wait for them; without counts the tabs have none. */
  async function loadCounts() {
    clearTimeout(countTimer);
    countTimer = null;
    const countable = countParameters(filter);
    const found = countable && await get(query("/v1/orders/count", countable)).catch(() => null);
    if (!isOpen) return;
    counts = found;
    drawTabs();
  }

  function drawTabs() {
    const countOf = (tab) => counts?.[tab || "all"];
    const text = ({ count, has_more: hasMore }) => (hasMore ? `${number(count)}+` : number(count));
    fill(tabs, TABS.map((tab) => h("a", {
      href: address({ ...filter, tab }), id: `tab-${tab || "all"}`, "aria-current": tab === filter.tab && "page",
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        apply({ tab });
      },
    }, tabTitle(tab), countOf(tab) && h("span", { class: "count" }, ` ${text(countOf(tab))}`))));
  }

  function drawChips() {
    const customer = orders.find((order) => order.customer_id === filter.customer_id)?.customer_name;
    fill(active, chips(filter, customer || filter.customer_id.slice(-8), apply));
  }

  function select(order, isSelected) {
    for (const each of order ? [order] : orders) isSelected ? selected.add(each.id) : selected.delete(each.id);
    showSelection(list, selected);
    drawTools();
  }

  function drawTools() {
    fill(tools,
      isOperator && h("button", { id: "process-all", onclick: processAll, title: t("Approve all orders that await approval") }, t("Process all")),
      isOperator && me.demo && h("button", { id: "reset", class: "danger", onclick: reset, title: t("Delete all orders") }, t("Reset state")),
      orders.length > 0 && h("button", { id: "export", onclick: exportAll, title: t("Save all orders that match the filters to a file") }, t("Export CSV")),
      h("a", { class: "button main", href: "#/new" }, t("New order")));
    const chosen = orders.filter((order) => selected.has(order.id));
    bulk.hidden = !chosen.length;
    const run = (action) => async () => {
      await (await import("./orders_bulk.js")).runAction(action, orders.filter((order) => selected.has(order.id)));
      await refresh();
      loadCounts();
    };
    fill(bulk, h("b", { "aria-live": "polite" }, plural(chosen.length, "1 order selected", "{count} orders selected")), h("div", { class: "actions" },
      isOperator && h("button", { id: "bulk-approve", onclick: run("approve") }, t("Approve")),
      isOperator && h("button", { id: "bulk-ship", onclick: run("ship") }, t("Ship")),
      isOperator && h("button", { id: "bulk-tag", onclick: run("tag") }, t("Add tag")),
      h("button", { id: "bulk-cancel", class: "danger", onclick: run("cancel") }, t("Cancel orders")),
      h("button", { id: "bulk-export", onclick: async () => (await import("./orders_export.js")).exportOrders(chosen) }, t("Export selected")),
      h("button", { id: "bulk-clear", class: "plain", onclick: () => select(null, false) }, t("Clear selection"))));
  }

  function emptyState() {
    if (isFiltered(filter) || filter.tab) {
      return empty(`${t("No orders match these filters.")} `, h("button", { id: "clear-all", class: "plain", onclick: () => apply({ ...cleared(filter), tab: "" }) }, t("Clear filters")));
    }
    const step = (text, target, link) => h("li", {}, h("a", { href: target }, link), " ", text);
    return h("div", { class: "empty" }, h("p", {}, t("No orders yet.")), h("ol", { class: "first-steps" },
      isOperator && step(t("with a price and the units in stock."), "#/products", t("Add a product")),
      step(t("with a name and an e-mail address."), "#/customers", t("Add a customer")),
      step(t("by hand, or let your storefront send it with POST /v1/orders."), "#/new", t("Create an order"))));
  }

  function draw() {
    for (const id of selected) if (!orders.some((order) => order.id === id)) selected.delete(id);
    drawTabs();
    drawTools();
    drawChips();
    const caption = [filter.sort ? t("Sorted by time, oldest first") : t("Sorted by time, newest first"), byProduct && t("orders with the product {sku}", { sku: filter.q })].filter(Boolean).join(", ");
    const rows = orderTable({
      caption, orders, selected, isOldestFirst: Boolean(filter.sort), showsStorefront: isOperator && !filter.storefront,
      onSort: () => apply({ sort: filter.sort ? "" : "created_at" }), onSelect: select,
    });
    // Highlight rows whose version changed.
    const current = new Map(orders.map((order) => [order.id, order.version]));
    if (versions.size) for (const row of rows.querySelectorAll("tbody tr")) {
      row.classList.toggle("fresh", versions.get(row.dataset.key) !== current.get(row.dataset.key));
    }
    versions = current;
    fill(list, failed && problem(failed), isLoading ? loading() : orders.length ? rows : !failed && emptyState(),
      next && h("p", { class: "actions" }, h("button", { id: "more", onclick: showMore }, t("Load more"))));
  }

  async function exportAll() {
    const { exportList } = await import("./orders_export.js");
    const count = counts?.[filter.tab || "all"];
    await exportList(page, count && !count.has_more ? count.count : undefined).catch((failure) => toast(`${failure.title}: ${failure.message}`, "bad"));
  }

  async function processAll() {
    let approved = 0;
    const dialogResult = await showDialog({
      title: t("Process all: approve all orders awaiting approval?"), submitLabel: t("Process all"),
      text: [h("p", {}, t("Approves every order that awaits approval, including orders that are not listed on this page. The payment of each order is authorized; when it succeeds, a shipping label is requested from the carrier.")),
        filter.storefront && h("p", {}, t("Only orders of storefront {storefront}.", { storefront: filter.storefront }))],
      act: async () => {
        let cursor;
        do {
          const result = await change("POST", "/v1/orders/approve", { all: true, storefront: filter.storefront || undefined, cursor }, { intent: "process_all" });
          approved += result.approved;
          cursor = result.next_cursor ?? undefined;
          if (result.failed.length) toast(plural(result.failed.length, "1 order could not be approved: {detail}", "{count} orders could not be approved: {detail}", { detail: result.failed[0].detail }), "bad");
        } while (cursor);
      },
    });
    if (dialogResult) toast(approved ? plural(approved, "1 order approved.", "{count} orders approved.") : t("No orders were awaiting approval."));
    refresh();
  }

  async function reset() {
    const dialogResult = await showDialog({
      title: t("Reset state: delete all orders?"), submitLabel: t("Delete all orders"), isDanger: true,
      text: t("All orders and their history are permanently deleted, and stock is set back to the last counted quantities. Products and customers are kept. This cannot be undone."),
      act: () => change("POST", "/demo/reset", {}, { intent: "reset" }),
    });
    if (dialogResult) { orders = []; next = null; toast(t("All orders were deleted.")); }
    refresh();
    loadCounts();
  }

  /** Moves the focus to the row `step` rows further. */
  function moveFocus(step) {
    const index = orders.findIndex((order) => order.id === focusedRow()?.dataset.key);
    const order = orders[index < 0 ? 0 : Math.min(orders.length - 1, Math.max(0, index + step))];
    const link = order && document.getElementById(`order-${order.id}`);
    link?.focus();
    link?.scrollIntoView({ block: "nearest" });
  }

  const focusedRow = () => document.activeElement?.closest("table.orders tbody tr");

  function onKey(event) {
    const { target, key } = event;
    const isTyping = target.closest("textarea, select, [contenteditable], input:not([type=checkbox])");
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping || document.querySelector("dialog[open]")) return;
    const order = orders.find(({ id }) => id === focusedRow()?.dataset.key);
    const action = {
      j: () => moveFocus(1), k: () => moveFocus(-1),
      ArrowDown: order && (() => moveFocus(1)), ArrowUp: order && (() => moveFocus(-1)),
      x: order && (() => select(order, !selected.has(order.id))),
    }[key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  const clock = setInterval(() => {
    for (const element of list.querySelectorAll(".placed time")) element.textContent = relativeTime(element.dateTime);
  }, CLOCK_MS);
  document.addEventListener("keydown", onKey);

  fill(root, h("div", { class: "bar" }, h("h1", {}, t("Orders")), tools), tabs,
    h("div", { class: "card filter-card" }, searchForm, more, active),
    h("section", { class: "card", "aria-label": t("Orders") }, bulk, list));
  loadCounts();
  await refresh();
  return {
    refresh,
    onEvent: (event) => {
      if (/^(order|payment|shipment|step)\./.test(event.type)) reloadTimer ??= setTimeout(refresh, RELOAD_DELAY_MS);
    },
    close: () => {
      isOpen = false;
      [reloadTimer, countTimer].forEach(clearTimeout);
      clearInterval(clock);
      document.removeEventListener("keydown", onKey);
    },
  };
}
