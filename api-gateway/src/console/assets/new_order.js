// The form for a new order, with the equivalent API request.

import { change, get, query } from "./api.js";
import { fill, h, input, labelled, money, problem, toast } from "./dom.js";

/** Payment methods of the sandbox provider. */
const METHODS = [
  ["pm_ok", "approved"], ["pm_declined", "declined"], ["pm_slow", "approved after three seconds"],
  ["pm_flaky", "fails twice, then approved"], ["pm_timeout_after_charge", "charged, but the response is lost"],
];
const MANUAL = ["manual", "paid by bank transfer, in cash or on an invoice"];
export const ADDRESS = [["name", "Name"], ["line1", "Street"], ["postal_code", "Postal code"], ["city", "City"], ["country", "Country"]];

/** Quotes `text` for a shell. */
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export async function open(root, { isOperator, me }) {
  const [customers, products] = await Promise.all([get("/v1/customers?limit=200"), get("/v1/products?limit=200")]);
  if (!customers.data.length || !products.data.length) {
    fill(root, h("h1", {}, "New order"), h("p", { class: "empty" }, "To place an order, first create ",
      h("a", { href: "#/customers" }, "a customer"), " and ", h("a", { href: "#/inventory" }, "a product with stock"), "."));
    return {};
  }
  const activeCustomers = customers.data.filter((customer) => !customer.erased_at);
  const customer = input({ name: "customer_id", required: true, options: activeCustomers.map((buyer) => [buyer.id, `${buyer.name} <${buyer.email}>${isOperator ? ` (${buyer.storefront})` : ""}${buyer.is_blocked ? ", blocked" : ""}`]) });
  const method = input({ name: "payment_method", placeholder: "Default" });
  method.setAttribute("list", "methods");
  const methods = h("datalist", { id: "methods" }, [...METHODS, MANUAL].map(([token, text]) => h("option", { value: token }, text)));
  const fields = ADDRESS.map(([name, label]) => [name, input({ name }), label]);
  const lines = [], list = h("div", {}), totalLine = h("p", { "aria-live": "polite" }), curl = h("pre", { class: "mono", id: "curl", tabindex: 0 }), error = h("div", {});

  function addLine() {
    const number = lines.length + 1;
    const line = {
      sku: input({ name: "sku", options: products.data.map((product) => [product.sku, `${product.name} – ${money(product.price, product.currency)} – ${product.stock.reduce((sum, level) => sum + level.available, 0)} available`]) }),
      quantity: input({ name: "quantity", type: "number", min: 1, value: 1, required: true }),
    };
    line.sku.id = `sku-${number}`;
    line.row = h("div", { class: "bar" }, labelled({ label: "Product" }, line.sku), labelled({ label: "Quantity" }, line.quantity),
      h("button", { type: "button", "aria-label": `Remove item ${number}`, onclick: () => { if (lines.length > 1) { lines.splice(lines.indexOf(line), 1); line.row.remove(); update(); } } }, "Remove"));
    lines.push(line);
    list.append(line.row);
    update();
  }

  function body() {
    const address = Object.fromEntries(fields.filter(([, field]) => field.value.trim()).map(([name, field]) => [name, field.value.trim()]));
    const buyer = activeCustomers.find((buyer) => buyer.id === customer.value);
    return {
      customer_id: customer.value,
      items: lines.map((line) => ({ sku: line.sku.value, quantity: Number(line.quantity.value) })),
      ...(Object.keys(address).length ? { shipping_address: address } : {}),
      ...(method.value.trim() ? { payment_method: method.value.trim() } : {}),
      ...(isOperator && buyer && buyer.storefront !== me.storefront ? { storefront: buyer.storefront } : {}),
    };
  }

  function update() {
    const rows = lines.map((line) => [products.data.find((product) => product.sku === line.sku.value), Number(line.quantity.value)]);
    const total = rows.reduce((all, [product, quantity]) => all + product.price * quantity, 0);
    fill(totalLine, "Total ", h("b", {}, money(total, rows[0][0].currency)));
    fill(curl, [
      `curl -X POST ${location.origin}/v1/orders \\`,
      me.is_open ? null : "  -H \"Authorization: Bearer $KEY\" \\",
      "  -H 'Content-Type: application/json' -H 'Idempotency-Key: cart-1' \\",
      `  -d ${quote(JSON.stringify(body()))}`,
    ].filter(Boolean).join("\n"));
  }

  const submit = h("button", { class: "main" }, "Place order");
  const form = h("form", {
    class: "card", oninput: update, onchange: update,
    onsubmit: async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        const order = await change("POST", "/v1/orders", body(), { intent: "new_order" });
        toast(`Order #${order.number} placed.`);
        location.hash = `#/orders/${order.id}`;
      } catch (failure) {
        fill(error, problem(failure));
        submit.disabled = false;
      }
    },
  },
  h("div", { class: "columns" },
    h("div", {}, h("h2", {}, "Customer and items"), labelled({ label: "Customer" }, customer), list,
      h("p", {}, h("button", { type: "button", onclick: addLine }, "Add item")), labelled({ label: "Payment method", help: `A token of the payment provider, or ${MANUAL[0]} (${MANUAL[1]}). The sandbox provider accepts ${METHODS.map(([token, text]) => `${token} (${text})`).join(", ")}.` }, method), methods, totalLine),
    h("div", {}, h("h2", {}, "Shipping address"), fields.map(([, field, label]) => labelled({ label }, field)))),
  error, h("p", {}, submit));
  addLine();
  fill(root, h("h1", {}, "New order"), form, h("section", { class: "card" }, h("h2", {}, "Same request with curl"), curl));
  return {};
}
