// The dialog that refunds units of an order, an amount, or everything.

import { h, money } from "./dom.js";
import { t } from "./i18n.js";
import { productName, quantities, refundable, refundDue, refundedUnits, shareOf, shippedUnits } from "./order_state.js";

/** Shows the dialog; with a SKU, one unit of this product is preset. */
export function refundDialog(page, sku) {
  const { order, history } = page;
  const amount = (value) => money(value, order.currency);
  const max = refundable(order) - refundDue(order);
  const refunded = refundedUnits(order, history), shipped = shippedUnits(order);
  // Units that were shipped are captured; those of an order that was paid in advance are as well.
  const lines = [...quantities(order)].map(([sku, ordered]) => ({
    sku, name: `quantity ${sku}`, before: refunded.get(sku) ?? 0,
    max: Math.max((order.payment.provider === "manual" ? ordered : shipped.get(sku) ?? 0) - (refunded.get(sku) ?? 0), 0),
  }));
  const isShippingRefunded = history.some(({ type, data }) => type === "payment.refund_requested" && data.shipping);
  const hasShipping = order.shipping_total > 0 && !isShippingRefunded;
  const estimate = h("p", { "aria-live": "polite" });

  const body = ({ mode, amount, shipping, reason, ...units }) => {
    const items = lines.map(({ sku, name }) => ({ sku, quantity: units[name] ?? 0 })).filter(({ quantity }) => quantity > 0);
    if (mode === "all") return { reason };
    if (mode === "amount") {
      if (amount === undefined) throw { title: t("Nothing was refunded"), message: t("Enter the amount to refund.") };
      return { amount, reason };
    }
    if (!items.length && !shipping) throw { title: t("Nothing was refunded"), message: t("Enter the units to refund.") };
    return { items: items.length ? items : undefined, shipping: shipping || undefined, reason };
  };

  page.act({
    title: t("Refund order #{number}?", { number: order.number }), submitLabel: t("Refund"), isDanger: true,
    path: `/v1/orders/${order.id}/refunds`, intent: "refund", toBody: body, done: t("Refund requested."),
    text: [h("p", {}, t("Up to {amount} can be refunded. The money is sent back to the customer by the payment provider; this cannot be undone.", { amount: amount(max) })), estimate],
    fields: [
      { name: "mode", label: t("What to refund"), value: sku ? "items" : "amount", options: [["items", t("Items")], ["amount", t("An amount")], ["all", t("Everything: {amount}", { amount: amount(max) })]] },
      ...lines.map((line) => ({ name: line.name, label: t("Units of {product} to refund", { product: productName(order, line.sku) }), type: "number", min: 0, max: line.max, value: line.sku === sku ? Math.min(1, line.max) : 0, help: t("{count} can be refunded", { count: line.max }) })),
      hasShipping && { name: "shipping", label: t("Shipping charge"), type: "check", value: false },
      { name: "amount", label: t("Amount ({currency})", { currency: order.currency }), type: "money", currency: order.currency, min: 1, max, value: max },
      { name: "reason", label: t("Reason"), help: t("Shown in the timeline") },
    ].filter(Boolean),
  });

  /** Shows only the fields of the chosen mode, and the amount that they come to. */
  function update() {
    const form = estimate.closest("form");
    const mode = form.elements.mode.value;
    const show = (name, isShown) => { const field = form.elements[name]; if (field) { field.closest("label").hidden = !isShown; field.disabled = !isShown; } };
    lines.forEach(({ name }) => show(name, mode === "items"));
    show("shipping", mode === "items");
    show("amount", mode === "amount");
    const ofItems = lines.reduce((sum, { sku, name, before }) => sum + shareOf(order, sku, before, Number(form.elements[name].value)), 0);
    const shipping = form.elements.shipping?.checked ? order.shipping_total + (order.tax_included ? 0 : (order.shipping.taxes ?? []).reduce((sum, tax) => sum + tax.amount, 0)) : 0;
    estimate.hidden = mode !== "items";
    estimate.replaceChildren(t("Estimated refund: {amount}", { amount: amount(Math.min(ofItems + shipping, max)) }));
  }
  estimate.closest("form").addEventListener("input", update);
  update();
}
