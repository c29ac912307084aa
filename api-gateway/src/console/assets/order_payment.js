// The payment of an order: amounts, transactions, payments and refunds that are recorded by hand, and refunds.

import { badge, h, money, table, time } from "./dom.js";
import { name, t } from "./i18n.js";
import { refundDialog } from "./order_refund.js";
import { isManual, outstanding, providerName, refundable, refundDue } from "./order_state.js";

/** The actions on the payment that the order's state allows. `isDue` marks those that the order waits for. */
export function paymentActions(page) {
  const { order, isOperator } = page;
  if (!isOperator || order.is_deleted) return [];
  return [
    isManual(order) && order.total > 0 && (outstanding(order) > 0 || order.status === "cancelled") && { label: t("Record payment"), isDue: outstanding(order) > 0 && order.status === "pending", options: recordPayment(order) },
    isManual(order) && order.status !== "pending" && refundable(order) > 0 && { label: t("Record refund"), isDue: refundDue(order) > 0, options: recordRefund(order) },
    !isManual(order) && refundable(order) - refundDue(order) > 0 && { label: t("Refund …"), key: "refund", run: () => refundDialog(page) },
  ].filter(Boolean);
}

const recordPayment = (order) => ({
  title: t("Record a payment?"), submitLabel: t("Record payment"), path: `/v1/orders/${order.id}/payments`, intent: "record_payment", done: t("Payment recorded."),
  text: outstanding(order) > 0
    ? t("{amount} is outstanding. When the order is paid in full, it is prepared for shipping.", { amount: money(outstanding(order), order.currency) })
    : t("This order is cancelled. You have to pay back to the customer whatever you record here."),
  fields: [
    { name: "amount", label: t("Amount received ({currency})", { currency: order.currency }), type: "money", currency: order.currency, min: 1, required: true, value: outstanding(order) || "" },
    { name: "reference", label: t("Reference"), help: t("For example the number of the bank transfer or of the receipt") },
    { name: "received_at", label: t("Received on"), type: "datetime-local", help: t("Leave empty to record the current time") },
    { name: "overpaid", label: t("Accept more than the outstanding amount"), type: "check", value: outstanding(order) === 0, help: t("Unless this is checked, a larger payment is not recorded.") },
  ],
  toBody: ({ received_at, ...values }) => ({ ...values, ...(received_at ? { received_at: new Date(received_at).toISOString() } : {}) }),
});

const recordRefund = (order) => ({
  title: t("Record a refund?"), submitLabel: t("Record refund"), path: `/v1/orders/${order.id}/refunds`, intent: "record_refund", done: t("Refund recorded."),
  text: [
    t("Records money that you have paid back to the customer. Nothing is sent to the customer."),
    refundDue(order) > 0 && h("p", {}, t("{amount} is due.", { amount: money(refundDue(order), order.currency) })),
    h("p", {}, t("Up to {amount} can be refunded.", { amount: money(refundable(order), order.currency) })),
  ],
  fields: [
    { name: "amount", label: t("Amount ({currency})", { currency: order.currency }), type: "money", currency: order.currency, min: 1, max: refundable(order), required: true, value: refundDue(order) || refundable(order) },
    { name: "reference", label: t("Reference") }, { name: "reason", label: t("Reason") },
  ],
});

export function paymentCard({ order, history }) {
  const { payment } = order;
  const row = (title, value) => [h("dt", {}, title), h("dd", {}, value)];
  const amount = (value) => money(value, order.currency);
  const method = history.find(({ type }) => type === "order.created")?.data.payment_method;
  return h("section", { class: "card", "aria-label": t("Payment") }, h("h2", {}, t("Payment"), " ", badge(payment.status)),
    h("p", {}, summary(order)),
    h("dl", {},
      row(t("Provider"), isManual(order) ? t("Manual payment: bank transfer, cash or invoice") : payment.provider),
      method && !isManual(order) && row(t("Payment method"), h("span", { class: "mono" }, method)),
      payment.reference && row(t("Payment ID at the provider"), h("span", { class: "mono" }, payment.reference)),
      !isManual(order) && row(t("Authorized"), amount(payment.authorized)),
      row(isManual(order) ? t("Received in total") : t("Captured"), amount(payment.captured)),
      row(t("Refunded"), amount(payment.refunded))),
    order.transactions.length > 0 && table(t("Transactions"), [
      [t("Type"), (transaction) => name(transaction.kind)],
      [t("Amount"), (transaction) => amount(transaction.amount), "number"],
      [t("Status"), (transaction) => badge(transaction.status, { success: "good", pending: "warn", failed: "bad" }[transaction.status])],
      [t("Reference"), (transaction) => h("span", { class: "mono" }, transaction.reference ?? "–")],
      [t("Time"), (transaction) => time(transaction.received_at ?? transaction.created_at)],
    ], order.transactions));
}

/** The state of the payment in a sentence. */
function summary(order) {
  const { payment } = order;
  const amount = (value) => money(value, order.currency);
  const provider = providerName(payment.provider);
  if (order.total === 0) return t("This order is free.");
  if (payment.status === "failed") return t("The payment was declined. The customer has not paid.");
  if (payment.status === "voided") return t("The authorization was voided. The customer has not paid.");
  if (isManual(order)) return outstanding(order) > 0 && order.status === "pending"
    ? t("{paid} of {total} received, {outstanding} outstanding.", { paid: amount(payment.captured), total: amount(order.total), outstanding: amount(outstanding(order)) })
    : t("{paid} of {total} received.", { paid: amount(payment.captured), total: amount(order.total) });
  if (payment.status === "pending") return t("The payment is not authorized yet.");
  if (payment.captured === 0) return t("{amount} authorized by {provider}. The payment is captured when the items are shipped.", { amount: amount(payment.authorized), provider });
  return t("{amount} captured by {provider}.", { amount: amount(payment.captured), provider });
}
