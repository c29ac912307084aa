// The stock of a product in each warehouse.

import { change } from "./api.js";
import { empty, fill, h, showDialog, table, toast } from "./dom.js";
import { number, t } from "./i18n.js";
import { stockBadges, thresholdField, totals } from "./products.js";

/** The `open` of the tab; `path` is that of the product. */
export const stockTab = (path, isOperator) => (panel, product, reload) => {
  const stockPath = (warehouse) => `${path}/stock/${encodeURIComponent(warehouse)}`;
  const finish = (done, text) => {
    if (done) toast(text);
    return reload();
  };

  const setStock = async (current) => finish(await showDialog({
    title: t("Set the stock of {name}", { name: current.name }), submitLabel: t("Save"),
    text: t("Enter the counted quantity, including reserved units. It cannot be less than the reserved quantity."),
    fields: [
      { name: "warehouse", label: t("Warehouse"), required: true, value: current.stock[0]?.warehouse ?? "main", help: t("Another name adds a warehouse.") },
      { name: "on_hand", label: t("On hand"), type: "number", min: 0, required: true, value: current.stock[0]?.on_hand },
      { name: "reason", label: t("Reason") },
    ],
    act: ({ warehouse, ...values }) => change("PUT", stockPath(warehouse), values, { intent: "count_stock" }),
  }), t("Stock updated."));

  const adjust = async (current, level) => finish(await showDialog({
    title: t("Adjust the stock in {warehouse}", { warehouse: level.warehouse }), submitLabel: t("Adjust"),
    text: t("{units} units on hand, {reserved} of them reserved.", { units: number(level.on_hand), reserved: number(level.reserved) }),
    fields: [
      { name: "delta", label: t("Change in units (negative to remove)"), type: "number", required: true },
      { name: "reason", label: t("Reason"), required: true, help: t("Recorded in the stock event, for example: received, damaged, found") },
    ],
    act: (values) => change("POST", `${stockPath(level.warehouse)}/adjustments`, values, { intent: "adjust_stock" }),
  }), t("Stock adjusted."));

  const remove = async (current, level) => finish(await showDialog({
    title: t("Remove the product from {warehouse}?", { warehouse: level.warehouse }), submitLabel: t("Remove"), isDanger: true,
    text: level.on_hand > 0
      ? t("{units} units are on hand. Enter the warehouse that they move to.", { units: number(level.on_hand) })
      : t("The warehouse is removed from the stock of this product."),
    fields: level.on_hand > 0 ? [{ name: "move_to", label: t("Move the stock to warehouse"), required: true }, { name: "reason", label: t("Reason") }] : [],
    act: (values) => change("DELETE", stockPath(level.warehouse), level.on_hand > 0 ? values : undefined, { intent: "remove_stock" }),
  }), t("Stock of the warehouse removed."));

  const setThreshold = async (current) => finish(await showDialog({
    title: t("Low stock level of {name}", { name: current.name }), submitLabel: t("Save"), fields: [thresholdField(current)],
    act: ({ low_stock_at }) => change("PATCH", path, { low_stock_at: low_stock_at ?? null }, { intent: "set_low_stock", etag: current.etag }),
  }), t("Low stock level saved."));

  function draw(current) {
    const { available, reserved, on_hand } = totals(current);
    const sum = current.stock.length > 1 ? [{ warehouse: t("All warehouses"), available, reserved, on_hand, isSum: true }] : [];
    fill(panel, h("section", { class: "card", "aria-label": t("Stock by warehouse") },
      h("div", { class: "bar" }, h("h2", {}, t("Stock by warehouse"), " ", stockBadges(current)),
        isOperator && h("div", { class: "actions" },
          h("button", { class: "main", id: "set-stock", onclick: () => setStock(current) }, t("Set stock")),
          h("button", { id: "set-threshold", onclick: () => setThreshold(current) }, t("Set low stock level")))),
      h("p", { class: "help" }, current.low_stock_at === undefined ? t("No low stock level is set.") : t("Marked as low on stock at {units} available units or less.", { units: number(current.low_stock_at) })),
      current.stock.length > 0
        ? table("", [
          [t("Warehouse"), (level) => level.warehouse],
          [t("Available"), (level) => number(level.available), "number"],
          [t("Reserved"), (level) => number(level.reserved), "number"],
          [t("On hand"), (level) => number(level.on_hand), "number"],
          isOperator && [t("Actions"), (level) => !level.isSum && h("div", { class: "actions" },
            h("button", { id: `adjust-${level.warehouse}`, "aria-label": t("Adjust the stock in {warehouse}", level), onclick: () => adjust(current, level) }, t("Adjust")),
            level.reserved === 0 && h("button", { id: `remove-${level.warehouse}`, "aria-label": t("Remove the product from {warehouse}", level), onclick: () => remove(current, level) }, t("Remove")))],
        ].filter(Boolean), [...current.stock, ...sum], { key: (level) => level.warehouse })
        : empty(t("No stock yet."), " ", isOperator && t("Set the stock of a warehouse: the product can be ordered as soon as it has available units."))));
  }

  draw(product);
  return { refresh: draw };
};
