// Products, and what is on which shelf.

import { beginning, change, get, query } from "./api.js";
import { ask, badge, empty, fill, h, input, labelled, money, problem, table, toast } from "./dom.js";

const PAUSE_MS = 1200;

const fieldsOf = (product) => [
  { name: "name", label: "Name", required: true, value: product?.name },
  { name: "price", label: "Price in the currency's smallest unit", type: "number", min: 0, required: true, value: product?.price },
  { name: "currency", label: "Currency", required: true, value: product?.currency ?? "EUR" },
  { name: "image_urls", label: "Pictures", type: "area", value: product?.image_urls.join("\n"), help: "A URL a line" },
  { name: "low_stock_at", label: "Tell when no more than this are available", type: "number", min: 0, value: product?.low_stock_at },
];
const written = (values) => ({ ...values, image_urls: (values.image_urls ?? "").split("\n").map((url) => url.trim()).filter(Boolean) });

export async function open(root, { operates, parameters }) {
  let products = [], next = null, failed = null, timer = null, wanted = parameters.get("q") ?? "";
  const list = h("div", {});
  const search = input({ name: "q", type: "search", value: wanted, placeholder: "begins with" });

  // Products are in the order of their skus: those that begin with the word begin there.
  const before = () => (wanted ? wanted.slice(0, -1) + String.fromCharCode(wanted.charCodeAt(wanted.length - 1) - 1) + "~" : undefined);

  async function page(limit, cursor) {
    const found = await get(query("/v1/products", { limit, cursor: cursor ?? before() }));
    if (!wanted) return found;
    const data = found.data.filter((product) => product.sku.startsWith(wanted));
    return { data, next_cursor: data.length === found.data.length ? found.next_cursor : null };
  }

  async function refresh() {
    timer = null;
    try {
      const found = await beginning(products.length, page);
      products = found.data;
      next = found.next_cursor;
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  function draw() {
    const rows = table("By sku", [
      ["Product", (product) => [h("b", {}, product.name), h("div", { class: "mono soft" }, product.sku)]],
      ["Pictures", (product) => product.image_urls.slice(0, 3).map((url) => h("a", { href: url, target: "_blank", rel: "noopener noreferrer" },
        h("img", { class: "thumb", src: url, alt: `Picture of ${product.name}`, loading: "lazy", referrerpolicy: "no-referrer" })))],
      ["Price", (product) => money(product.price, product.currency), "number"],
      ["Stock", (product) => shelves(product)],
      ["Available", (product) => {
        const available = product.stock.reduce((all, shelf) => all + shelf.available, 0);
        return [available, product.low_stock_at !== undefined && available <= product.low_stock_at && [" ", badge("low", "warn")]];
      }, "number"],
      operates && ["Actions", (product) => h("div", { class: "actions" },
        h("button", { id: `edit-${product.sku}`, "aria-label": `Edit ${product.sku}`, onclick: () => edit(product) }, "Edit"),
        h("button", { id: `count-${product.sku}`, "aria-label": `Count stock of ${product.sku}`, onclick: () => count(product) }, "Count"),
        h("button", { id: `delete-${product.sku}`, "aria-label": `Delete ${product.sku}`, class: "danger", onclick: () => remove(product) }, "Delete"))],
    ].filter(Boolean), products, { key: (product) => product.sku });
    fill(list, failed && problem(failed), products.length ? rows : !failed && empty(wanted ? "No product begins like this." : "There is no product yet."),
      next && h("p", {}, h("button", { id: "more", onclick: more }, "More")));
  }

  function shelves(product) {
    if (!product.stock.length) return h("span", { class: "soft" }, "none");
    return h("ul", { class: "plain" }, product.stock.map((shelf) => h("li", {},
      `${shelf.warehouse}: ${shelf.on_hand} on hand, ${shelf.reserved} reserved `,
      operates && h("button", { "aria-label": `Adjust ${product.sku} in ${shelf.warehouse}`, id: `adjust-${product.sku}-${shelf.warehouse}`, onclick: () => adjust(product, shelf) }, "Adjust"),
      operates && shelf.reserved === 0 && h("button", { "aria-label": `Remove ${product.sku} from ${shelf.warehouse}`, id: `remove-${product.sku}-${shelf.warehouse}`, onclick: () => removeShelf(product, shelf) }, "Remove"))));
  }

  async function more() {
    try {
      const found = await page(50, next);
      products.push(...found.data);
      next = found.next_cursor;
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  async function finish(done, text) {
    if (done) toast(text);
    await refresh();
  }

  const create = async () => finish(await ask({
    title: "New product", yes: "Create",
    fields: [{ name: "sku", label: "Sku", required: true, help: "What it is ordered by" }, ...fieldsOf()],
    act: (values) => change("POST", "/v1/products", written(values), { intent: "create_product" }),
  }), "The product can be ordered as soon as it has stock.");

  const edit = async (product) => finish(await ask({
    title: `Edit ${product.sku}`, yes: "Save", text: "Orders keep the price they were made with.", fields: fieldsOf(product),
    act: (values) => change("PATCH", `/v1/products/${encodeURIComponent(product.sku)}`, written(values), { intent: "edit_product" }),
  }), "Saved.");

  const count = async (product) => finish(await ask({
    title: `Count ${product.sku}`, yes: "Save", text: "What is on the shelf, reserved units included; never less than is reserved.",
    fields: [
      { name: "warehouse", label: "Warehouse", required: true, value: product.stock[0]?.warehouse ?? "main" },
      { name: "on_hand", label: "On hand", type: "number", min: 0, required: true, value: product.stock[0]?.on_hand },
      { name: "reason", label: "Why" },
    ],
    act: ({ warehouse, ...values }) => change("PUT", `/v1/products/${encodeURIComponent(product.sku)}/stock/${encodeURIComponent(warehouse)}`, values, { intent: "count_stock" }),
  }), "Counted.");

  const adjust = async (product, shelf) => finish(await ask({
    title: `Adjust ${product.sku} in ${shelf.warehouse}`, yes: "Adjust", text: `${shelf.on_hand} are on hand, ${shelf.reserved} of them reserved.`,
    fields: [
      { name: "delta", label: "Units more, or less (with a minus)", type: "number", required: true },
      { name: "reason", label: "Why", required: true, help: "Kept in the history: found, broken, delivered …" },
    ],
    act: (values) => change("POST", `/v1/products/${encodeURIComponent(product.sku)}/stock/${encodeURIComponent(shelf.warehouse)}/adjustments`, values, { intent: "adjust_stock" }),
  }), "Adjusted.");

  const removeShelf = async (product, shelf) => finish(await ask({
    title: `Remove ${product.sku} from ${shelf.warehouse}?`, yes: "Remove", isDanger: true,
    text: shelf.on_hand > 0 ? `${shelf.on_hand} units are on hand: name the warehouse where they are.` : "The warehouse is not listed for this product any more.",
    fields: shelf.on_hand > 0 ? [{ name: "move_to", label: "Move the stock to warehouse", required: true }, { name: "reason", label: "Why" }] : [],
    act: (values) => change("DELETE", `/v1/products/${encodeURIComponent(product.sku)}/stock/${encodeURIComponent(shelf.warehouse)}`, shelf.on_hand > 0 ? values : undefined, { intent: "remove_stock" }),
  }), "Removed.");

  const remove = async (product) => finish(await ask({
    title: `Delete ${product.sku}?`, yes: "Delete", isDanger: true, text: "Nobody can order it any more. Orders that have it keep it. Not possible while units are reserved.",
    act: () => change("DELETE", `/v1/products/${encodeURIComponent(product.sku)}`, undefined, { intent: "delete_product" }),
  }), "Deleted.");

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Inventory"),
    h("form", { class: "bar", role: "search", "aria-label": "Search", onsubmit: (event) => { event.preventDefault(); wanted = search.value.trim(); products = []; refresh(); } },
      labelled({ label: "Sku" }, search), h("button", {}, "Search")),
    operates && h("button", { class: "main", onclick: create }, "New product")),
  h("section", { class: "card", "aria-label": "Products" }, list));
  await refresh();
  return {
    refresh, leave: () => clearTimeout(timer),
    take: (event) => { if (/^(product|stock)\.|^shipment\.(shipped|returned)/.test(event.type)) timer ??= setTimeout(refresh, PAUSE_MS); },
  };
}
