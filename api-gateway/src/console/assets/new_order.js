// A new order, for trying out; and the request that does the same.

import { change, get, query } from "./api.js";
import { fill, h, input, labelled, money, problem, toast } from "./dom.js";

const METHODS = [
  ["pm_ok", "a card that works"], ["pm_declined", "a card that does not"], ["pm_slow", "the bank takes three seconds"],
  ["pm_flaky", "fails twice, then works"], ["pm_timeout_after_charge", "the answer is lost"],
];
const ADDRESS = [["name", "Name"], ["line1", "Street"], ["postal_code", "Postal code"], ["city", "City"], ["country", "Country"]];

/** In quotes that a shell leaves alone. */
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export async function open(root, { operates, me }) {
  const [customers, products] = await Promise.all([get("/v1/customers?limit=200"), get("/v1/products?limit=200")]);
  if (!customers.data.length || !products.data.length) {
    fill(root, h("h1", {}, "New order"), h("p", { class: "empty" }, "First there have to be ",
      h("a", { href: "#/customers" }, "a customer"), " and ", h("a", { href: "#/inventory" }, "a product with stock"), "."));
    return {};
  }
  const usable = customers.data.filter((customer) => !customer.erased_at);
  const customer = input({ name: "customer_id", required: true, options: usable.map((one) => [one.id, `${one.name} <${one.email}>${operates ? ` (${one.storefront})` : ""}${one.is_blocked ? ", blocked" : ""}`]) });
  const method = input({ name: "payment_method", placeholder: "default" });
  method.setAttribute("list", "methods");
  const methods = h("datalist", { id: "methods" }, METHODS.map(([token, text]) => h("option", { value: token }, text)));
  const fields = ADDRESS.map(([name, label]) => [name, input({ name }), label]);
  const lines = [], list = h("div", {}), sum = h("p", { "aria-live": "polite" }), curl = h("pre", { class: "mono", id: "curl", tabindex: 0 }), wrong = h("div", {});

  function add() {
    const number = lines.length + 1;
    const line = {
      sku: input({ name: "sku", options: products.data.map((one) => [one.sku, `${one.name} – ${money(one.price, one.currency)} – ${one.stock.reduce((all, shelf) => all + shelf.available, 0)} available`]) }),
      quantity: input({ name: "quantity", type: "number", min: 1, value: 1, required: true }),
    };
    line.sku.id = `sku-${number}`;
    line.row = h("div", { class: "bar" }, labelled({ label: "Product" }, line.sku), labelled({ label: "Quantity" }, line.quantity),
      h("button", { type: "button", "aria-label": `Remove line ${number}`, onclick: () => { if (lines.length > 1) { lines.splice(lines.indexOf(line), 1); line.row.remove(); tell(); } } }, "Remove"));
    lines.push(line);
    list.append(line.row);
    tell();
  }

  function body() {
    const address = Object.fromEntries(fields.filter(([, field]) => field.value.trim()).map(([name, field]) => [name, field.value.trim()]));
    const of = usable.find((one) => one.id === customer.value);
    return {
      customer_id: customer.value,
      items: lines.map((line) => ({ sku: line.sku.value, quantity: Number(line.quantity.value) })),
      ...(Object.keys(address).length ? { shipping_address: address } : {}),
      ...(method.value.trim() ? { payment_method: method.value.trim() } : {}),
      ...(operates && of && of.storefront !== me.storefront ? { storefront: of.storefront } : {}),
    };
  }

  function tell() {
    const chosen = lines.map((line) => [products.data.find((one) => one.sku === line.sku.value), Number(line.quantity.value)]);
    const total = chosen.reduce((all, [product, quantity]) => all + product.price * quantity, 0);
    fill(sum, "Costs ", h("b", {}, money(total, chosen[0][0].currency)));
    fill(curl, [
      `curl -X POST ${location.origin}/v1/orders \\`,
      me.is_open ? null : "  -H \"Authorization: Bearer $KEY\" \\",
      "  -H 'Content-Type: application/json' -H 'Idempotency-Key: cart-1' \\",
      `  -d ${quote(JSON.stringify(body()))}`,
    ].filter(Boolean).join("\n"));
  }

  const submit = h("button", { class: "main" }, "Place order");
  const form = h("form", {
    class: "card", oninput: tell, onchange: tell,
    onsubmit: async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        const order = await change("POST", "/v1/orders", body(), { intent: "new_order" });
        toast(`Order #${order.number} is placed.`);
        location.hash = `#/orders/${order.id}`;
      } catch (failure) {
        fill(wrong, problem(failure));
        submit.disabled = false;
      }
    },
  },
  h("div", { class: "columns" },
    h("div", {}, h("h2", {}, "Who and what"), labelled({ label: "Customer" }, customer), list,
      h("p", {}, h("button", { type: "button", onclick: add }, "Another product")), labelled({ label: "Paid with", help: `The provider's token. The sandbox knows ${METHODS.map(([token, text]) => `${token} (${text})`).join(", ")}.` }, method), methods, sum),
    h("div", {}, h("h2", {}, "Where to"), fields.map(([, field, label]) => labelled({ label }, field)))),
  wrong, h("p", {}, submit));
  add();
  fill(root, h("h1", {}, "New order"), form, h("section", { class: "card" }, h("h2", {}, "The same with curl"), curl));
  return {};
}
