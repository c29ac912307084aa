// The events of an order in sentences, for its timeline.

import { money } from "./dom.js";
import { name, shortTime, t } from "./i18n.js";
import { itemList, providerName, stepName } from "./order_state.js";

/** Appends a free text, such as a reason, to a sentence. */
const because = (sentence, text) => (text ? t("{sentence}: {text}", { sentence, text }) : sentence);

const items = (list) => (list?.length ? itemList(list) : t("items"));

/** The tracking number of a shipment, or its carrier before it has one. */
function shipmentName({ shipment_id }, order) {
  const shipment = order.shipments.find(({ id }) => id === shipment_id);
  return shipment ? [shipment.carrier, shipment.tracking_number].filter(Boolean).join(" ") || t("without a number") : t("without a number");
}

const returnNumber = ({ return_id }, order) => order.returns?.find(({ id }) => id === return_id)?.number ?? "";

/** Fields that order.updated names. */
const FIELDS = { shipping_address: t("shipping address"), metadata: t("metadata"), note: t("note"), tags: t("tags") };

/** The sentence of each event type: (data, order, amount) => text. `amount` formats minor units of the order's currency. */
const SENTENCES = {
  "order.created": (data, order, amount) => t("Order placed: {items}, {total}", { items: items(data.items), total: amount(data.total) }),
  "order.approved": () => t("Order approved"),
  "order.processing": () => t("Order ready to be shipped"),
  "order.shipped": () => t("All items shipped"),
  "order.delivered": () => t("All items delivered"),
  "order.cancelled": (data) => because(t("Order cancelled ({reason})", { reason: name(data.reason) }), data.note),
  "order.deleted": () => t("Order deleted"),
  "order.restored": () => t("Order restored"),
  "order.updated": (data) => data.changed.length
    ? t("Changed: {fields}", { fields: data.changed.map((field) => FIELDS[field] ?? name(field)).join(", ") })
    : t("Order changed"),
  "order.redacted": () => t("Personal data of the customer erased"),
  "order.edit_requested": (data, order, amount) => because(t("Edit requested: the new total of {total} is being authorized", { total: amount(data.total) }), data.reason),
  "order.edited": (data, order, amount) => because(t("Order edited: total {total} instead of {previous}", { total: amount(data.total), previous: amount(data.previous_total) }), data.reason),
  "order.edit_rejected": (data) => because(t("Edit rejected ({reason}); the order is unchanged", { reason: name(data.reason) }), data.note),

  "payment.prepared": (data) => t("Payment {reference} created by {provider}", { reference: data.reference, provider: providerName(data.provider) }),
  "payment.action_required": (data) => t("Waiting for the customer to complete the payment: {action}", { action: name(data.type) }),
  "payment.authorized": (data, order, amount) => t("Payment of {amount} authorized by {provider}", { amount: amount(data.amount), provider: providerName(data.provider) }),
  "payment.declined": (data) => because(t("Payment declined ({code})", { code: name(data.code) }), data.message),
  "payment.captured": (data, order, amount) => order.payment.provider === "manual"
    ? because(t("Payment of {amount} received", { amount: amount(data.amount) }), data.reference)
    : t("Payment of {amount} captured", { amount: amount(data.amount) }),
  "payment.voided": () => t("Payment authorization voided"),
  "payment.released": () => t("Unused payment authorization voided"),
  "payment.refund_requested": (data, order, amount) => because(data.items?.length
    ? t("Refund of {amount} requested for {items}", { amount: amount(data.amount), items: items(data.items) })
    : t("Refund of {amount} requested", { amount: amount(data.amount) }), data.reason ?? (data.cause && data.cause !== "requested" ? REFUND_CAUSES[data.cause] ?? name(data.cause) : undefined)),
  "payment.refund_failed": (data, order, amount) => t("Refund of {amount} reversed by the provider: the customer has not received it", { amount: amount(data.amount) }),
  "payment.refunded": (data, order, amount) => because(t("{amount} refunded to the customer", { amount: amount(data.amount) }), data.reference ?? data.reason),

  "stock.reserved": (data) => t("Stock reserved: {items}", { items: stock(data.items) }),
  "stock.released": (data) => because(t("Stock released: {items}", { items: stock(data.items) }), data.reason),

  "shipment.created": (data) => t("Shipping label {shipment} created for {items}", { shipment: [data.shipment.carrier, data.shipment.tracking_number].filter(Boolean).join(" "), items: items(data.shipment.items) }),
  "shipment.shipped": (data) => t("{items} shipped with {shipment}", { items: items(data.items), shipment: [data.carrier, data.tracking_number].filter(Boolean).join(" ") || t("an unnamed carrier") }),
  "shipment.in_transit": (data, order) => t("Shipment {shipment} is in transit", { shipment: shipmentName(data, order) }),
  "shipment.out_for_delivery": (data, order) => t("Shipment {shipment} is out for delivery", { shipment: shipmentName(data, order) }),
  "shipment.delivered": (data, order) => t("Shipment {shipment} delivered", { shipment: shipmentName(data, order) }),
  "shipment.failed": (data, order) => t("Delivery of shipment {shipment} failed", { shipment: shipmentName(data, order) }),
  "shipment.returned": (data, order) => data.items?.length
    ? t("Shipment {shipment} returned; restocked: {items}", { shipment: shipmentName(data, order), items: stock(data.items) })
    : t("Shipment {shipment} returned", { shipment: shipmentName(data, order) }),
  "shipment.cancelled": (data, order) => because(t("Shipping label {shipment} cancelled", { shipment: shipmentName(data, order) }), data.reason),

  "return.requested": (data) => because(t("Return {number} requested: {items}", { number: data.number, items: items(data.items) }), data.note),
  "return.approved": (data, order) => t("Return {number} approved", { number: returnNumber(data, order) }),
  "return.rejected": (data, order) => because(t("Return {number} rejected", { number: returnNumber(data, order) }), data.reason),
  "return.cancelled": (data, order) => because(t("Return {number} cancelled", { number: returnNumber(data, order) }), data.reason),
  "return.received": (data, order, amount) => t("Return {number} received: {items}, refund {amount}", { number: returnNumber(data, order), items: items(data.items), amount: amount(data.refund_amount) }),

  "step.retried": (data) => t("{step} failed, next attempt on {time}: {error}", { step: stepName(data.step), time: shortTime(data.due_at), error: data.error }),
  "step.dead": (data) => t("{step} failed permanently: {error}", { step: stepName(data.step), error: data.error }),
  "step.redriven": (data) => t("{step} started again", { step: stepName(data.step) }),
  "step.discarded": (data, order, amount) => data.amount
    ? t("{step} given up: {amount} written off", { step: stepName(data.step), amount: amount(data.amount) })
    : t("{step} given up", { step: stepName(data.step) }),
};

const REFUND_CAUSES = {
  returned: t("shipment returned by the carrier"), cancelled: t("order cancelled"), provider: t("made in the provider's dashboard"),
  return: t("return received"), edited: t("order edited"),
};

const stock = (list) => (list ?? []).map(({ quantity, sku, warehouse }) => t("{quantity} × {sku} in {warehouse}", { quantity, sku, warehouse })).join(", ");

/** Whether this page has a sentence for events of `type`. */
export const isKnown = (type) => Object.hasOwn(SENTENCES, type);

/** An event of `order` as a sentence. Events of a type that is unknown here, of a newer server, have their name. */
export function sentence({ type, data }, order) {
  const amount = (minorUnits) => money(minorUnits, order.currency);
  return isKnown(type) ? SENTENCES[type](data, order, amount) : name(type.replace(".", " "));
}

/** The actor of an event in words; nothing for the workflow itself, whose sentences need none. */
export const actorName = ({ actor }) => ({ worker: "", shipper: t("the carrier") })[actor] ?? actor;
