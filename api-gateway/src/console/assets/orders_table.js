// The rows of the order list.

import { badge, h, money, relative } from "./dom.js";
import { name, plural, t } from "./i18n.js";

/** Number of line items that a row names. */
const NAMED_ITEMS = 2;

/** Part of the total of a pending order with a manual payment that was not received. */
const outstanding = ({ status, payment, total }) => (status === "pending" && payment.provider === "manual" ? Math.max(0, total - payment.captured) : 0);

const isPartlyShipped = (order) => order.status === "processing" && order.shipments.some((shipment) => shipment.shipped_at);

function orderCell(order) {
  return [h("a", { href: `#/orders/${order.id}`, id: `order-${order.id}` }, `#${order.number}`), order.is_deleted && ` (${t("deleted")})`,
    order.tags?.map((tag) => [" ", h("span", { class: "badge" }, tag)])];
}

function customerCell(order) {
  const link = { href: `#/customers/${order.customer_id}`, id: `customer-of-${order.id}` };
  return h("a", link, order.customer_name || (order.customer_name === "" ? t("erased customer") : order.customer_id.slice(-8)));
}

function itemsCell({ items }) {
  const named = items.slice(0, NAMED_ITEMS).map((line) => `${line.quantity} × ${line.name}`).join(", ");
  const others = items.length - NAMED_ITEMS;
  return others > 0 ? [named, h("div", { class: "help" }, plural(others, "and 1 other item", "and {count} other items"))] : named;
}

function paymentCell(order) {
  const amount = outstanding(order);
  return [badge(order.payment.status), amount > 0 && h("div", { class: "help" }, t("{amount} outstanding", { amount: money(amount, order.currency) }))];
}

/** A step in words, with the warehouse or number that it may have: "request shipment (berlin)". */
function stepText(step) {
  const [kind, ...detail] = step.split(":");
  return detail.length ? `${name(kind)} (${detail.join(", ")})` : name(kind);
}

function statusCell(order) {
  const { in_progress: step } = order;
  return [isPartlyShipped(order) ? badge("partially_shipped", "info") : badge(order.status),
    order.awaits_approval && [" ", badge("awaiting_approval", "warn")],
    step && h("div", { class: "help" }, stepText(step.step), step.attempt > 1 && `, ${t("attempt {number}", { number: step.attempt })}`)];
}

function columns(showsStorefront) {
  return [
    [t("Order"), orderCell],
    [t("Placed"), (order) => relative(order.created_at), "placed"],
    [t("Customer"), customerCell],
    [t("Items"), itemsCell],
    [t("Total"), (order) => money(order.total, order.currency), "number"],
    [t("Payment"), paymentCell],
    [t("Fulfilment"), statusCell],
    showsStorefront && [t("Storefront"), (order) => order.storefront],
  ].filter(Boolean);
}

/**
 * The table of `orders`. `isOldestFirst` is the order of the list, which `onSort` turns around. `onSelect` is called
 * with an order and whether it was selected, or with null for all orders.
 */
export function orderTable({ caption, orders, selected, showsStorefront, isOldestFirst, onSort, onSelect }) {
  const shown = columns(showsStorefront);
  const sortButton = h("button", { type: "button", class: "sort", id: "sort-placed", onclick: onSort, title: isOldestFirst ? t("Show the newest first") : t("Show the oldest first") },
    t("Placed"), h("span", { "aria-hidden": "true" }, isOldestFirst ? " ↑" : " ↓"));
  const head = h("tr", {},
    h("th", { scope: "col", class: "select" }, h("input", {
      type: "checkbox", id: "select-all", "aria-label": t("Select all listed orders"), onchange: (event) => onSelect(null, event.target.checked),
    })),
    shown.map(([title, , style]) => (style === "placed"
      ? h("th", { scope: "col", class: style, "aria-sort": isOldestFirst ? "ascending" : "descending" }, sortButton)
      : h("th", { scope: "col", class: style }, title))));
  const rows = orders.map((order) => h("tr", { "data-key": order.id },
    h("td", { class: "select" }, h("input", {
      type: "checkbox", id: `select-${order.id}`, "aria-label": t("Select order {number}", { number: order.number }), onchange: (event) => onSelect(order, event.target.checked),
    })),
    shown.map(([title, cell, style], index) => (index === 0
      ? h("th", { scope: "row" }, cell(order))
      : h("td", { class: style, "data-label": title }, cell(order))))));
  const element = h("table", { class: "stack orders" }, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, rows));
  showSelection(element, selected);
  return h("div", { class: "scroll" }, element);
}

/** Shows which rows of the table in `element` are selected. */
export function showSelection(element, selected) {
  const rows = [...element.querySelectorAll("tbody tr")];
  for (const row of rows) {
    const isSelected = selected.has(row.dataset.key);
    row.classList.toggle("selected", isSelected);
    row.querySelector("input").checked = isSelected;
  }
  const all = element.querySelector("#select-all");
  if (!all) return;
  all.checked = rows.length > 0 && rows.every((row) => selected.has(row.dataset.key));
  all.indeterminate = !all.checked && rows.some((row) => selected.has(row.dataset.key));
}
