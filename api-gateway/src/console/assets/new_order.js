// The form for a new order, with the equivalent API request.

import { change, get, query } from "./api.js";
import { decimals, empty, fill, h, input, labelled, minorUnits, money, problem, toast } from "./dom.js";
import { t } from "./i18n.js";
import { createLine } from "./new_order_line.js";
import { ADDRESS } from "./order_customer.js";
import { picker } from "./picker.js";

/** Customers that the picker lists. */
const MAX_CHOICES = 10;
/** Payment methods of the sandbox provider. */
const METHODS = [
  ["pm_ok", t("is approved")], ["pm_declined", t("is declined")], ["pm_slow", t("approved after three seconds")],
  ["pm_flaky", t("fails twice, then approved")], ["pm_timeout_after_charge", t("charged, but the response is lost")],
];

/** Quotes `text` for a shell. */
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export async function open(root, { isOperator, me, parameters }) {
  const [customers, products] = await Promise.all([get("/v1/customers?limit=1"), get("/v1/products?limit=1")]);
  if (!customers.data.length || !products.data.length) {
    fill(root, h("h1", {}, t("New order")), empty(t("To place an order, first create {customer} and {product}.", {
      customer: h("a", { href: "#/customers" }, t("a customer")), product: h("a", { href: "#/products" }, t("a product with stock")),
    })));
    return {};
  }
  const found = new Map();
  let customer = null, lines = [];
  const customerPicker = picker({ label: t("Customer"), name: "customer", required: true, search: searchCustomers, placeholder: t("Name or e-mail address"), onChoose: (id) => chooseCustomer(found.get(id) ?? null) });
  const address = ADDRESS.map(([name, label]) => ({ name, label, input: input({ name }) }));
  const payment = input({ name: "payment", options: [["", t("Default payment method of the provider")], ["manual", t("Manual payment: bank transfer, cash or invoice")], ["token", t("Another payment method of the provider")]] });
  const method = input({ name: "payment_method", placeholder: "pm_ok" });
  method.setAttribute("list", "methods");
  const methodLabel = labelled({ label: t("Payment method"), help: t("A token of the payment provider. The sandbox provider accepts {methods}.", { methods: METHODS.map(([token, text]) => `${token} (${text})`).join(", ") }) }, method);
  const amountField = (name, label, help) => ({ name, label, help, input: input({ name, type: "number", min: 0, step: "any" }) });
  const textField = (name, label, help) => ({ name, label, help, input: input({ name }) });
  const charges = {
    shipping: amountField("shipping", t("Shipping charge")), shipping_label: textField("shipping_label", t("Shipping method"), t("For example Standard")),
    shipping_tax: amountField("shipping_tax", t("Tax on shipping")), discount: amountField("discount", t("Discount on the order")),
    discount_label: textField("discount_label", t("Reason for the discount"), t("Shown to the customer")), discount_code: textField("discount_code", t("Discount code")),
  };
  const isTaxIncluded = input({ name: "tax_included", type: "check", value: false });
  const list = h("div", { class: "order-lines" }), total = h("div", { id: "total", "aria-live": "polite" }), error = h("div", {});
  const curl = h("pre", { class: "mono", id: "curl", tabindex: 0, "aria-label": t("Same request with curl") });
  const submit = h("button", { class: "main" }, t("Place order"));

  async function searchCustomers(text) {
    const { data } = await get(query("/v1/customers", { q: text, limit: MAX_CHOICES }));
    return data.filter((buyer) => !buyer.erased_at).map((buyer) => {
      found.set(buyer.id, buyer);
      return [buyer.id, buyer.name, [buyer.email, isOperator && buyer.storefront, buyer.is_blocked && t("blocked")].filter(Boolean).join(" · ")];
    });
  }

  /** Takes the customer's first address, unless one was entered. */
  function chooseCustomer(chosen) {
    customer = chosen;
    const [first] = chosen?.addresses ?? [];
    if (first && address.every(({ input }) => !input.value.trim())) for (const { name, input } of address) input.value = first[name] ?? "";
    update();
  }

  function addLine() {
    const line = createLine({
      number: lines.length + 1, isOperator, onChange: update,
      remove: () => { if (lines.length > 1) { lines = lines.filter((other) => other !== line); line.element.remove(); update(); lines[0].product.input.focus(); } },
    });
    lines.push(line);
    list.append(line.element);
    update();
    return line;
  }

  const currency = () => lines.map((line) => line.currency()).find(Boolean);
  const amount = ({ input, label }) => (input.value.trim() ? minorUnits(input.value, currency() ?? "EUR", label) : undefined);
  const text = ({ input }) => input.value.trim() || undefined;

  function body() {
    const given = address.map(({ name, input }) => [name, input.value.trim()]).filter(([, value]) => value);
    const shipping = amount(charges.shipping), tax = amount(charges.shipping_tax), discount = amount(charges.discount);
    return {
      customer_id: customer?.id ?? "",
      items: lines.map((line) => line.item()),
      shipping: shipping === undefined ? undefined : { label: text(charges.shipping_label) ?? t("Shipping"), amount: shipping, ...(tax ? { taxes: [{ label: t("Tax"), amount: tax }] } : {}) },
      discounts: discount ? [{ label: text(charges.discount_label) ?? t("Discount"), amount: discount, code: text(charges.discount_code) }] : undefined,
      tax_included: isTaxIncluded.checked || undefined,
      shipping_address: given.length ? Object.fromEntries(given) : undefined,
      payment_method: payment.value === "token" ? text({ input: method }) : payment.value || undefined,
      storefront: isOperator && customer && customer.storefront !== me.storefront ? customer.storefront : undefined,
    };
  }

  /** The total, by the rule of the API. The server calculates it again. */
  function totalOf({ shipping, discounts = [] }) {
    const sum = (entries) => (entries ?? []).reduce((all, entry) => all + entry.amount, 0);
    const ofLines = lines.reduce((all, line) => all + line.total(isTaxIncluded.checked), 0);
    return ofLines - sum(discounts) + (shipping?.amount ?? 0) + (isTaxIncluded.checked ? 0 : sum(shipping?.taxes));
  }

  function update() {
    methodLabel.hidden = payment.value !== "token";
    for (const { input } of Object.values(charges)) if (input.type === "number") input.step = 10 ** -decimals(currency() ?? "EUR");
    try {
      const order = body();
      fill(total, t("Total"), " ", h("b", {}, currency() ? money(totalOf(order), currency()) : "–"));
      fill(curl, [
        `curl -X POST ${location.origin}/v1/orders \\`,
        me.is_open ? null : "  -H \"Authorization: Bearer $KEY\" \\",
        "  -H 'Content-Type: application/json' -H 'Idempotency-Key: cart-1' \\",
        `  -d ${quote(JSON.stringify(order))}`,
      ].filter(Boolean).join("\n"));
    } catch (failure) {
      // An amount with too many decimals, while it is being entered.
      fill(total, failure.message ?? String(failure));
    }
  }

  async function place(event) {
    event.preventDefault();
    submit.disabled = true;
    try {
      const order = await change("POST", "/v1/orders", body(), { intent: "new_order" });
      toast(t("Order #{number} placed.", { number: order.number }));
      location.hash = `#/orders/${order.id}`;
    } catch (failure) {
      fill(error, problem(failure));
      submit.disabled = false;
    }
  }

  const field = ({ label, help, input }) => labelled({ label, help }, input);
  const form = h("form", { class: "new-order", oninput: update, onchange: update, onsubmit: place },
    h("div", { class: "order-columns" },
      h("div", { class: "stacked" },
        h("section", { class: "card" }, h("h2", {}, t("Customer")), customerPicker.element),
        h("section", { class: "card" }, h("h2", {}, t("Items")), list, h("p", {}, h("button", { type: "button", id: "add-item", onclick: () => addLine().product.input.focus() }, t("Add item")))),
        h("section", { class: "card" }, h("h2", {}, t("Shipping charge, discount and tax")),
          h("div", { class: "field-grid" }, field(charges.shipping_label), field(charges.shipping), field(charges.shipping_tax), field(charges.discount_label), field(charges.discount), field(charges.discount_code)),
          labelled({ type: "check", label: t("Prices include tax"), help: t("Otherwise taxes are added to the prices.") }, isTaxIncluded))),
      h("div", { class: "stacked" },
        h("section", { class: "card" }, h("h2", {}, t("Shipping address")), address.map(field)),
        h("section", { class: "card" }, h("h2", {}, t("Payment")), labelled({ label: t("Payment") }, payment), methodLabel,
          h("datalist", { id: "methods" }, METHODS.map(([token, text]) => h("option", { value: token }, text)))),
        h("section", { class: "card" }, total, error, h("p", {}, submit)))));
  fill(root, h("h1", {}, t("New order")), form, h("details", { class: "card" }, h("summary", {}, h("h2", {}, t("Same request with curl"))), curl));
  addLine();
  const customerId = parameters.get("customer_id");
  if (customerId) {
    const chosen = await get(`/v1/customers/${encodeURIComponent(customerId)}`).catch(() => null);
    if (chosen) {
      found.set(chosen.id, chosen);
      customerPicker.choose(chosen.id, chosen.name);
    }
  }
  return {};
}
