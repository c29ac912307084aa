// The order list: filters, search, live updates and approval of many orders at once.

import { change, get, query } from "./api.js";
import { showDialog, badge, empty, fill, h, labelled, input, money, problem, table, time, toast } from "./dom.js";

const STATUSES = ["", "pending", "processing", "shipped", "delivered", "cancelled"];
const PAGE_SIZE = 50;
/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 900;

/** The filters that a search text stands for: an order number, an ID, or else an SKU. */
function searchFilters(text) {
  const word = text.trim().replace(/^#/, "");
  if (!word) return {};
  if (/^\d+$/.test(word)) return { number: word };
  if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(word)) return { id: word.toLowerCase() };
  return { sku: word };
}

const orderCount = (count) => (count === 1 ? "1 order" : `${count} orders`);

export async function open(root, { me, parameters, isOperator }) {
  const filter = Object.fromEntries(["status", "q", "tag", "customer_id", "storefront", "include_deleted"].map((name) => [name, parameters.get(name) ?? ""]));
  let listedOrders = [], next = null, versions = new Map(), selected = new Set(), timer = null, failed = null, isFirst = true;

  const list = h("div", {}), tools = h("div", { class: "actions" });
  const status = input({ name: "status", options: STATUSES.map((value) => [value, value || "All"]), value: filter.status });
  const search = input({ name: "q", type: "search", value: filter.q, placeholder: "Number, ID, customer ID or SKU" });
  const tag = isOperator ? input({ name: "tag", value: filter.tag, placeholder: "All" }) : null;
  const storefront = isOperator ? input({ name: "storefront", value: filter.storefront, placeholder: "All" }) : null;
  const deleted = isOperator ? input({ name: "include_deleted", type: "check", value: filter.include_deleted === "true" }) : null;
  const form = h("form", {
    class: "bar card", role: "search", "aria-label": "Filter",
    onsubmit: (event) => { event.preventDefault(); apply(); }, onchange: () => apply(),
  },
  labelled({ label: "Status" }, status), labelled({ label: "Search" }, search),
  tag && labelled({ label: "Tag" }, tag), storefront && labelled({ label: "Storefront" }, storefront),
  deleted && labelled({ type: "check", label: "Include deleted" }, deleted), h("button", {}, "Search"));

  function apply() {
    location.hash = query("#/orders", {
      status: status.value, q: search.value, tag: tag?.value, storefront: storefront?.value, customer_id: filter.customer_id,
      include_deleted: deleted?.checked ? "true" : "",
    });
  }

  async function page(limit, cursor) {
    const { id, ...others } = searchFilters(filter.q);
    const filters = { status: filter.status, tag: filter.tag, storefront: filter.storefront, customer_id: filter.customer_id, include_deleted: filter.include_deleted };
    if (!id) return get(query("/v1/orders", { ...filters, ...others, limit, cursor }));
    // The ID of an order or of a customer.
    try {
      return { data: [await get(query(`/v1/orders/${id}`, { include_deleted: isOperator ? "true" : "" }))], next_cursor: null };
    } catch (failure) {
      if (failure.status !== 404) throw failure;
      return get(query("/v1/orders", { ...filters, customer_id: id, limit, cursor }));
    }
  }

  async function refresh() {
    timer = null;
    try {
      // If the end of the list was loaded, load as much as possible again.
      const limit = listedOrders.length && !next ? 200 : Math.min(200, Math.max(PAGE_SIZE, listedOrders.length));
      const firstPage = await page(limit);
      // Orders beyond the first page stay as they were loaded.
      const laterOrders = listedOrders.length > limit ? listedOrders.slice(limit) : [];
      const seen = new Set(firstPage.data.map((order) => order.id));
      listedOrders = [...firstPage.data, ...laterOrders.filter((order) => !seen.has(order.id))];
      if (!laterOrders.length) next = firstPage.next_cursor;
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  async function more() {
    try {
      const nextPage = await page(PAGE_SIZE, next);
      listedOrders = [...listedOrders, ...nextPage.data];
      next = nextPage.next_cursor;
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  function draw() {
    const awaitingApproval = listedOrders.filter((order) => order.awaits_approval);
    for (const id of selected) if (!awaitingApproval.some((order) => order.id === id)) selected.delete(id);
    fill(tools,
      isOperator && h("button", { onclick: processAll, title: "Approve all orders that await approval" }, "Process all"),
      isOperator && selected.size > 0 && h("button", { class: "main", onclick: approveSelected }, `Approve selected (${selected.size})`),
      isOperator && me.demo && h("button", { class: "danger", onclick: reset, title: "Delete all orders" }, "Reset state"),
      h("a", { class: "button main", href: "#/new" }, "New order"));
    const columns = [
      ["Order", (order) => [h("a", { href: `#/orders/${order.id}`, id: `order-${order.id}` }, `#${order.number}`), order.is_deleted && " (deleted)", order.tags?.map((tag) => [" ", h("span", { class: "badge" }, tag)])]],
      ["Status", (order) => [badge(order.status), order.awaits_approval && [" ", badge("awaiting approval", "warn")],
        order.in_progress && h("div", { class: "help" }, order.in_progress.step.replaceAll("_", " "), order.in_progress.attempt > 1 && `, attempt ${order.in_progress.attempt}`)]],
      ["Items", (order) => order.items.map((line) => `${line.quantity} × ${line.name}`).join(", ")],
      ["Quantity", (order) => order.items.reduce((sum, line) => sum + line.quantity, 0), "number"],
      ["Total", (order) => money(order.total, order.currency), "number"],
      isOperator && ["Storefront", (order) => order.storefront],
      ["Customer", (order) => h("a", { class: "mono", href: query("#/orders", { customer_id: order.customer_id }), id: `customer-of-${order.id}`, title: order.customer_id }, order.customer_id.slice(-8))],
      ["Placed", (order) => time(order.created_at)],
    ].filter(Boolean);
    if (isOperator && awaitingApproval.length) columns.push(["Approve", (order) => order.awaits_approval && h("input", {
      type: "checkbox", id: `approve-${order.id}`, "aria-label": `Approve order ${order.number}`, checked: selected.has(order.id),
      onchange: (event) => { event.target.checked ? selected.add(order.id) : selected.delete(order.id); draw(); },
    })]);
    const rows = table(filter.customer_id ? `Orders of customer ${filter.customer_id}, newest first` : "Newest first", columns, listedOrders, { key: (order) => order.id });
    // Highlight rows whose version changed.
    const current = new Map(listedOrders.map((order) => [order.id, order.version]));
    if (!isFirst) for (const row of rows.querySelectorAll("tbody tr")) {
      row.classList.toggle("fresh", versions.get(row.dataset.key) !== current.get(row.dataset.key));
    }
    versions = current;
    isFirst = false;
    const isFiltered = Object.values(filter).some(Boolean);
    fill(list, failed && problem(failed),
      listedOrders.length ? rows : !failed && empty(isFiltered ? "No orders match these filters. " : "No orders yet. ",
        h("a", { href: isFiltered ? "#/orders" : "#/new" }, isFiltered ? "Clear filters" : "Create an order")),
      next && h("p", { class: "actions" }, h("button", { id: "more", onclick: more }, "Load more")));
  }

  async function approveSelected() {
    const ids = [...selected];
    const dialogResult = await showDialog({
      title: `Approve ${orderCount(ids.length)}?`, submitLabel: "Approve",
      text: "The payment of each order is authorized now. When it succeeds, a shipment is requested from the carrier.",
      act: async () => {
        for (const id of ids) {
          await change("POST", `/v1/orders/${id}/approve`, undefined, { intent: "approve" });
          selected.delete(id);
        }
      },
    });
    if (dialogResult) toast(`${orderCount(ids.length)} approved.`);
    refresh();
  }

  async function processAll() {
    let approved = 0;
    const dialogResult = await showDialog({
      title: "Process all orders awaiting approval?", submitLabel: "Process all",
      text: `Approves every order that awaits approval${filter.storefront ? ` in storefront ${filter.storefront}` : ""}, including orders that are not listed on this page. The payment of each order is authorized; when it succeeds, a shipment is requested from the carrier.`,
      act: async () => {
        let cursor;
        do {
          const result = await change("POST", "/v1/orders/approve", { all: true, storefront: filter.storefront || undefined, cursor }, { intent: "process_all" });
          approved += result.approved;
          cursor = result.next_cursor ?? undefined;
          if (result.failed.length) toast(`${orderCount(result.failed.length)} could not be approved: ${result.failed[0].detail}`, "bad");
        } while (cursor);
      },
    });
    if (dialogResult) toast(approved ? `${orderCount(approved)} approved.` : "No orders were awaiting approval.");
    refresh();
  }

  async function reset() {
    const dialogResult = await showDialog({
      title: "Reset state: delete all orders?", submitLabel: "Delete all orders", isDanger: true,
      text: "All orders and their history are permanently deleted, and stock is set back to the last counted quantities. Products and customers are kept. This cannot be undone.",
      act: () => change("POST", "/demo/reset", {}, { intent: "reset" }),
    });
    if (dialogResult) { listedOrders = []; toast("All orders were deleted."); }
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Orders"), tools), form, h("section", { class: "card", "aria-label": "Orders" }, list));
  await refresh();
  return {
    refresh,
    onEvent: (event) => {
      if (!/^(order|payment|shipment|step)\./.test(event.type)) return;
      timer ??= setTimeout(refresh, RELOAD_DELAY_MS);
    },
    close: () => clearTimeout(timer),
  };
}
