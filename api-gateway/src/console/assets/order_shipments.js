// The shipments of an order and their actions: shipping everything or a part, tracking, delivery, return, and
// cancelled labels.

import { badge, h, money, table, time } from "./dom.js";
import { t } from "./i18n.js";
import { productName, remainingUnits } from "./order_state.js";

/** The action that ships the remaining items, or a part of them. */
export function shipAction({ order }) {
  const lines = [...remainingUnits(order)].map(([sku, remaining]) => ({ sku, remaining, name: `quantity ${sku}` }));
  const isAll = (values) => lines.every(({ name, remaining }) => values[name] === remaining);
  return { label: t("Ship"), options: {
    title: t("Ship the remaining items?"), text: t("The items are taken out of stock, and their payment is captured. Lower a quantity to ship the rest later."),
    submitLabel: t("Ship"), path: `/v1/orders/${order.id}/shipments`, intent: "ship", done: t("Shipped."),
    fields: [
      ...lines.map(({ sku, remaining, name }) => ({ name, label: t("Units of {product} to ship", { product: productName(order, sku) }), type: "number", min: 0, max: remaining, value: remaining, required: true })),
      { name: "carrier", label: t("Carrier"), help: t("Leave empty to use the carrier of the shipping label") },
      { name: "tracking_number", label: t("Tracking number") },
      { name: "tracking_url", label: t("Tracking page"), help: t("URL of the carrier's page about this shipment") },
      { name: "warehouse", label: t("Warehouse"), help: t("Leave empty to ship from the warehouses that hold the reserved items") },
      { name: "allow_unpaid", label: t("Ship without payment"), type: "check", help: t("Only for an order whose payment is missing or has failed. Unless this is checked, the server refuses to ship such an order.") },
    ],
    toBody: ({ carrier, tracking_number, tracking_url, warehouse, allow_unpaid, ...units }) => {
      const items = lines.map(({ sku, name }) => ({ sku, quantity: units[name] ?? 0 })).filter(({ quantity }) => quantity > 0);
      return { carrier, tracking_number, tracking_url, warehouse, allow_unpaid, ...(isAll(units) ? {} : { items }) };
    },
    confirm: ({ allow_unpaid }) => allow_unpaid && {
      title: t("Ship without payment?"), submitLabel: t("Ship without payment"), isDanger: true,
      text: t("The items leave the warehouse even if no payment is authorized or captured for them. If the payment cannot be captured later, the shop is not paid: up to {amount}.", { amount: money(order.total, order.currency) }),
    },
  } };
}

export function shipmentCard(page) {
  const { order, isOperator } = page;
  const remaining = [...remainingUnits(order)];
  const title = h("h2", {}, t("Shipments"));
  const toShip = ["pending", "processing"].includes(order.status) && remaining.length > 0
    && h("p", { class: "soft" }, t("To be shipped: {items}", { items: remaining.map(([sku, quantity]) => `${quantity} × ${productName(order, sku)}`).join(", ") }));
  if (!order.shipments.length) return h("section", { class: "card", "aria-label": t("Shipments") }, title, toShip || h("p", { class: "soft" }, t("No shipments.")));
  return h("section", { class: "card", "aria-label": t("Shipments") }, title, toShip, table("", [
    [t("Shipment"), (shipment) => [
      shipment.carrier, " ", shipment.tracking_url ? link(shipment.tracking_url, shipment.tracking_number || t("Tracking page"), "mono") : h("span", { class: "mono" }, shipment.tracking_number || "–")]],
    [t("Items"), (shipment) => shipment.items.map(({ quantity, sku, warehouse }) => h("div", {}, t("{quantity} × {sku} from {warehouse}", { quantity, sku, warehouse })))],
    [t("Status"), (shipment) => [badge(shipment.status),
      shipment.shipped_at && h("div", { class: "help" }, t("Shipped {time}", { time: time(shipment.shipped_at) })),
      shipment.delivered_at && h("div", { class: "help" }, t("Delivered {time}", { time: time(shipment.delivered_at) }))]],
    [t("Actions"), (shipment) => h("div", { class: "actions" },
      shipment.label_url && link(shipment.label_url, t("Print label"), "button"),
      shipment.status !== "cancelled" && h("a", { class: "button", href: `#/orders/${order.id}/print/packing-slip/${shipment.id}`, "aria-label": t("Packing slip of {shipment}", { shipment: shipmentName(shipment) }) }, t("Packing slip")),
      isOperator && !order.is_deleted && shipmentActions(page, shipment))],
  ], order.shipments));
}

/** A link to a page of the carrier, in a new tab. The server accepts http and https URLs only. */
function link(href, text, kind) {
  return h("a", { href, class: kind, target: "_blank", rel: "noopener noreferrer" }, text);
}

const shipmentName = (shipment) => shipment.tracking_number || t("shipment");

const isInTransit = ({ status }) => ["shipped", "in_transit", "out_for_delivery", "failed"].includes(status);

/** The actions on a shipment that its status allows. A failed one has its buttons in the notice about it. */
function shipmentActions(page, shipment) {
  const name = shipmentName(shipment);
  return [
    shipment.status !== "failed" && shipmentEvents(page, shipment),
    shipment.status === "label_created" && h("button", {
      id: `cancel-${shipment.id}`, "aria-label": t("Cancel label {shipment}", { shipment: name }),
      onclick: () => page.act({
        title: t("Cancel the shipping label of {shipment}?", { shipment: name }), text: t("The label is cancelled at the carrier. Its items stay reserved and can be shipped in another way."),
        submitLabel: t("Cancel label"), isDanger: true, reason: true, path: `/v1/orders/${page.order.id}/shipments/${shipment.id}/cancel`, intent: "cancel_shipment",
      }),
    }, t("Cancel label")),
  ];
}

/** Buttons that record the outcome of a delivery. */
export function shipmentEvents(page, shipment) {
  const name = shipmentName(shipment);
  const record = (type, label, text, isDanger) => h("button", {
    id: `${type}-${shipment.id}`, "aria-label": `${label} ${name}`,
    onclick: () => page.act({ title: `${label}: ${name}?`, text, submitLabel: label, isDanger, path: `/v1/orders/${page.order.id}/shipments/${shipment.id}/events`, intent: "shipment_event", body: { type } }),
  }, label);
  return [
    isInTransit(shipment) && record("shipment.delivered", t("Mark as delivered"), t("When all shipments of the order are delivered, the order is delivered too.")),
    isInTransit(shipment) && shipment.status !== "failed" && record("shipment.failed", t("Mark as failed"), t("Records a failed delivery. The shipment can still be marked as delivered or returned later.")),
    (isInTransit(shipment) || shipment.status === "delivered") && record("shipment.returned", t("Mark as returned"), t("Its items are put back into stock, and refunded to the customer if automatic refunds of returned shipments are enabled."), true),
  ];
}
