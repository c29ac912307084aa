// The dialog that changes the items and the shipping charge of an order before it is shipped.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { hasShipped, isManual, productName, quantities } from "./order_state.js";
import { picker } from "./picker.js";
import { searchProducts } from "./product_search.js";

export const isEditable = (order) => !order.is_deleted && !hasShipped(order) && !order.pending_edit
  && (order.status === "processing" || order.awaits_approval || (isManual(order) && order.status === "pending"));

/** Discounts and taxes of the shipping charge belong to its amount, so only a charge without them is edited here. */
const isShippingEditable = (order) => !order.shipping?.discounts?.length && !order.shipping?.taxes?.length;

export function editOrder(page) {
  const { order } = page;
  const added = picker({ label: t("Add product"), name: "sku", search: (text) => searchProducts(text, new Map()), placeholder: t("Name or SKU") });
  const text = h("div", {}, isManual(order) ? t("The new total applies at once. The total of an order that is already paid cannot rise; if it falls, you pay the difference back to the customer.")
    : t("A lower total applies at once, and the customer is charged less or refunded. For a higher one, the customer's payment method is authorized first; if it is declined, the order does not change."));
  page.act({
    title: t("Edit this order?"), submitLabel: t("Save"), path: `/v1/orders/${order.id}/edit`, intent: "edit", text,
    fields: fields(order), toBody: (values) => body(order, { ...values, sku: added.value }),
  });
  // The picker stands before the quantity of its product.
  text.closest("form").elements.quantity.closest("label").before(added.element);
}

function fields(order) {
  const ofProducts = [...quantities(order)].map(([sku, quantity]) => ({ name: `quantity ${sku}`, label: t("New quantity of {product}", { product: productName(order, sku) }), type: "number", min: 0, max: 1_000_000, value: quantity, required: true }));
  return [...ofProducts,
    { name: "quantity", label: t("Quantity of the added product"), type: "number", min: 1, max: 1_000_000 },
    isShippingEditable(order) && { name: "shipping", label: t("Shipping charge ({currency})", { currency: order.currency }), type: "money", currency: order.currency, value: order.shipping?.amount, help: t("Leave empty for no shipping charge") },
    { name: "reason", label: t("Reason"), help: t("Shown in the timeline") }].filter(Boolean);
}

/** The edit that the form describes: only what differs from the order. */
function body(order, values) {
  const items = [...quantities(order)].map(([sku, before]) => ({ sku, before, quantity: values[`quantity ${sku}`] ?? 0 }))
    .filter(({ before, quantity }) => quantity !== before).map(({ sku, quantity }) => ({ sku, quantity }));
  if (values.sku) items.push({ sku: values.sku, quantity: values.quantity ?? 1 });
  const edit = { reason: values.reason };
  if (items.length) edit.items = items;
  if (isShippingEditable(order) && values.shipping !== order.shipping?.amount) {
    edit.shipping = values.shipping === undefined ? null : { label: order.shipping?.label ?? t("Shipping"), amount: values.shipping };
  }
  return edit;
}
