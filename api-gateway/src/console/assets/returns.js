// The list of returns, and the table of an order's returns.

import { get, query } from "./api.js";
import { badge, h, money, relative, showDialog, table } from "./dom.js";
import { name, t } from "./i18n.js";
import { openList } from "./list.js";
import { picker } from "./picker.js";
import { requestReturn, returnActions } from "./return_actions.js";

export { requestReturn };

const STATUSES = ["requested", "approved", "received", "rejected", "cancelled"];

export function open(root, { parameters, isOperator }) {
  const list = openList(root, parameters, {
    screen: "returns", path: "/v1/returns", title: t("Returns"),
    actions: h("button", { class: "main", onclick: create }, t("New return")),
    search: { label: t("Search"), placeholder: t("Number of the return or order") },
    tabs: { name: "status", label: t("Status"), options: [["", t("All")], ...STATUSES.map((status) => [status, name(status)])] },
    filters: [{ name: "order_id", label: t("Returns of one order") }],
    rows: (returns, { refresh }) => returnTable(t("Newest first"), returns, isOperator, refresh, true),
    noEntries: [h("p", {}, t("No returns yet.")), h("p", {}, t("A return of shipped items is requested by the shop's storefront, on the page of an order, or here with New return."))],
    isAffected: (event) => /^(return|order)\./.test(event.type),
  });
  return list;
}

/** Requests a return: first the order is chosen, then its items. */
async function create() {
  const orders = picker({
    label: t("Order"), name: "order", required: true, placeholder: t("Order number, customer or tracking number"),
    search: async (text) => (await get(query("/v1/orders", { q: text, limit: 20 }))).data.map((order) => [order.id, `#${order.number}`, order.items.map((line) => `${line.quantity} × ${line.name}`).join(", ")]),
  });
  const order = await showDialog({
    title: t("New return"), submitLabel: t("Choose items"), text: orders.element,
    act: () => {
      if (!orders.value) throw { title: t("Invalid input"), message: t("Choose an order first.") };
      return get(`/v1/orders/${orders.value}`);
    },
  });
  const created = order && await requestReturn(order);
  if (created) location.hash = `#/returns/${created.id}`;
}

const orderNumber = (entry) => entry.number.split("-")[0];

/** A table of returns with their actions; `afterAction` is called after each. */
export function returnTable(caption, returns, isOperator, afterAction, hasOrders = false) {
  return table(caption, [
    [t("Return"), (entry) => h("a", { href: `#/returns/${entry.id}`, id: `return-${entry.id}` }, entry.number)],
    hasOrders && [t("Order"), (entry) => h("a", { href: `#/orders/${entry.order_id}`, id: `order-of-${entry.id}` }, `#${orderNumber(entry)}`)],
    hasOrders && isOperator && [t("Storefront"), (entry) => entry.storefront],
    [t("Status"), (entry) => [badge(entry.status), entry.reason && h("div", { class: "help" }, entry.reason)]],
    [t("Items"), (entry) => [...entry.items.map((item) => h("div", {}, `${item.quantity} × ${item.sku}`, item.reason && `: ${item.reason}`)), entry.note && h("div", { class: "help" }, entry.note)]],
    [t("Received items"), (entry) => entry.received?.length ? entry.received.map((item) => h("div", {}, receivedItem(item))) : "–"],
    [t("Refund"), refund, "number"],
    [t("Requested"), (entry) => relative(entry.created_at)],
    [t("Actions"), (entry) => h("div", { class: "actions" }, returnActions(entry, isOperator, afterAction))],
  ].filter(Boolean), returns, { key: (entry) => entry.id });
}

/** Units that have arrived, and where they are. */
export function receivedItem(item) {
  return item.restock
    ? t("{quantity} × {sku}, restocked in {warehouse}", item)
    : t("{quantity} × {sku}, not restocked", item);
}

/** The refund of a return: an estimate until its items were received. */
export function refund(entry) {
  if (["rejected", "cancelled"].includes(entry.status)) return "–";
  const amount = money(entry.refund_amount, entry.currency);
  return [
    ["requested", "approved"].includes(entry.status) ? t("estimated {amount}", { amount }) : amount,
    entry.fee > 0 && h("div", { class: "help" }, t("fee {amount}", { amount: money(entry.fee, entry.currency) })),
  ];
}
