// All orders, live: filter, search, approve many at once.

import { change, get, query } from "./api.js";
import { ask, badge, empty, fill, h, labelled, input, money, problem, table, time, toast } from "./dom.js";

const STATUSES = ["", "pending", "processing", "shipped", "delivered", "cancelled"];
const PAGE = 50;
/** However much happens, the list is asked for no more often. */
const PAUSE_MS = 900;

/** What a word in the search field may stand for. */
function meaning(text) {
  const word = text.trim().replace(/^#/, "");
  if (!word) return {};
  if (/^\d+$/.test(word)) return { number: word };
  if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(word)) return { id: word.toLowerCase() };
  return { sku: word };
}

export async function open(root, { me, parameters, operates }) {
  const filter = Object.fromEntries(["status", "q", "customer_id", "storefront", "include_deleted"].map((name) => [name, parameters.get(name) ?? ""]));
  let shown = [], next = null, known = new Map(), chosen = new Set(), timer = null, failed = null, isFirst = true;

  const list = h("div", {}), tools = h("div", { class: "actions" });
  const status = input({ name: "status", options: STATUSES.map((value) => [value, value || "all"]), value: filter.status });
  const search = input({ name: "q", type: "search", value: filter.q, placeholder: "number, id, customer id or sku" });
  const storefront = operates ? input({ name: "storefront", value: filter.storefront, placeholder: "all" }) : null;
  const deleted = operates ? input({ name: "include_deleted", type: "check", value: filter.include_deleted === "true" }) : null;
  const form = h("form", {
    class: "bar card", role: "search", "aria-label": "Filter",
    onsubmit: (event) => { event.preventDefault(); apply(); }, onchange: () => apply(),
  },
  labelled({ label: "Status" }, status), labelled({ label: "Search" }, search),
  storefront && labelled({ label: "Storefront" }, storefront),
  deleted && labelled({ type: "check", label: "Deleted ones, too" }, deleted), h("button", {}, "Search"));

  function apply() {
    location.hash = query("#/orders", {
      status: status.value, q: search.value, storefront: storefront?.value, customer_id: filter.customer_id,
      include_deleted: deleted?.checked ? "true" : "",
    });
  }

  async function page(limit, cursor) {
    const { id, ...others } = meaning(filter.q);
    const filters = { status: filter.status, storefront: filter.storefront, customer_id: filter.customer_id, include_deleted: filter.include_deleted };
    if (!id) return get(query("/v1/orders", { ...filters, ...others, limit, cursor }));
    // An id is an order's, or a customer's.
    try {
      return { data: [await get(query(`/v1/orders/${id}`, { include_deleted: operates ? "true" : "" }))], next_cursor: null };
    } catch (failure) {
      if (failure.status !== 404) throw failure;
      return get(query("/v1/orders", { ...filters, customer_id: id, limit, cursor }));
    }
  }

  async function refresh() {
    timer = null;
    try {
      // Where all was shown, all is shown.
      const asked = shown.length && !next ? 200 : Math.min(200, Math.max(PAGE, shown.length));
      const first = await page(asked);
      // What was loaded beyond stays as it was read.
      const rest = shown.length > asked ? shown.slice(asked) : [];
      const seen = new Set(first.data.map((order) => order.id));
      shown = [...first.data, ...rest.filter((order) => !seen.has(order.id))];
      if (!rest.length) next = first.next_cursor;
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  async function more() {
    try {
      const found = await page(PAGE, next);
      shown = [...shown, ...found.data];
      next = found.next_cursor;
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  function draw() {
    const waiting = shown.filter((order) => order.awaits_approval);
    for (const id of chosen) if (!waiting.some((order) => order.id === id)) chosen.delete(id);
    fill(tools,
      operates && h("button", { onclick: processAll }, "Process all"),
      operates && chosen.size > 0 && h("button", { class: "main", onclick: approveChosen }, `Approve ${chosen.size}`),
      operates && me.demo && h("button", { class: "danger", onclick: reset }, "Reset state"),
      h("a", { class: "button main", href: "#/new" }, "New order"));
    const columns = [
      ["Order", (order) => [h("a", { href: `#/orders/${order.id}`, id: `order-${order.id}` }, `#${order.number}`), order.is_deleted && " (deleted)"]],
      ["Status", (order) => [badge(order.status), order.awaits_approval && [" ", badge("waits for approval", "warn")],
        order.in_progress && h("div", { class: "help" }, order.in_progress.step.replaceAll("_", " "), order.in_progress.attempt > 1 && `, attempt ${order.in_progress.attempt}`)]],
      ["Items", (order) => order.items.map((line) => `${line.quantity} × ${line.name}`).join(", ")],
      ["Quantity", (order) => order.items.reduce((sum, line) => sum + line.quantity, 0), "number"],
      ["Total", (order) => money(order.total, order.currency), "number"],
      operates && ["Storefront", (order) => order.storefront],
      ["Customer", (order) => h("a", { class: "mono", href: query("#/orders", { customer_id: order.customer_id }), id: `customer-of-${order.id}`, title: order.customer_id }, order.customer_id.slice(-8))],
      ["Came", (order) => time(order.created_at)],
    ].filter(Boolean);
    if (operates && waiting.length) columns.push(["Approve", (order) => order.awaits_approval && h("input", {
      type: "checkbox", id: `approve-${order.id}`, "aria-label": `Approve order ${order.number}`, checked: chosen.has(order.id),
      onchange: (event) => { event.target.checked ? chosen.add(order.id) : chosen.delete(order.id); draw(); },
    })]);
    const rows = table(filter.customer_id ? `Orders of customer ${filter.customer_id}, newest first` : "Newest first", columns, shown, { key: (order) => order.id });
    // What has changed is seen.
    const now = new Map(shown.map((order) => [order.id, order.version]));
    if (!isFirst) for (const row of rows.querySelectorAll("tbody tr")) {
      row.classList.toggle("fresh", known.get(row.dataset.key) !== now.get(row.dataset.key));
    }
    known = now;
    isFirst = false;
    const isFiltered = Object.values(filter).some(Boolean);
    fill(list, failed && problem(failed),
      shown.length ? rows : !failed && empty(isFiltered ? "No order is like this. " : "There is no order yet. ",
        h("a", { href: isFiltered ? "#/orders" : "#/new" }, isFiltered ? "Show all" : "Make one")),
      next && h("p", { class: "actions" }, h("button", { id: "more", onclick: more }, "More")));
  }

  async function approveChosen() {
    const ids = [...chosen];
    const done = await ask({
      title: `Approve ${ids.length} ${ids.length === 1 ? "order" : "orders"}?`, yes: "Approve",
      text: "The payment of each is asked for now; what is paid for is shipped.",
      act: async () => {
        for (const id of ids) {
          await change("POST", `/v1/orders/${id}/approve`, undefined, { intent: "approve" });
          chosen.delete(id);
        }
      },
    });
    if (done) toast(`${ids.length} approved.`);
    refresh();
  }

  async function processAll() {
    let approved = 0;
    const done = await ask({
      title: "Process all?", yes: "Process all",
      text: `Every order that waits for approval${filter.storefront ? ` in ${filter.storefront}` : ""} is approved: its payment is asked for, and it is shipped. However many there are; this goes on page by page.`,
      act: async () => {
        let cursor;
        do {
          const told = await change("POST", "/v1/orders/approve", { all: true, storefront: filter.storefront || undefined, cursor }, { intent: "process_all" });
          approved += told.approved;
          cursor = told.next_cursor ?? undefined;
          if (told.failed.length) toast(`${told.failed.length} could not be approved: ${told.failed[0].detail}`, "bad");
        } while (cursor);
      },
    });
    if (done) toast(approved ? `${approved} approved.` : "Nothing waited for approval.");
    refresh();
  }

  async function reset() {
    const done = await ask({
      title: "Reset state?", yes: "Reset", isDanger: true,
      text: "All orders and all of their history are gone for good, and every shelf is as it was last counted. Products and customers stay.",
      act: () => change("POST", "/demo/reset", {}, { intent: "reset" }),
    });
    if (done) { shown = []; toast("Everything is as it was in the beginning."); }
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Orders"), tools), form, h("section", { class: "card", "aria-label": "Orders" }, list));
  await refresh();
  return {
    refresh,
    take: (event) => {
      if (!/^(order|payment|shipment|step)\./.test(event.type)) return;
      timer ??= setTimeout(refresh, PAUSE_MS);
    },
    leave: () => clearTimeout(timer),
  };
}
