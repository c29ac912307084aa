// The stages of an order with their times, and the step that is in progress.

import { h, time } from "./dom.js";
import { name, plural, t } from "./i18n.js";
import { firstEvent, isManual, lastEvent, outstanding, stepKind, stepName } from "./order_state.js";

export function progressCard({ order, history, failures }) {
  const isCancelled = order.status === "cancelled";
  const step = order.in_progress;
  const dead = failures.map((letter) => stepKind(letter.step ?? ""));

  /** A stage: the event that ends it and the steps that lead to it. */
  function stage(title, event, kinds = [], { failed, pending } = {}) {
    const isCurrent = step && kinds.includes(stepKind(step.step));
    const hasFailed = failed || kinds.some((kind) => dead.includes(kind));
    const retries = history.filter(({ type, data }) => type === "step.retried" && kinds.includes(stepKind(data.step)));
    const state = failed ?? (event ? time(event.time) : isCurrent ? t("in progress") : isCancelled ? t("not reached") : pending ?? t("not started"));
    return h("li", { class: hasFailed ? "bad" : event ? "done" : isCurrent ? "now" : "" },
      h("b", {}, title), h("span", {}, state),
      isCurrent && h("div", { class: "help" }, t("{step}, attempt {attempt}, due {time}", { step: stepName(step.step), attempt: step.attempt, time: time(step.due_at) })),
      retries.length > 0 && h("div", { class: "help" }, plural(retries.length, "1 failed attempt, last error: {error}", "{count} failed attempts, last error: {error}", { error: retries.at(-1).data.error })));
  }

  const declined = firstEvent(history, "payment.declined");
  return h("section", { class: "card", "aria-label": t("Progress") }, h("h2", {}, t("Progress")), h("ol", { class: "timeline" },
    stage(t("Placed"), firstEvent(history, "order.created")),
    stage(t("Stock reserved"), firstEvent(history, "stock.reserved"), ["reserve_stock"]),
    history[0]?.data.needs_approval && stage(t("Approved"), firstEvent(history, "order.approved"), [], { pending: order.awaits_approval ? name("awaiting_approval") : undefined }),
    isManual(order)
      ? stage(t("Payment received"), outstanding(order) === 0 ? lastEvent(history, "payment.captured") : undefined, ["refund_payment"], { pending: order.status === "pending" ? t("awaiting payment") : undefined })
      : stage(t("Payment authorized"), firstEvent(history, "payment.authorized"), ["authorize_payment", "check_payment", "void_payment"],
        { failed: declined && t("declined: {message}", { message: declined.data.message }), pending: order.payment.next_action ? t("waiting for the customer") : undefined }),
    stage(t("Shipping label"), firstEvent(history, "shipment.created"), ["request_shipment", "cancel_shipment"]),
    stage(t("Shipped"), firstEvent(history, "order.shipped") ?? firstEvent(history, "shipment.shipped")),
    !isManual(order) && stage(t("Payment captured"), lastEvent(history, "payment.captured"), ["capture_payment", "refund_payment"]),
    stage(t("Delivered"), firstEvent(history, "order.delivered")),
    isCancelled && stage(t("Cancelled"), firstEvent(history, "order.cancelled"), [], { failed: name(order.cancel_reason) })));
}
