// One return: items, decision, receipt and refund, with its events.

import { get, query, read } from "./api.js";
import { badge, h, money, relative, table } from "./dom.js";
import { t } from "./i18n.js";
import { drawn, facts, openDetail } from "./detail.js";
import { returnActions } from "./return_actions.js";
import { receivedItem, refund } from "./returns.js";

export function open(root, context) {
  const { id, isOperator } = context;

  async function load() {
    const { value: entry } = await read(`/v1/returns/${encodeURIComponent(id)}`);
    return { ...entry, events: await readEvents(entry) };
  }

  /** The events about this return, from the history of its order. */
  async function readEvents(entry) {
    const events = [];
    let cursor;
    do {
      const page = await get(query(`/v1/orders/${entry.order_id}/history`, { limit: 200, cursor }));
      events.push(...page.data.filter((event) => event.type.startsWith("return.") && (event.data.return_id ?? event.data.id) === id));
      cursor = page.next_cursor;
    } while (cursor);
    return events;
  }

  const SENTENCES = {
    "return.requested": t("Return requested"), "return.approved": t("Return approved"), "return.rejected": t("Return rejected"),
    "return.cancelled": t("Return cancelled"), "return.received": t("Items received"),
  };

  const items = (entry) => h("section", { class: "card", "aria-label": t("Items") }, h("h2", {}, t("Items")),
    table("", [
      [t("SKU"), (item) => h("a", { class: "mono", href: `#/products/${encodeURIComponent(item.sku)}` }, item.sku)],
      [t("Requested units"), (item) => item.quantity, "number"],
      [t("Reason"), (item) => item.reason ?? "–"],
      [t("Received units"), (item) => received(entry, item.sku), "number"],
    ], entry.items),
    entry.received?.length > 0 && h("ul", { class: "plain" }, entry.received.map((item) => h("li", {}, receivedItem(item)))));

  const received = (entry, sku) => entry.received?.length
    ? entry.received.filter((item) => item.sku === sku).reduce((units, item) => units + item.quantity, 0) : "–";

  const about = (entry) => h("section", { class: "card", "aria-label": t("Refund") }, h("h2", {}, t("Refund")),
    facts([
      [t("Refund"), refund(entry)], [t("Restocking fee"), entry.fee > 0 && money(entry.fee, entry.currency)],
      [t("Order"), h("a", { href: `#/orders/${entry.order_id}` }, `#${entry.number.split("-")[0]}`)],
      [t("Customer"), h("a", { href: `#/customers/${entry.customer_id}` }, t("Show customer"))],
      [t("Storefront"), entry.storefront], [t("Note"), entry.note], [t("Reason for rejection or cancellation"), entry.reason],
    ]));

  const events = (entry) => h("section", { class: "card", "aria-label": t("Events") }, h("h2", {}, t("Events")),
    h("ol", { class: "events" }, entry.events.map((event) => h("li", {}, h("b", {}, SENTENCES[event.type] ?? event.type), " · ", relative(event.time),
      event.actor && h("span", { class: "soft" }, " · ", event.actor), event.data.reason && h("div", { class: "help" }, event.data.reason)))));

  return openDetail(root, context, {
    screen: "returns", listTitle: t("Returns"), load, gone: t("This return does not exist, or its order was deleted."),
    heading: (entry) => [t("Return {number}", entry), " ", badge(entry.status)],
    actions: (entry, reload) => returnActions(entry, isOperator, reload),
    tabs: [{ name: "details", title: t("Details"), open: drawn((entry) => [h("div", { class: "columns" }, items(entry), about(entry)), events(entry)]) }],
    isAffected: (event, entry) => event.subject === entry.order_id || event.type.startsWith("return."),
  });
}
