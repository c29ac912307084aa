// The messages to the customer of an order.

import { change } from "./api.js";
import { badge, h, showDialog, table, time, toast } from "./dom.js";
import { name, t } from "./i18n.js";

/** A message whose next attempt is this near may change soon. */
const SOON_MS = 10_000;

/** Whether a message is being sent, so that its status may change soon. */
export const isBeingSent = (message) => message.next_attempt_at && new Date(message.next_attempt_at) - Date.now() < SOON_MS;

/** The card with the messages of an order, or nothing if it has none. */
export function messageTable(order, messages, isOperator, refresh) {
  if (!messages.length) return null;
  return h("section", { class: "card", "aria-label": t("Messages") }, h("h2", {}, t("Messages to the customer")), table("", [
    [t("Message"), (message) => [h("b", {}, name(message.kind)), message.subject && h("div", { class: "soft" }, message.subject)]],
    [t("Recipient"), (message) => message.recipient ?? "–"],
    [t("Status"), (message) => [badge(message.status), message.error && h("div", { class: "help" }, message.error)]],
    [t("Attempts"), (message) => message.attempts, "number"],
    [t("Sent"), (message) => message.status === "pending" && message.next_attempt_at && message.attempts > 0
      ? t("next attempt {time}", { time: time(message.next_attempt_at) })
      : time(message.sent_at)],
    isOperator && [t("Actions"), (message) => message.status !== "pending" && h("button", { onclick: () => resend(order, message, refresh) }, t("Resend"))],
  ].filter(Boolean), messages, { key: (message) => message.id }));
}

async function resend(order, message, refresh) {
  const resent = await showDialog({
    title: t("Resend this message?"), submitLabel: t("Resend"), text: t("It is sent to the customer's present e-mail address, with the present contents of the order."),
    act: () => change("POST", `/v1/orders/${order.id}/messages/${message.id}/resend`, {}, { intent: "resend_message" }),
  });
  if (resent) toast(t("Message queued."));
  refresh();
}
