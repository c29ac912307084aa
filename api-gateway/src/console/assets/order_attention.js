// Notices at the top of an order's page: anything that failed, is late or waits, with its reason, advice and the
// buttons that fix it.

import { h, money, relative } from "./dom.js";
import { name, t } from "./i18n.js";
import { canEditAddress, editAddress } from "./order_customer.js";
import { paymentActions } from "./order_payment.js";
import { shipmentEvents } from "./order_shipments.js";
import { isManual, lastEvent, outstanding, stepKind, stepName } from "./order_state.js";

/** A step that has been due for longer than this is late. */
const LATE_MS = 60_000;

/** Advice by step kind, in terms of the buttons on this page. */
const ADVICE = {
  authorize_payment: t("The payment provider has neither authorized nor declined the payment. Try again when the provider is available. Otherwise the order expires with its stock reservation."),
  capture_payment: t("Shipped items are not paid for. Check the payment at the provider. If it is still authorized, try again. If not, ask the customer to pay in another way, then give the step up: the amount is written off."),
  void_payment: t("The payment of a cancelled order may still be authorized. Try again when the provider is available; or cancel the authorization in the provider's dashboard, then try again to confirm that."),
  refund_payment: t("A refund is due. If the provider names the cause, such as a closed account or an empty balance, resolve it and try again; or refund the customer in another way, then give the step up."),
  check_payment: t("The state of the payment at the provider is unknown. Try again when the provider is available: this step only reads."),
  request_shipment: t("The carrier has no label for the shipment. If it names the cause, such as the address, correct it and try again; or ship the items yourself with Ship."),
  cancel_shipment: t("The carrier may still expect a shipment that was cancelled. Try again; or cancel the label at the carrier, then give the step up."),
  authorize_edit: t("The higher total of an edit is neither authorized nor declined. Try again when the provider is available, or give the step up: the edit is rejected and the order stays as it is."),
  void_authorization: t("An authorization that is no longer needed may still be open. Try again; or cancel it in the provider's dashboard, then give the step up."),
};
const DEFECT_ADVICE = t("This step calls no provider, so its failure is a defect. Update the worker, then try again.");

export function attention(page) {
  const notices = [...failures(page), retry(page), late(page), ...shipmentProblems(page), waiting(page), cancelled(page)].filter(Boolean);
  return notices.length > 0 && h("section", { class: "notices", "aria-label": t("Needs attention") }, notices);
}

/** A notice: title, reason, advice and buttons. */
function notice({ title, reason, advice, buttons = [], isBad = false, key }) {
  const shown = buttons.filter(Boolean);
  return h("div", { class: `notice ${isBad ? "bad" : ""}`, "data-key": key },
    h("b", {}, title), reason && h("p", {}, reason), advice && h("p", { class: "advice" }, advice),
    shown.length > 0 && h("div", { class: "actions" }, shown));
}

function failures(page) {
  const { order, isOperator } = page;
  if (!isOperator) return failedForStorefronts(page);
  return page.failures.filter((letter) => letter.order_id === order.id).map((letter) => {
    const kind = stepKind(letter.step);
    const refund = kind === "refund_payment" && isManual(order) && paymentActions(page).find(({ isDue }) => isDue);
    return notice({
      key: letter.step, isBad: true, title: t("{step} failed permanently", { step: stepName(letter.step) }), reason: letter.reason,
      advice: refund ? t("This order was paid by hand, so it is refunded by hand: pay the customer back, then record that here.") : ADVICE[kind] ?? DEFECT_ADVICE,
      buttons: [
        refund ? h("button", { class: "main", id: "fix-refund", onclick: () => page.act(refund.options) }, refund.label)
          : h("button", { class: "main", id: `redrive-${letter.id}`, onclick: () => redrive(page, letter) }, t("Try again")),
        kind === "request_shipment" && canEditAddress(page) && h("button", { id: "fix-address", onclick: () => editAddress(page) }, t("Correct the address")),
        h("button", { class: "danger", id: `discard-${letter.id}`, onclick: () => discard(page, letter) }, t("Give up …")),
      ],
    });
  });
}

/** Storefronts see that a step failed, by the order's history, but only operators can act on it. */
function failedForStorefronts({ history }) {
  const dead = new Map();
  for (const { type, data } of history) {
    if (type === "step.dead") dead.set(data.step, data.error);
    if (["step.redriven", "step.discarded"].includes(type)) dead.delete(data.step);
    if (type === "payment.refunded") dead.delete("refund_payment");
  }
  return [...dead].map(([step, error]) => notice({ key: step, isBad: true, title: t("{step} failed permanently", { step: stepName(step) }), reason: error, advice: t("An operator has to decide how to go on.") }));
}

const redrive = (page, letter) => page.send({ path: `/v1/dead-letters/${encodeURIComponent(letter.id)}/redrive`, intent: "redrive", done: t("{step} started again", { step: stepName(letter.step) }) });

function discard(page, letter) {
  page.act({
    title: t("Give up: {step}?", { step: stepName(letter.step) }), submitLabel: t("Give up"), isDanger: true, isUnconditional: true,
    text: t("It is never attempted again; this cannot be undone. Give up only what was settled by other means. The amount of a payment capture or a refund that is given up is written off: it is no longer captured or refunded automatically."),
    path: `/v1/dead-letters/${encodeURIComponent(letter.id)}/discard`, intent: "discard", toBody: () => ({}),
  });
}

/** The current step, if its last attempt failed and another one follows. */
function retry(page) {
  const { order, history, isOperator } = page;
  const step = order.in_progress?.step;
  const failed = step && lastEvent(history, "step.retried", "step.redriven");
  if (failed?.type !== "step.retried" || failed.data.step !== step) return null;
  return notice({
    key: step, title: t("{step} failed and is retried automatically", { step: stepName(step) }), reason: failed.data.error,
    advice: t("Attempt {attempt} is due {time}. Nothing that the provider has already done is done twice.", { attempt: order.in_progress.attempt, time: relative(order.in_progress.due_at) }),
    buttons: [isOperator && h("button", { class: "main", id: "retry-now", onclick: () => page.send({ path: `/v1/retries/${encodeURIComponent(`${order.id}:${step}`)}/redrive`, intent: "redrive", done: t("Retry started.") }) }, t("Retry now"))],
  });
}

/** The current step, if it should have been done by now. */
function late({ order, isOperator }) {
  const step = order.in_progress;
  if (!step || Date.now() - new Date(step.due_at) < LATE_MS) return null;
  return notice({
    key: `late ${step.step}`, title: t("{step} is late", { step: stepName(step.step) }), reason: t("It was due {time}.", { time: relative(step.due_at) }),
    advice: t("The workers are busy or not running. The step is done as soon as one is free."),
    buttons: [isOperator && h("a", { class: "button", href: "#/dashboard" }, t("Check the system on the dashboard"))],
  });
}

/** Shipments whose delivery failed. */
function shipmentProblems(page) {
  return page.order.shipments.filter(({ status }) => status === "failed").map((shipment) => notice({
    key: shipment.id, isBad: true, title: t("Delivery of shipment {shipment} failed", { shipment: [shipment.carrier, shipment.tracking_number].filter(Boolean).join(" ") }),
    advice: t("Ask the carrier where it is. Record here whether it was delivered after all or comes back."),
    buttons: page.isOperator ? shipmentEvents(page, shipment) : [],
  }));
}

/** Payments and edits that are not completed yet. */
function waiting({ order }) {
  if (order.is_deleted) return null;
  if (order.payment.next_action) return notice({ title: t("The customer has to complete the payment"), reason: name(order.payment.next_action.type), advice: t("The order waits as long as its stock is reserved.") });
  if (order.pending_edit) return notice({
    title: t("An edit is pending"), advice: t("The payment of the new total, {amount}, is being authorized. Until then the order does not change.", { amount: money(order.pending_edit.total, order.currency) }),
  });
  if (isManual(order) && order.status === "pending" && !order.awaits_approval && outstanding(order) > 0) return notice({
    title: t("Waiting for the payment"), advice: t("{amount} is outstanding. The order is prepared for shipping when it is paid in full.", { amount: money(outstanding(order), order.currency) }),
  });
  return null;
}

function cancelled({ order, history }) {
  if (!order.cancel_reason) return null;
  const declined = lastEvent(history, "payment.declined");
  const note = lastEvent(history, "order.cancelled")?.data.note ?? declined?.data.message;
  return notice({ title: t("Cancelled: {reason}", { reason: name(order.cancel_reason) }), reason: note });
}
