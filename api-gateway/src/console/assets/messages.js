// The messages to the customer of an order.

import { change } from "./api.js";
import { badge, h, showDialog, table, time, toast } from "./dom.js";

/** A message whose next attempt is this near may change soon. */
const SOON_MS = 10_000;

/** Whether a message is being sent, so that its status may change soon. */
export const isBeingSent = (message) => message.next_attempt_at && new Date(message.next_attempt_at) - Date.now() < SOON_MS;

/** The card with the messages of an order, or nothing if it has none. */
export function messageTable(order, messages, isOperator, refresh) {
  if (!messages.length) return null;
  return h("section", { class: "card", "aria-label": "Messages" }, h("h2", {}, "Messages to the customer"), table("", [
    ["Message", (message) => [h("b", {}, message.kind.replaceAll("_", " ")), message.subject && h("div", { class: "soft" }, message.subject)]],
    ["Recipient", (message) => message.recipient ?? "–"],
    ["Status", (message) => [badge(message.status), message.error && h("div", { class: "help" }, message.error)]],
    ["Attempts", (message) => message.attempts, "number"],
    ["Sent", (message) => message.status === "pending" && message.next_attempt_at && message.attempts > 0
      ? ["next attempt ", time(message.next_attempt_at)]
      : time(message.sent_at)],
    isOperator && ["Actions", (message) => message.status !== "pending" && h("button", { onclick: () => resend(order, message, refresh) }, "Resend")],
  ].filter(Boolean), messages, { key: (message) => message.id }));
}

async function resend(order, message, refresh) {
  const resent = await showDialog({
    title: "Resend this message?", submitLabel: "Resend", text: "It is sent to the customer's present e-mail address, with the present contents of the order.",
    act: () => change("POST", `/v1/orders/${order.id}/messages/${message.id}/resend`, {}, { intent: "resend_message" }),
  });
  if (resent) toast("Message queued.");
  refresh();
}
