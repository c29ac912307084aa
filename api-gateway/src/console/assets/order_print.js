// The printed documents of an order: the packing slip, without prices, and the summary with all amounts.

import { fill, h, money, scrolling } from "./dom.js";
import { exactTime, locale, name, t } from "./i18n.js";
import { addressLines } from "./order_customer.js";
import { totals } from "./order_items.js";

const date = new Intl.DateTimeFormat(locale, { dateStyle: "long" });

/** Opens the document `kind`, packing-slip or summary; a packing slip can be that of one shipment. */
export function openPrintView(root, page, kind, shipmentId) {
  const { order } = page;
  const isSlip = kind === "packing-slip";
  const shipment = order.shipments.find(({ id }) => id === shipmentId);
  const title = isSlip ? t("Packing slip") : t("Order summary");
  document.title = `${title} #${order.number}`;
  fill(root,
    h("div", { class: "bar no-print" },
      h("a", { class: "button", href: `#/orders/${order.id}` }, t("Back to the order")),
      h("button", { class: "main", onclick: () => print() }, t("Print"))),
    h("article", { class: "sheet" },
      h("header", {}, h("h1", {}, title), h("p", {}, t("Order #{number}", { number: order.number }), h("br"), date.format(new Date(order.created_at)))),
      h("div", { class: "order-parties" },
        party(t("Ship to"), addressLines(order.shipping_address)),
        party(t("Customer"), customerLines(page, isSlip)),
        shipment && party(t("Shipment"), [shipment.carrier, shipment.tracking_number].filter(Boolean))),
      isSlip ? slip(order, shipment) : summary(order),
      h("footer", {}, isSlip ? t("Please check the items when they arrive.") : t("This summary is not a tax invoice."))));
  return {};
}

function party(title, lines) {
  return h("div", {}, h("h2", {}, title), lines.length ? lines.map((line) => h("div", {}, line)) : h("div", {}, "–"));
}

function customerLines({ customer }, isSlip) {
  if (!customer || customer.erased_at) return [];
  return isSlip ? [customer.name] : [customer.name, customer.email, customer.phone].filter(Boolean);
}

/** A table that stays a table on every width. */
function printedTable(caption, titles, rows) {
  return scrolling(h("table", {}, h("caption", {}, caption),
    h("thead", {}, h("tr", {}, titles.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, index) => (index === 0 ? h("th", { scope: "row" }, cell) : h("td", { class: titles[index][1] }, cell))))))));
}

/** The items to pack: those of a shipment, or all that are not cancelled. */
function slip(order, shipment) {
  const names = new Map(order.items.map(({ sku, name }) => [sku, name]));
  const cancelled = new Map((order.cancelled_items ?? []).map(({ sku, quantity }) => [sku, quantity]));
  const lines = (shipment?.items ?? order.items).map((line) => {
    const removed = shipment ? 0 : Math.min(cancelled.get(line.sku) ?? 0, line.quantity);
    cancelled.set(line.sku, (cancelled.get(line.sku) ?? 0) - removed);
    return { ...line, quantity: line.quantity - removed };
  }).filter(({ quantity }) => quantity > 0);
  return printedTable(t("Items"), [[t("Product")], [t("SKU")], [t("Warehouse")], [t("Quantity"), "number"], [t("Packed")]],
    lines.map(({ sku, warehouse, quantity }) => [names.get(sku) ?? sku, sku, warehouse ?? "–", quantity, h("span", { class: "box", "aria-hidden": "true" })]));
}

function summary(order) {
  const amount = (value) => money(value, order.currency);
  return [
    printedTable(t("Items"), [[t("Product")], [t("SKU")], [t("Quantity"), "number"], [t("Unit price"), "number"], [t("Discount"), "number"], [t("Tax"), "number"], [t("Total"), "number"]],
      order.items.map((line) => [line.name, line.sku, line.quantity, amount(line.unit_price), line.discount_total ? amount(-line.discount_total) : "–", line.tax_total ? amount(line.tax_total) : "–", amount(line.total)])),
    totals(order),
    h("p", {}, t("Payment: {status}. As of {time}.", { status: name(order.payment.status), time: exactTime(new Date().toISOString()) })),
  ];
}
