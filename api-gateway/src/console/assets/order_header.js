// The head of an order's page: number, statuses, date, the next action and the other actions that its state allows.

import { badge, h, money, relative, toast } from "./dom.js";
import { t } from "./i18n.js";
import { editOrder, isEditable } from "./order_edit.js";
import { paymentActions } from "./order_payment.js";
import { fulfilment, hasShipped, isManual, isOpen, outstanding, refundDue } from "./order_state.js";
import { shipAction } from "./order_shipments.js";
import { requestReturn } from "./return_actions.js";

export function header(page) {
  const { order } = page;
  const [next, others, ends] = actions(page);
  return h("div", { class: "order-head" },
    h("div", {},
      h("p", {}, h("a", { href: "#/orders" }, t("Orders"))),
      h("h1", {}, t("Order #{number}", { number: order.number }), " ", badge(order.status),
        order.awaits_approval && [" ", badge("awaiting_approval", "warn")], order.is_deleted && [" ", badge("deleted", "bad")]),
      h("p", { class: "statuses" },
        h("span", {}, t("Payment"), " ", badge(order.payment.status)),
        h("span", {}, t("Fulfilment"), " ", fulfilmentBadge(order)),
        h("span", { class: "soft" }, t("Placed {time}", { time: relative(order.created_at) })))),
    h("div", { class: "actions", role: "group", "aria-label": t("Actions") }, next, others,
      h("a", { class: "button", href: `#/orders/${order.id}/print/packing-slip` }, t("Packing slip")),
      h("a", { class: "button", href: `#/orders/${order.id}/print/summary` }, t("Order summary")), ends));
}

const FULFILMENT_COLORS = { not_shipped: "", partially_shipped: "warn", shipped: "info", delivered: "good", returned: "bad", cancelled: "bad" };

function fulfilmentBadge(order) {
  const status = fulfilment(order);
  return badge(status, FULFILMENT_COLORS[status]);
}

/**
 * The button of the next action, if the order waits for one, those of other actions, and those that end the order or
 * a part of it. The server checks them again.
 */
function actions(page) {
  const { order, isOperator } = page;
  if (order.is_deleted) return [isOperator && button(page, restore(order), "main"), [], []];
  const next = nextAction(page);
  const path = `/v1/orders/${order.id}`;
  const isRefundInNotice = page.failures.some(({ step }) => step === "refund_payment");
  const others = [
    isOperator && order.awaits_approval && { label: t("Reject"), kind: "danger", options: {
      title: t("Reject this order?"), text: t("The order is cancelled and its stock is released. The customer is not charged."), submitLabel: t("Reject"), isDanger: true, reason: true, path: `${path}/reject`, intent: "reject",
    } },
    isOperator && order.status === "processing" && shipAction(page),
    ...paymentActions(page).filter(({ options }) => !(isRefundInNotice && options?.intent === "record_refund")),
    isEditable(order) && { label: t("Edit order"), key: "edit", run: () => editOrder(page) },
    hasShipped(order) && { label: t("Return items"), key: "request_return", run: async () => { if (await requestReturn(order)) toast(t("Return created.")); page.refresh(); } },
    ...cancellations(page),
  ].filter((action) => action && action.label !== next?.label);
  const buttons = (isEnd) => others.filter(({ kind }) => (kind === "danger") === isEnd).map((action) => button(page, action, action.kind));
  return [next && button(page, next, "main"), buttons(false), buttons(true)];
}

const button = (page, { label, key, options, run }, kind) => h("button", { id: `do-${key ?? options.intent}`, class: kind, onclick: run ?? (() => page.act(options)) }, label);

const restore = (order) => ({ label: t("Restore"), options: {
  title: t("Restore this order?"), text: t("The order appears in the order lists again, unchanged."), submitLabel: t("Restore"), path: `/v1/orders/${order.id}/restore`, intent: "restore",
} });

/** The action that moves the order on. A failed step comes first, and has its buttons in its notice. */
function nextAction(page) {
  const { order, isOperator, failures } = page;
  if (!isOperator || failures.length) return null;
  if (order.awaits_approval) return { label: t("Approve"), options: {
    title: t("Approve this order?"), text: isManual(order) ? t("A shipping label is requested from the carrier when the order is paid.")
      : t("The payment of {amount} is authorized now. When it succeeds, a shipping label is requested from the carrier.", { amount: money(order.total, order.currency) }),
    submitLabel: t("Approve"), path: `/v1/orders/${order.id}/approve`, intent: "approve",
  } };
  const payments = paymentActions(page);
  if (outstanding(order) > 0 || refundDue(order) > 0) {
    const due = payments.find(({ isDue }) => isDue);
    if (due) return due;
  }
  const openReturn = order.returns?.find(({ status }) => status === "requested") ?? order.returns?.find(({ status }) => status === "approved");
  if (openReturn?.status === "requested") return { label: t("Go to the return request"), key: "decide_return", run: () => focus(`approve-${openReturn.id}`) };
  if (order.status === "processing") return shipAction(page);
  if (openReturn) return { label: t("Go to the return"), key: "receive_return", run: () => focus(`receive-${openReturn.id}`) };
  return null;
}

/** Leads to a button further down the page. */
function focus(id) {
  const element = document.getElementById(id);
  element?.scrollIntoView({ block: "center" });
  element?.focus();
}

/** The actions that end the order or a part of it. */
function cancellations(page) {
  const { order, isOperator } = page;
  const path = `/v1/orders/${order.id}`;
  return [
    order.pending_edit && { label: t("Cancel pending edit"), kind: "danger", options: {
      title: t("Cancel the pending edit?"), text: t("The order does not change. Items that were reserved for the edit are available again, and its payment authorization is voided."),
      submitLabel: t("Cancel pending edit"), isDanger: true, reason: true, path: `${path}/edit/cancel`, intent: "cancel_edit",
    } },
    isOperator && order.status === "processing" && hasShipped(order) && { label: t("Cancel remaining items"), kind: "danger", options: {
      title: t("Cancel the items that have not shipped?"), text: t("Their stock is released. The customer is charged for the shipped items only; the rest of the payment authorization is voided."),
      submitLabel: t("Cancel remaining items"), isDanger: true, reason: true, path: `${path}/cancel-remaining`, intent: "cancel_remaining",
    } },
    isOpen(order) && !hasShipped(order) && !order.awaits_approval && { label: t("Cancel order"), kind: "danger", options: {
      title: t("Cancel this order?"), text: cancelText(order), submitLabel: t("Cancel order"), isDanger: true, reason: true, path: `${path}/cancel`, intent: "cancel",
    } },
    isDeletable(order) && { label: t("Delete"), kind: "danger", options: {
      title: t("Delete this order?"), text: isOpen(order) ? t("The order is cancelled first, then removed from the lists. An operator can restore it to the lists; it stays cancelled.") : t("The order is removed from the lists. An operator can restore it."),
      submitLabel: t("Delete"), isDanger: true, method: "DELETE", path, intent: "delete",
    } },
  ];
}

function cancelText(order) {
  const refund = money(order.payment.captured, order.currency);
  if (isManual(order)) return order.payment.captured > 0
    ? t("The stock is released. {amount} has to be paid back to the customer. A cancelled order cannot be reopened.", { amount: refund })
    : t("The stock is released. A cancelled order cannot be reopened.");
  return order.payment.status === "authorized"
    ? t("The stock is released and the payment authorization is voided. A cancelled order cannot be reopened.")
    : t("The stock is released. If the payment is authorized in the meantime, the authorization is voided. A cancelled order cannot be reopened.");
}

function isDeletable(order) {
  const units = (items) => items.reduce((sum, item) => sum + item.quantity, 0);
  const received = order.returns?.flatMap((entry) => entry.received ?? []) ?? [];
  const areAllReturned = units(received) >= units(order.shipments.filter(({ status }) => status !== "cancelled").flatMap(({ items }) => items));
  const areShipmentsFinished = order.status === "shipped"
    && (areAllReturned || order.shipments.every(({ status }) => ["delivered", "returned", "failed", "cancelled"].includes(status)));
  return ["cancelled", "delivered"].includes(order.status) || areShipmentsFinished || (isOpen(order) && !hasShipped(order));
}

