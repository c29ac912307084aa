// The orders of a customer or with a product, as a tab.

import { query } from "./api.js";
import { badge, h, money, relative, table } from "./dom.js";
import { t } from "./i18n.js";
import { openList } from "./list.js";

/** Opens the orders that `filter` selects, with a link to the screen of orders. */
export function openOrders(panel, filter, noEntries) {
  return openList(panel, null, {
    path: "/v1/orders", fixed: filter, label: t("Orders"), noEntries,
    rows: (orders) => table(t("Newest first"), [
      [t("Order"), (order) => h("a", { href: `#/orders/${order.id}`, id: `order-${order.id}` }, `#${order.number}`)],
      [t("Placed"), (order) => relative(order.created_at)],
      [t("Status"), (order) => badge(order.status)],
      [t("Payment"), (order) => badge(order.payment.status)],
      [t("Items"), (order) => order.items.map((line) => h("div", {}, `${line.quantity} × ${line.name}`))],
      [t("Total"), (order) => money(order.total, order.currency), "number"],
    ], orders, { key: (order) => order.id }),
    more: h("p", {}, h("a", { class: "button", href: query("#/orders", filter) }, t("Show in Orders"))),
    isAffected: (event) => event.type.startsWith("order.") || event.type.startsWith("payment."),
  });
}
