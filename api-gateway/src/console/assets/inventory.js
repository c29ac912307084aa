// Products and their stock in each warehouse.

import { loadAtLeast, change, get, query } from "./api.js";
import { showDialog, badge, empty, fill, h, input, labelled, money, problem, table, toast } from "./dom.js";

/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 1200;

const fieldsOf = (product) => [
  { name: "name", label: "Name", required: true, value: product?.name },
  { name: "price", label: "Price", type: "money", currency: product?.currency, currencyField: "currency", required: true, value: product?.price, help: "For example 9.99" },
  { name: "currency", label: "Currency", required: true, value: product?.currency ?? "EUR" },
  { name: "image_urls", label: "Image URLs", type: "area", value: product?.image_urls.filter((url) => !url.startsWith("/media/")).join("\n"), help: "Images on other servers, one URL per line" },
  { name: "low_stock_at", label: "Low stock threshold", type: "number", min: 0, value: product?.low_stock_at, help: "The product is marked as low on stock at this quantity or less" },
];
const productBody = (values) => ({ ...values, image_urls: (values.image_urls ?? "").split("\n").map((url) => url.trim()).filter(Boolean) });

export async function open(root, { isOperator, parameters }) {
  let products = [], next = null, failed = null, timer = null, prefix = parameters.get("q") ?? "";
  const list = h("div", {});
  const search = input({ name: "q", type: "search", value: prefix, placeholder: "Starts with" });

  // Products are listed by SKU. The list starts just before the first SKU with the prefix.
  const firstCursor = () => (prefix ? prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) - 1) + "~" : undefined);

  async function page(limit, cursor) {
    const found = await get(query("/v1/products", { limit, cursor: cursor ?? firstCursor() }));
    if (!prefix) return found;
    const data = found.data.filter((product) => product.sku.startsWith(prefix));
    return { data, next_cursor: data.length === found.data.length ? found.next_cursor : null };
  }

  async function refresh() {
    timer = null;
    try {
      const found = await loadAtLeast(products.length, page);
      products = found.data;
      next = found.next_cursor;
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
  }

  function draw() {
    const rows = table("Sorted by SKU", [
      ["Product", (product) => [h("b", {}, product.name), h("div", { class: "mono soft" }, product.sku)]],
      ["Images", (product) => product.image_urls.slice(0, 3).map((url) => h("a", { href: url, target: "_blank", rel: "noopener noreferrer" },
        h("img", { class: "thumb", src: url.startsWith("/media/") ? `${url}/320` : url, alt: `Image of ${product.name}`, loading: "lazy", referrerpolicy: "no-referrer" })))],
      ["Price", (product) => money(product.price, product.currency), "number"],
      ["Stock", (product) => stockLevels(product)],
      ["Available", (product) => {
        const available = product.stock.reduce((sum, level) => sum + level.available, 0);
        return [available, product.low_stock_at !== undefined && available <= product.low_stock_at && [" ", badge("low stock", "warn")]];
      }, "number"],
      isOperator && ["Actions", (product) => h("div", { class: "actions" },
        h("button", { id: `edit-${product.sku}`, "aria-label": `Edit ${product.sku}`, onclick: () => edit(product) }, "Edit"),
        h("button", { id: `photos-${product.sku}`, "aria-label": `Photos of ${product.sku}`, onclick: () => photos(product) }, "Photos"),
        h("button", { id: `count-${product.sku}`, "aria-label": `Set stock of ${product.sku}`, onclick: () => setStock(product) }, "Set stock"),
        h("button", { id: `delete-${product.sku}`, "aria-label": `Delete ${product.sku}`, class: "danger", onclick: () => remove(product) }, "Delete"))],
    ].filter(Boolean), products, { key: (product) => product.sku });
    fill(list, failed && problem(failed), products.length ? rows : !failed && empty(prefix ? "No products match this SKU." : "No products yet."),
      next && h("p", {}, h("button", { id: "more", onclick: more }, "Load more")));
  }

  function stockLevels(product) {
    if (!product.stock.length) return h("span", { class: "soft" }, "none");
    return h("ul", { class: "plain" }, product.stock.map((level) => h("li", {},
      `${level.warehouse}: ${level.on_hand} on hand, ${level.reserved} reserved `,
      isOperator && h("button", { "aria-label": `Adjust ${product.sku} in ${level.warehouse}`, id: `adjust-${product.sku}-${level.warehouse}`, onclick: () => adjust(product, level) }, "Adjust"),
      isOperator && level.reserved === 0 && h("button", { "aria-label": `Remove ${product.sku} from ${level.warehouse}`, id: `remove-${product.sku}-${level.warehouse}`, onclick: () => removeStock(product, level) }, "Remove"))));
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

  const create = async () => finish(await showDialog({
    title: "New product", submitLabel: "Create",
    fields: [{ name: "sku", label: "SKU", required: true, help: "Identifies the product in orders" }, ...fieldsOf()],
    act: (values) => change("POST", "/v1/products", productBody(values), { intent: "create_product" }),
  }), "Product created. It can be ordered when it has stock.");

  const edit = async (product) => finish(await showDialog({
    title: `Edit ${product.sku}`, submitLabel: "Save", text: "Existing orders keep their price.", fields: fieldsOf(product),
    act: (values) => change("PATCH", `/v1/products/${encodeURIComponent(product.sku)}`, productBody(values), { intent: "edit_product" }),
  }), "Product saved.");

  async function photos(product) {
    const { showPhotos } = await import("./photos.js");
    await showPhotos(product);
    await refresh();
  }

  const setStock = async (product) => finish(await showDialog({
    title: `Set stock of ${product.sku}`, submitLabel: "Save", text: "Enter the counted quantity, including reserved units. It cannot be less than the reserved quantity.",
    fields: [
      { name: "warehouse", label: "Warehouse", required: true, value: product.stock[0]?.warehouse ?? "main" },
      { name: "on_hand", label: "On hand", type: "number", min: 0, required: true, value: product.stock[0]?.on_hand },
      { name: "reason", label: "Reason" },
    ],
    act: ({ warehouse, ...values }) => change("PUT", `/v1/products/${encodeURIComponent(product.sku)}/stock/${encodeURIComponent(warehouse)}`, values, { intent: "count_stock" }),
  }), "Stock updated.");

  const adjust = async (product, level) => finish(await showDialog({
    title: `Adjust stock of ${product.sku} in ${level.warehouse}`, submitLabel: "Adjust", text: `${level.on_hand} units on hand, ${level.reserved} of them reserved.`,
    fields: [
      { name: "delta", label: "Change in units (negative to remove)", type: "number", required: true },
      { name: "reason", label: "Reason", required: true, help: "Recorded in the stock event, for example: received, damaged, found" },
    ],
    act: (values) => change("POST", `/v1/products/${encodeURIComponent(product.sku)}/stock/${encodeURIComponent(level.warehouse)}/adjustments`, values, { intent: "adjust_stock" }),
  }), "Stock adjusted.");

  const removeStock = async (product, level) => finish(await showDialog({
    title: `Remove ${product.sku} from ${level.warehouse}?`, submitLabel: "Remove", isDanger: true,
    text: level.on_hand > 0 ? `${level.on_hand} units are on hand. Enter the warehouse that they move to.` : "The warehouse is removed from the stock of this product.",
    fields: level.on_hand > 0 ? [{ name: "move_to", label: "Move the stock to warehouse", required: true }, { name: "reason", label: "Reason" }] : [],
    act: (values) => change("DELETE", `/v1/products/${encodeURIComponent(product.sku)}/stock/${encodeURIComponent(level.warehouse)}`, level.on_hand > 0 ? values : undefined, { intent: "remove_stock" }),
  }), "Stock of the warehouse removed.");

  const remove = async (product) => finish(await showDialog({
    title: `Delete ${product.sku}?`, submitLabel: "Delete", isDanger: true, text: "The product can no longer be ordered, and its photos are deleted. Existing orders keep it. Not possible while units are reserved for open orders.",
    act: () => change("DELETE", `/v1/products/${encodeURIComponent(product.sku)}`, undefined, { intent: "delete_product" }),
  }), "Product deleted.");

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Inventory"),
    h("form", { class: "bar", role: "search", "aria-label": "Search", onsubmit: (event) => { event.preventDefault(); prefix = search.value.trim(); products = []; refresh(); } },
      labelled({ label: "SKU" }, search), h("button", {}, "Search")),
    isOperator && h("button", { class: "main", onclick: create }, "New product")),
  h("section", { class: "card", "aria-label": "Products" }, list));
  await refresh();
  return {
    refresh, close: () => clearTimeout(timer),
    onEvent: (event) => { if (/^(product|stock)\.|^shipment\.(shipped|returned)/.test(event.type)) timer ??= setTimeout(refresh, RELOAD_DELAY_MS); },
  };
}
