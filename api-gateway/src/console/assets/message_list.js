// The messages to the customers of all orders, for operators.

import { change, get } from "./api.js";
import { badge, fill, h, relative, showDialog, table, toast } from "./dom.js";
import { name, t } from "./i18n.js";
import { openList } from "./list.js";

const STATUSES = ["pending", "sent", "bounced", "failed", "not_sent"];
/** Interval of reloading while a message is being sent, which is no event. */
const RELOAD_MS = 3000;

export async function open(root, { parameters }) {
  let timer = null;
  const state = h("div", {});

  const opened = await openList(root, parameters, {
    screen: "messages", path: "/v1/messages", title: t("Messages"), intro: state,
    search: { label: t("Search"), placeholder: t("Order number or e-mail address") },
    tabs: { name: "status", label: t("Status"), options: [["", t("All")], ...STATUSES.map((status) => [status, name(status)])] },
    filters: [{ name: "order_id", label: t("Messages of one order") }],
    rows: (messages, { refresh }) => table(t("Newest first"), [
      [t("Message"), (message) => [h("b", {}, name(message.kind)), message.subject && h("div", { class: "soft" }, message.subject)]],
      [t("Order"), (message) => h("a", { href: `#/orders/${message.order_id}`, id: `order-of-${message.id}` }, `#${message.order_number}`)],
      [t("Recipient"), (message) => message.recipient ?? "–"],
      [t("Status"), (message) => [badge(message.status), message.error && h("div", { class: "help" }, message.error)]],
      [t("Attempts"), (message) => message.attempts, "number"],
      [t("Sent"), (message) => message.status === "pending" && message.next_attempt_at && message.attempts > 0
        ? t("next attempt {time}", { time: relative(message.next_attempt_at) }) : relative(message.sent_at)],
      [t("Text"), (message) => message.text ? h("details", { id: `text-${message.id}` }, h("summary", {}, t("Show text")), h("pre", {}, message.text)) : "–"],
      [t("Actions"), (message) => message.status !== "pending" && h("button", {
        id: `resend-${message.id}`, "aria-label": t("Resend {message} of order {number}", { message: name(message.kind), number: message.order_number }), onclick: () => resend(message, refresh),
      }, t("Resend"))],
    ], messages, { key: (message) => message.id }),
    noEntries: [h("p", {}, t("No messages yet.")), h("p", {}, t("Customers get an e-mail when an order is confirmed, shipped, delivered, cancelled or refunded, and when a return is received."))],
    isAffected: (event) => /^(order|payment|shipment|return)\./.test(event.type),
    onDraw: ({ entries, refresh }) => {
      clearTimeout(timer);
      if (entries.some((message) => message.status === "pending")) timer = setTimeout(refresh, RELOAD_MS);
    },
  });
  await drawState();

  /** Says so if no messages are sent. */
  async function drawState() {
    try {
      const { system } = await get("/v1/stats?days=1");
      fill(state, !system?.sends_messages && h("p", { class: "notice", id: "messages-off" },
        h("b", {}, t("Messages are off.")), " ", t("No e-mails are sent to customers, because SMTP_URL is not set. Set SMTP_URL and MAIL_FROM for the order-worker, and restart it.")));
    } catch {
      // The list shows whether the server responds.
    }
  }

  return { ...opened, close: () => { clearTimeout(timer); opened.close(); } };
}

async function resend(message, refresh) {
  const resent = await showDialog({
    title: t("Resend this message?"), submitLabel: t("Resend"), text: t("It is sent to the customer's present e-mail address, with the present contents of the order."),
    act: () => change("POST", `/v1/orders/${message.order_id}/messages/${message.id}/resend`, {}, { intent: "resend_message" }),
  });
  if (resent) toast(t("Message queued."));
  await refresh();
}
