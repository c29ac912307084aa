// The items of an order with their photos, prices and refunds, and the totals as on an invoice.

import { get } from "./api.js";
import { h, money, table } from "./dom.js";
import { name, plural, t } from "./i18n.js";
import { refundDialog } from "./order_refund.js";
import { fulfilment, itemList, outstanding, refundable, refundDue } from "./order_state.js";

/** Products whose photos are loaded; those of further products are left out. */
const MAX_PHOTOS = 50;

/** Loads the first photo of each product that was not loaded yet. Resolves to whether there is a new one. */
export async function loadPhotos({ order, photos }) {
  const skus = [...new Set(order.items.map(({ sku }) => sku))].slice(0, MAX_PHOTOS).filter((sku) => !photos.has(sku));
  skus.forEach((sku) => photos.set(sku, null));
  const found = await Promise.all(skus.map(async (sku) => {
    // A product that was deleted since has no photo.
    const product = await get(`/v1/products/${encodeURIComponent(sku)}`).catch(() => null);
    const url = product && (product.images?.[0]?.variants[0]?.url ?? product.image_urls[0]);
    if (url) photos.set(sku, url);
    return url;
  }));
  return found.some(Boolean);
}

export function itemCard(page) {
  const { order, isOperator, photos } = page;
  const amount = (value) => money(value, order.currency);
  const isRefundable = isOperator && !order.is_deleted && refundable(order) - refundDue(order) > 0;
  const firstLines = new Set(order.items.filter((line, index) => order.items.findIndex(({ sku }) => sku === line.sku) === index));
  const units = order.items.reduce((sum, line) => sum + line.quantity, 0);
  return h("section", { class: "card", "aria-label": t("Items") }, h("h2", {}, t("Items")),
    table(plural(units, "1 unit", "{count} units"), [
      [t("Product"), (line) => h("div", { class: "product" },
        photos.get(line.sku) ? h("img", { class: "thumb", src: photos.get(line.sku), alt: "", loading: "lazy", referrerpolicy: "no-referrer" }) : h("span", { class: "thumb", "aria-hidden": "true" }),
        h("div", {}, h("a", { href: `#/products/${encodeURIComponent(line.sku)}` }, line.name),
          h("div", { class: "soft" }, h("span", { class: "mono" }, line.sku), line.warehouse && t(" · from {warehouse}", { warehouse: line.warehouse }))))],
      [t("Price"), (line) => `${line.quantity} × ${amount(line.unit_price)}`, "number"],
      order.items.some((line) => line.discount_total) && [t("Discount"), (line) => line.discount_total
        ? [amount(-line.discount_total), line.discounts?.length > 0 && h("div", { class: "help" }, line.discounts.map(discountName).join(", "))] : "–", "number"],
      order.items.some((line) => line.tax_total) && [t("Tax"), (line) => line.tax_total
        ? [amount(line.tax_total), h("div", { class: "help" }, line.taxes?.map(({ label }) => label).join(", "))] : "–", "number"],
      [t("Total"), (line) => amount(line.total), "number"],
      isRefundable && [t("Actions"), (line) => firstLines.has(line) && h("button", {
        id: `refund-${line.sku}`, "aria-label": t("Refund {product}", { product: line.name }), onclick: () => refundDialog(page, line.sku),
      }, t("Refund"))],
    ].filter(Boolean), order.items),
    order.cancelled_items?.length > 0 && h("p", { class: "notice" }, t("Cancelled items: {items}", { items: itemList(order.cancelled_items) })),
    totals(order));
}

export const discountName = ({ code, label }) => (code ? `${label} (${code})` : label);

/** Taxes of items and shipping, added up by label and rate. */
function taxes(order) {
  const found = new Map();
  for (const { label, rate, amount } of [...order.items, ...(order.shipping ? [order.shipping] : [])].flatMap((line) => line.taxes ?? [])) {
    const key = `${label}\n${rate ?? ""}`;
    found.set(key, { label, rate, amount: (found.get(key)?.amount ?? 0) + amount });
  }
  return [...found.values()];
}

/** Subtotal, discounts, shipping, taxes, total, and the amounts that are paid, refunded and outstanding. */
export function totals(order) {
  const row = (title, amount, kind) => [h("dt", { class: kind }, title), h("dd", { class: kind }, money(amount, order.currency))];
  const onOrder = order.discounts ?? [];
  const onItems = order.discount_total - onOrder.reduce((sum, { amount }) => sum + amount, 0);
  const shippingDiscounts = order.shipping?.discounts ?? [];
  const isPaid = order.status !== "cancelled" && outstanding(order) === 0;
  return h("dl", { class: "totals" },
    row(t("Subtotal"), order.subtotal),
    onItems > 0 && row(t("Discounts on items"), -onItems),
    onOrder.map((discount) => row(t("Discount {label}", { label: discountName(discount) }), -discount.amount)),
    order.shipping && row(t("Shipping ({label})", { label: order.shipping.label }), order.shipping.amount),
    shippingDiscounts.map((discount) => row(t("Discount {label}", { label: discountName(discount) }), -discount.amount)),
    !order.tax_included && taxes(order).map(({ label, amount }) => row(label, amount)),
    row(t("Total"), order.total, "sum"),
    order.tax_included && taxes(order).map(({ label, amount }) => row(t("including {label}", { label }), amount, "soft")),
    row(t("Paid"), order.payment.captured),
    order.payment.refunded > 0 && row(t("Refunded"), -order.payment.refunded),
    refundDue(order) > 0 && row(t("Refund in progress"), -refundDue(order)),
    !isPaid && order.status !== "cancelled" && row(t("Outstanding"), outstanding(order), "sum"));
}

export const fulfilmentName = (order) => name(fulfilment(order));
