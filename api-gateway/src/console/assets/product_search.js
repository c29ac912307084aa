// The search of pickers for products.

import { get, query } from "./api.js";
import { money } from "./dom.js";
import { plural } from "./i18n.js";

/** Products that a picker lists. */
const MAX_CHOICES = 10;

/** Searches products by the beginning of SKU or name. Adds them to the map `found`, by SKU. */
export async function searchProducts(text, found) {
  const { data } = await get(query("/v1/products", { q: text, limit: MAX_CHOICES }));
  return data.map((product) => {
    found.set(product.sku, product);
    const available = product.stock.reduce((sum, level) => sum + level.available, 0);
    return [product.sku, product.name, [product.sku, money(product.price, product.currency), plural(available, "1 available", "{count} available")].join(" · ")];
  });
}
