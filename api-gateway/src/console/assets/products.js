// The list of products: photo, price and stock over all warehouses.

import { change } from "./api.js";
import { badge, h, money, showDialog, table, toast } from "./dom.js";
import { number, t } from "./i18n.js";
import { openList } from "./list.js";

/** Fields of a product's form. */
export const productFields = (product) => [
  { name: "name", label: t("Name"), required: true, value: product?.name },
  { name: "price", label: t("Price"), type: "money", currency: product?.currency, currencyField: "currency", required: true, value: product?.price, help: t("For example 9.99") },
  { name: "currency", label: t("Currency"), required: true, value: product?.currency ?? "EUR" },
  { name: "image_urls", label: t("Image URLs"), type: "area", value: product?.image_urls.filter((url) => !url.startsWith("/media/")).join("\n"), help: t("Images on other servers, one URL per line. Photos are uploaded on the tab Photos.") },
];

export const thresholdField = (product) => ({
  name: "low_stock_at", label: t("Low stock level"), type: "number", min: 0, value: product?.low_stock_at,
  help: t("The product is marked as low on stock at this number of available units or less. Leave empty for no mark."),
});

export const productBody = (values) => ({ ...values, image_urls: (values.image_urls ?? "").split("\n").map((url) => url.trim()).filter(Boolean) });

/** Units of a product over all warehouses: { available, reserved, on_hand }. */
export function totals(product) {
  const sum = (name) => product.stock.reduce((units, level) => units + level[name], 0);
  return { available: sum("available"), reserved: sum("reserved"), on_hand: sum("on_hand") };
}

/** Labels of a product's stock. */
export function stockBadges(product) {
  const { available } = totals(product);
  const isLow = product.low_stock_at !== undefined && available <= product.low_stock_at;
  return [available <= 0 && badge(t("out of stock"), "bad"), " ", isLow && badge(t("low stock"), "warn")];
}

/** The first image of a product, or an empty space of its size. */
export function thumbnail(product) {
  const [url] = product.image_urls;
  return url
    ? h("img", { class: "thumb", src: url.startsWith("/media/") ? `${url}/320` : url, alt: "", loading: "lazy", referrerpolicy: "no-referrer" })
    : h("span", { class: "thumb", "aria-hidden": "true" });
}

export const productAddress = (sku) => `#/products/${encodeURIComponent(sku)}`;

export async function open(root, { isOperator, parameters }) {
  async function create() {
    const created = await showDialog({
      title: t("New product"), submitLabel: t("Create"),
      fields: [{ name: "sku", label: t("SKU"), required: true, help: t("Identifies the product in orders") }, ...productFields(), thresholdField()],
      act: (values) => change("POST", "/v1/products", productBody(values), { intent: "create_product" }),
    });
    if (!created) return;
    toast(t("Product created. It can be ordered when it has stock."));
    location.hash = `${productAddress(created.sku)}?tab=stock`;
  }

  return openList(root, parameters, {
    screen: "products", path: "/v1/products", title: t("Products"),
    actions: isOperator && h("button", { class: "main", onclick: create }, t("New product")),
    search: { label: t("Search"), placeholder: t("SKU or name") },
    tabs: { name: "low_stock", label: t("Stock"), options: [["", t("All")], ["true", t("Low stock")]] },
    rows: (products) => table(t("Sorted by SKU"), [
      [t("Product"), (product) => h("div", { class: "with-photo" }, thumbnail(product),
        h("div", {}, h("a", { href: productAddress(product.sku), id: `product-${product.sku}` }, product.name), h("div", { class: "mono soft" }, product.sku)))],
      [t("Price"), (product) => money(product.price, product.currency), "number"],
      [t("Available"), (product) => [stockBadges(product), " ", number(totals(product).available)], "number"],
      [t("Reserved"), (product) => number(totals(product).reserved), "number"],
      [t("On hand"), (product) => number(totals(product).on_hand), "number"],
      [t("Warehouses"), (product) => product.stock.map((level) => level.warehouse).join(", ") || "–"],
    ], products, { key: (product) => product.sku }),
    noEntries: [h("p", {}, t("No products yet.")), isOperator && h("p", {}, t("Create a product, then set its stock: it can be ordered as soon as it has available units."))],
    isAffected: (event) => /^(product|stock)\.|^shipment\.(shipped|returned)/.test(event.type),
  });
}
