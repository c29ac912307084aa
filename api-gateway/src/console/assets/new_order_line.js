// A line item of the form for a new order: a product with quantity, agreed price, discount and tax.

import { decimals, h, input, labelled, minorUnits } from "./dom.js";
import { t } from "./i18n.js";
import { picker } from "./picker.js";
import { searchProducts } from "./product_search.js";

/**
 * Creates a line. Returns `{ element, product, currency(), item(), total(isTaxIncluded) }`: `item` is the line for
 * the API, `total` its amount after its discount and, unless it is included, with its tax.
 */
export function createLine({ number, isOperator, onChange, remove }) {
  const found = new Map();
  let chosen = null;

  const product = picker({
    label: t("Product {number}", { number }), name: "sku", required: true, search: (text) => searchProducts(text, found), placeholder: t("Name or SKU"),
    onChoose: (sku) => { chosen = found.get(sku) ?? null; onChoose(); },
  });
  const quantity = input({ name: "quantity", type: "number", min: 1, max: 1_000_000, value: 1, required: true });
  const amountField = (name, label, help) => ({ label, help, input: input({ name, type: "number", min: 0, step: "any" }) });
  const price = amountField("unit_price", t("Agreed unit price"), t("Leave empty for the price of the catalogue"));
  const discount = amountField("item_discount", t("Discount on this item, all units"));
  const discountLabel = { label: t("Reason for the discount"), input: input({ name: "item_discount_label" }) };
  const tax = amountField("item_tax", t("Tax on this item, all units"));
  const taxLabel = { label: t("Name of the tax"), input: input({ name: "item_tax_label", placeholder: "VAT 19 %" }) };

  function onChoose() {
    for (const { input } of [price, discount, tax]) input.step = 10 ** -decimals(currency() ?? "EUR");
    price.input.placeholder = chosen ? String(chosen.price / 10 ** decimals(chosen.currency)) : "";
    onChange();
  }

  const currency = () => chosen?.currency;
  const amount = ({ input, label }) => (input.value.trim() ? minorUnits(input.value, currency() ?? "EUR", label) : undefined);

  function item() {
    const taxAmount = amount(tax), discountAmount = amount(discount);
    return {
      sku: chosen?.sku ?? "", quantity: Number(quantity.value), unit_price: amount(price),
      discounts: discountAmount ? [{ label: discountLabel.input.value.trim() || t("Discount"), amount: discountAmount }] : undefined,
      taxes: taxAmount ? [{ label: taxLabel.input.value.trim() || t("Tax"), amount: taxAmount }] : undefined,
    };
  }

  const total = (isTaxIncluded) => (amount(price) ?? chosen?.price ?? 0) * Number(quantity.value) - (amount(discount) ?? 0) + (isTaxIncluded ? 0 : amount(tax) ?? 0);

  const field = ({ label, help, input }) => labelled({ label, help }, input);
  const element = h("fieldset", {}, h("legend", {}, t("Item {number}", { number })),
    h("div", { class: "order-line" }, product.element, labelled({ label: t("Quantity") }, quantity),
      h("button", { type: "button", "aria-label": t("Remove item {number}", { number }), onclick: remove }, t("Remove"))),
    h("details", {}, h("summary", {}, isOperator ? t("Price, discount and tax") : t("Discount and tax")),
      h("div", { class: "field-grid" }, [isOperator && price, discountLabel, discount, taxLabel, tax].filter(Boolean).map(field))));
  return { element, product, currency, item, total };
}
