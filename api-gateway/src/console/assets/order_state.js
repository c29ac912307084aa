// Facts about an order that several parts of its page need, derived from its representation and its history.

import { name, t } from "./i18n.js";

/** Whether the order is paid outside of a payment provider. */
export const isManual = (order) => order.payment.provider === "manual";
export const isOpen = (order) => ["pending", "processing"].includes(order.status);
export const hasShipped = (order) => order.shipments.some((shipment) => shipment.shipped_at && shipment.status !== "cancelled");

/** Amount that was captured and not refunded. */
export const refundable = (order) => order.payment.captured - order.payment.refunded;

/** Amount of the refunds that are due and not made yet. */
export const refundDue = (order) => sum(order.transactions.filter(({ kind, status }) => kind === "refund" && status === "pending"), "amount");

/** Amount that the customer still has to pay, or that is still to be captured. Cancelled units are not paid for. */
export function outstanding(order) {
  if (order.status === "cancelled") return 0;
  const cancelled = (order.cancelled_items ?? []).map(({ sku, quantity }) => {
    const ordered = quantities(order).get(sku) ?? 0;
    return shareOf(order, sku, ordered - quantity, quantity);
  });
  return Math.max(order.total - cancelled.reduce((all, share) => all + share, 0) - order.payment.captured, 0);
}

/** The ordered quantity of each product, in all of its line items together. */
export const quantities = (order) => bySku(order.items);

/** The units of each product that have been shipped. */
export const shippedUnits = (order) => bySku(order.shipments.filter(({ shipped_at, status }) => shipped_at && status !== "cancelled").flatMap(({ items }) => items));

/** The units of each product that are still to be shipped. */
export function remainingUnits(order) {
  const shipped = shippedUnits(order), cancelled = bySku(order.cancelled_items ?? []);
  return new Map([...quantities(order)]
    .map(([sku, quantity]) => [sku, quantity - (shipped.get(sku) ?? 0) - (cancelled.get(sku) ?? 0)])
    .filter(([, quantity]) => quantity > 0));
}

/** The units of each product whose share was refunded: in refunds by items, in returns, or returned by the carrier. */
export function refundedUnits(order, history) {
  const items = history.flatMap(({ type, data }) => {
    if (type === "payment.refund_requested" || type === "shipment.returned") return data.items ?? [];
    if (type === "return.received") return data.items.map(({ sku, refunded }) => ({ sku, quantity: refunded }));
    return [];
  });
  return bySku(items);
}

/**
 * The share of `count` units of a product in the order's total, after `before` other units of it. Each unit has an
 * equal part, and the first ones have the minor units that remain.
 */
export function shareOf(order, sku, before, count) {
  const lines = order.items.filter((line) => line.sku === sku);
  const units = sum(lines, "quantity"), total = sum(lines, "total");
  if (!units) return 0;
  const shareOfFirst = (number) => Math.floor(total / units) * number + Math.min(number, total % units);
  return shareOfFirst(before + count) - shareOfFirst(before);
}

/** The name of a product when it was ordered. */
export const productName = (order, sku) => order.items.find((line) => line.sku === sku)?.name ?? sku;

/** Progress of the shipping of an order: not_shipped, partially_shipped, shipped, delivered, returned or cancelled. */
export function fulfilment(order) {
  if (order.status === "cancelled") return "cancelled";
  const shipments = order.shipments.filter(({ shipped_at, status }) => shipped_at && status !== "cancelled");
  if (!shipments.length) return "not_shipped";
  if (shipments.every(({ status }) => status === "returned")) return "returned";
  if (remainingUnits(order).size) return "partially_shipped";
  return shipments.every(({ status }) => ["delivered", "returned"].includes(status)) ? "delivered" : "shipped";
}

export const firstEvent = (history, ...types) => history.find((event) => types.includes(event.type));
export const lastEvent = (history, ...types) => history.findLast((event) => types.includes(event.type));

/** A step without the warehouse or the number that it may have: request_shipment of request_shipment:berlin. */
export const stepKind = (step) => step.split(":")[0];

const STEPS = {
  authorize_payment: t("Payment authorization"), check_payment: t("Payment check"), capture_payment: t("Payment capture"),
  void_payment: t("Voiding of the payment"), refund_payment: t("Refund to the customer"), reserve_stock: t("Stock reservation"),
  request_shipment: t("Shipping label request"), cancel_shipment: t("Label cancellation"), expire_order: t("Expiry of the order"),
  authorize_edit: t("Authorization of the edit"), void_authorization: t("Voiding of an unused authorization"), expire_edit: t("Expiry of the edit"),
};

/** A step in words, with its warehouse or number. */
export function stepName(step) {
  const [kind, ...detail] = step.split(":");
  const title = STEPS[kind] ?? name(kind);
  return detail.length ? `${title} (${detail.join(", ")})` : title;
}

const PROVIDERS = { stripe: "Stripe", sandbox: t("the sandbox provider") };
/** A payment provider in a sentence, "authorized by Stripe". */
export const providerName = (provider) => PROVIDERS[provider] ?? provider;

/** Items in one line: 2 × TSHIRT, 1 × MUG. */
export const itemList = (items) => items.map(({ quantity, sku }) => `${quantity} × ${sku}`).join(", ");

function sum(entries, key) {
  return entries.reduce((all, entry) => all + entry[key], 0);
}

function bySku(items) {
  const found = new Map();
  for (const { sku, quantity } of items) found.set(sku, (found.get(sku) ?? 0) + quantity);
  return found;
}
