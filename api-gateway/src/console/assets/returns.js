// The list of returns, and the actions on a return, which the order page shows too.

import { change, pagedList, query } from "./api.js";
import { showDialog, badge, empty, fill, h, input, labelled, money, problem, table, time, toast } from "./dom.js";

const STATUSES = ["", "requested", "approved", "received", "rejected", "cancelled"];
/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 900;

export async function open(root, { parameters, isOperator }) {
  let timer = null;
  const list = h("div", {});
  const filter = { status: parameters.get("status") ?? "", order_id: parameters.get("order_id") ?? "" };
  const status = input({ name: "status", options: STATUSES.map((value) => [value, value || "All"]), value: filter.status });
  const form = h("form", {
    class: "bar card", role: "search", "aria-label": "Filter",
    onsubmit: (event) => event.preventDefault(),
    onchange: () => { location.hash = query("#/returns", { ...filter, status: status.value }); },
  }, labelled({ label: "Status" }, status));
  const page = pagedList("/v1/returns", draw, filter);

  async function refresh() {
    timer = null;
    await page.refresh();
  }

  function draw() {
    const { data: returns, next, failed } = page;
    const rows = returnTable("Newest first", returns, isOperator, refresh, true);
    const isFiltered = Object.values(filter).some(Boolean);
    fill(list, failed && problem(failed), returns.length ? rows : !failed && empty(isFiltered ? "No returns match these filters." : "No returns yet."),
      next && h("p", {}, h("button", { id: "more", onclick: page.more }, "Load more")));
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Returns")), form, h("section", { class: "card", "aria-label": "Returns" }, list));
  await refresh();
  return {
    refresh,
    onEvent: (event) => { if (/^(return|order)\./.test(event.type)) timer ??= setTimeout(refresh, RELOAD_DELAY_MS); },
    close: () => clearTimeout(timer),
  };
}

/** A table of returns with their actions; `afterAction` is called after each. */
export function returnTable(caption, returns, isOperator, afterAction, hasOrders = false) {
  return table(caption, [
    ["Return", (entry) => entry.number],
    hasOrders && ["Order", (entry) => h("a", { href: `#/orders/${entry.order_id}`, id: `order-of-${entry.id}` }, `#${entry.number.split("-")[0]}`)],
    hasOrders && isOperator && ["Storefront", (entry) => entry.storefront],
    ["Status", (entry) => [badge(entry.status), entry.reason && h("div", { class: "help" }, entry.reason)]],
    ["Items", (entry) => [...entry.items.map((item) => h("div", {}, `${item.quantity} × ${item.sku}`, item.reason && `: ${item.reason}`)), entry.note && h("div", { class: "help" }, entry.note)]],
    ["Received items", (entry) => entry.received?.length ? entry.received.map((item) => h("div", {}, `${item.quantity} × ${item.sku}, ${item.restock ? `on stock in ${item.warehouse}` : "not restocked"}`)) : "–"],
    ["Refund", (entry) => [["requested", "approved"].includes(entry.status) && "estimated ", ["rejected", "cancelled"].includes(entry.status) ? "–" : money(entry.refund_amount, entry.currency), entry.fee > 0 && h("div", { class: "help" }, `fee ${money(entry.fee, entry.currency)}`)], "number"],
    ["Requested on", (entry) => time(entry.created_at)],
    ["Actions", (entry) => h("div", { class: "actions" }, returnActions(entry, isOperator, afterAction))],
  ].filter(Boolean), returns, { key: (entry) => entry.id });
}

/** The actions on a return that its status allows. The server checks them again. */
function returnActions(entry, isOperator, afterAction) {
  const button = (label, options, kind = "") => h("button", { id: `${options.verb}-${entry.id}`, class: kind, "aria-label": `${label} ${entry.number}`, onclick: () => act(entry, options, afterAction) }, label);
  const isOpen = ["requested", "approved"].includes(entry.status);
  return [
    isOperator && entry.status === "requested" && button("Approve", { verb: "approve", submitLabel: "Approve", text: "The customer can send the items back. Orderwright does not notify the customer." }, "main"),
    isOperator && entry.status === "requested" && button("Reject", { verb: "reject", submitLabel: "Reject", isDanger: true, fields: [{ name: "reason", label: "Reason for rejecting", help: "The storefront can show it to the customer" }], text: "The return is declined: the customer keeps the items and gets no refund." }, "danger"),
    isOperator && entry.status === "approved" && button("Receive items", receipt(entry), "main"),
    isOpen && button("Cancel return", { verb: "cancel", submitLabel: "Cancel return", isDanger: true, fields: [{ name: "reason", label: "Reason" }], text: "The items are no longer expected. They can be returned with another return." }, "danger"),
  ];
}

/** The dialog for the receipt of a return. */
function receipt(entry) {
  return {
    verb: "receive", submitLabel: "Receive and refund", text: "The customer is refunded at once, unless you choose no refund. This cannot be undone.",
    fields: [
      ...entry.items.map((item, index) => ({ name: `quantity-${index}`, label: `Received units of ${item.sku}`, type: "number", min: 0, max: item.quantity, value: item.quantity })),
      { name: "restock", label: "Restock", type: "check", value: true, help: "Uncheck it if the items are damaged" },
      { name: "warehouse", label: "Warehouse", help: "Leave empty for the warehouse that the items were shipped from" },
      { name: "refund", label: "Refund", options: [["", "Price paid for the items, with tax, without shipping"], ["amount", "Another amount"], ["none", "No refund"]] },
      { name: "amount", label: `Another amount (${entry.currency})`, type: "money", currency: entry.currency, min: 1 },
      { name: "fee", label: `Restocking fee (${entry.currency})`, type: "money", currency: entry.currency, help: "Deducted from the refund of the price paid" },
    ],
    toBody: (values) => {
      const items = entry.items.map((item, index) => ({
        sku: item.sku, quantity: values[`quantity-${index}`] ?? 0, restock: values.restock, warehouse: values.restock ? values.warehouse : undefined,
      }));
      return {
        items: items.filter((item) => item.quantity > 0), fee: values.fee || undefined,
        refund: values.refund === "none" ? "none" : values.refund === "amount" ? { amount: values.amount } : undefined,
      };
    },
  };
}

async function act(entry, { verb, text, submitLabel, isDanger, fields = [], toBody = (values) => values }, afterAction) {
  // The action applies to the version that was on screen; a newer version is refused (412).
  const ended = await showDialog({
    title: `${submitLabel}: ${entry.number}?`, text, submitLabel, isDanger, fields,
    act: (values) => change("POST", `/v1/returns/${entry.id}/${verb}`, toBody(values), { intent: `${verb}_return`, etag: `"${entry.version}"` }),
  });
  if (ended) toast({ approve: "Return approved.", reject: "Return rejected.", cancel: "Return cancelled.", receive: "Items received." }[verb]);
  afterAction();
}

/** The dialog that requests a return of shipped items of `order`. */
export async function requestReturn(order) {
  const shipped = new Map();
  for (const shipment of order.shipments.filter((shipment) => shipment.shipped_at && shipment.status !== "cancelled" && shipment.status !== "returned")) {
    for (const item of shipment.items) shipped.set(item.sku, (shipped.get(item.sku) ?? 0) + item.quantity);
  }
  const skus = [...shipped.keys()];
  return showDialog({
    title: "Return items of this order?", submitLabel: "Create return", text: "Only items that were shipped can be returned. The return is approved under Returns.",
    fields: [
      ...skus.map((sku, index) => ({ name: `quantity-${index}`, label: `Quantity of ${sku} to return`, type: "number", min: 0, max: shipped.get(sku), help: `${shipped.get(sku)} shipped` })),
      { name: "reason", label: "Reason for returning" }, { name: "note", label: "Note", help: "The storefront can show it to the customer" },
    ],
    act: ({ reason, note, ...units }) => {
      const items = skus.map((sku, index) => ({ sku, quantity: units[`quantity-${index}`] ?? 0, reason }));
      return change("POST", `/v1/orders/${order.id}/returns`, { items: items.filter((item) => item.quantity > 0), note }, { intent: "request_return" });
    },
  });
}
