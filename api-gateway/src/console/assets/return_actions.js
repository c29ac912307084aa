// The actions on a return that its status allows, and the dialog that requests one. The server checks them again.

import { change } from "./api.js";
import { h, money, showDialog, toast } from "./dom.js";
import { t } from "./i18n.js";

const isOpenReturn = (entry) => ["requested", "approved"].includes(entry.status);

/** Buttons for a return; `afterAction` is called after each action. */
export function returnActions(entry, isOperator, afterAction) {
  const button = (label, options, kind = "") => h("button", {
    id: `${options.verb}-${entry.id}`, class: kind, "aria-label": `${label} ${entry.number}`, onclick: () => act(entry, options, afterAction),
  }, label);
  const isRequested = isOperator && entry.status === "requested";
  return [
    isRequested && button(t("Approve"), { verb: "approve", submitLabel: t("Approve"), done: t("Return approved."), text: t("The customer can send the items back. No message is sent to the customer.") }, "main"),
    isRequested && button(t("Reject"), {
      verb: "reject", submitLabel: t("Reject"), isDanger: true, done: t("Return rejected."), text: t("The return is declined: the customer keeps the items and gets no refund."),
      fields: [{ name: "reason", label: t("Reason for rejecting"), help: t("The storefront can show it to the customer") }],
    }, "danger"),
    isOperator && entry.status === "approved" && button(t("Receive items"), receipt(entry), "main"),
    isOpenReturn(entry) && button(t("Cancel return"), {
      verb: "cancel", submitLabel: t("Cancel return"), isDanger: true, done: t("Return cancelled."), text: t("The items are no longer expected. They can be returned with another return."),
      fields: [{ name: "reason", label: t("Reason") }],
    }, "danger"),
  ];
}

/** The dialog for the receipt of a return: units, restocking and warehouse of each item, and the refund. */
function receipt(entry) {
  const { currency } = entry;
  return {
    verb: "receive", submitLabel: t("Receive and refund"), done: t("Items received."),
    text: t("The refund is requested at once, unless you choose no refund. Estimated refund of all items: {amount}. This cannot be undone.", { amount: money(entry.refund_amount, currency) }),
    fields: [
      ...entry.items.flatMap(({ sku, quantity }, index) => [
        { name: `quantity-${index}`, label: t("Received units of {sku}", { sku }), type: "number", min: 0, max: quantity, value: quantity },
        { name: `restock-${index}`, label: t("Restock {sku}", { sku }), type: "check", value: true, help: t("Uncheck it if the items are damaged") },
        { name: `warehouse-${index}`, label: t("Warehouse for {sku}", { sku }), help: t("Leave empty for the warehouse that the items were shipped from") },
      ]),
      { name: "refund", label: t("Refund"), options: [["", t("Price paid for the items, with tax, without shipping")], ["amount", t("Another amount")], ["none", t("No refund")]] },
      { name: "amount", label: t("Another amount ({currency})", { currency }), type: "money", currency, min: 1 },
      { name: "fee", label: t("Restocking fee ({currency})", { currency }), type: "money", currency, help: t("Deducted from the refund of the price paid") },
    ],
    toBody: (values) => {
      const items = entry.items.map(({ sku }, index) => {
        const restock = values[`restock-${index}`];
        return { sku, quantity: values[`quantity-${index}`] ?? 0, restock, warehouse: restock ? values[`warehouse-${index}`] : undefined };
      });
      return {
        items: items.filter((item) => item.quantity > 0), fee: values.fee || undefined,
        refund: values.refund === "none" ? "none" : values.refund === "amount" ? { amount: values.amount } : undefined,
      };
    },
  };
}

async function act(entry, { verb, text, submitLabel, isDanger, done, fields = [], toBody = (values) => values }, afterAction) {
  // The action applies to the version that was on screen; a newer version is refused (412).
  const isDone = await showDialog({
    title: `${submitLabel}: ${entry.number}?`, text, submitLabel, isDanger, fields,
    act: (values) => change("POST", `/v1/returns/${entry.id}/${verb}`, toBody(values), { intent: `${verb}_return`, etag: `"${entry.version}"` }),
  });
  if (isDone) toast(done);
  afterAction();
}

/** The dialog that requests a return of shipped items of `order`. Resolves to the return, or to null. */
export async function requestReturn(order) {
  const shipped = new Map();
  for (const shipment of order.shipments.filter((shipment) => shipment.shipped_at && shipment.status !== "cancelled" && shipment.status !== "returned")) {
    for (const item of shipment.items) shipped.set(item.sku, (shipped.get(item.sku) ?? 0) + item.quantity);
  }
  const skus = [...shipped.keys()];
  return showDialog({
    title: t("Return items of order #{number}?", order), submitLabel: t("Create return"),
    text: skus.length ? t("Only items that were shipped can be returned. The return is approved under Returns.") : t("Nothing of this order was shipped: only shipped items can be returned."),
    fields: skus.length === 0 ? [] : [
      ...skus.map((sku, index) => ({ name: `quantity-${index}`, label: t("Quantity of {sku} to return", { sku }), type: "number", min: 0, max: shipped.get(sku), help: t("{count} shipped", { count: shipped.get(sku) }) })),
      { name: "reason", label: t("Reason for returning") }, { name: "note", label: t("Note"), help: t("The storefront can show it to the customer") },
    ],
    act: ({ reason, note, ...units }) => {
      const items = skus.map((sku, index) => ({ sku, quantity: units[`quantity-${index}`] ?? 0, reason }));
      return change("POST", `/v1/orders/${order.id}/returns`, { items: items.filter((item) => item.quantity > 0), note }, { intent: "request_return" });
    },
  });
}
