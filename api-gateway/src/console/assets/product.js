// One product: details, stock by warehouse, photos and orders.

import { change, read } from "./api.js";
import { badge, h, money, showDialog, time, toast } from "./dom.js";
import { t } from "./i18n.js";
import { drawn, editForm, facts, openDetail } from "./detail.js";
import { openOrders } from "./order_list.js";
import { openPhotos } from "./photos.js";
import { stockTab } from "./product_stock.js";
import { productBody, productFields, stockBadges, thumbnail } from "./products.js";

export function open(root, context) {
  const { id: sku, isOperator } = context;
  const path = `/v1/products/${encodeURIComponent(sku)}`;

  async function load() {
    const { value, etag } = await read(path);
    return { ...value, etag };
  }

  async function remove(product) {
    const isRemoved = await showDialog({
      title: t("Delete {name}?", { name: product.name }), submitLabel: t("Delete"), isDanger: true,
      text: t("The product can no longer be ordered, and its photos are deleted. Existing orders keep it. Not possible while units are reserved for open orders."),
      act: () => change("DELETE", path, undefined, { intent: "delete_product" }),
    });
    if (!isRemoved) return;
    toast(t("Product deleted."));
    location.hash = "#/products";
  }

  const details = (product) => facts([
    [t("SKU"), h("span", { class: "mono" }, product.sku)], [t("Price"), money(product.price, product.currency)],
    [t("Created"), time(product.created_at)], [t("Changed"), time(product.updated_at)],
  ]);

  function openDetails(panel, product, reload) {
    const form = editForm(product, {
      title: t("Details"), text: t("Existing orders keep their price."), fields: productFields, reload, saved: t("Product saved."),
      save: (values, { etag }) => change("PATCH", path, productBody(values), { intent: "edit_product", etag }),
    });
    const about = h("section", { class: "card", "aria-label": t("About") });
    const refresh = (current) => { about.replaceChildren(h("h2", {}, t("About")), details(current)); form.refresh(current); };
    refresh(product);
    panel.append(h("div", { class: "columns" }, form.element, about));
    return { refresh };
  }

  return openDetail(root, context, {
    screen: "products", listTitle: t("Products"), load, gone: t("This product does not exist, or it was deleted."),
    heading: (product) => h("span", { class: "with-photo" }, thumbnail(product), h("span", {}, product.name, " ", stockBadges(product), product.is_deleted && badge(t("deleted"), "bad"))),
    actions: (product) => isOperator && h("button", { class: "danger", id: "delete", onclick: () => remove(product) }, t("Delete")),
    tabs: [
      { name: "details", title: t("Details"), open: isOperator ? openDetails : drawn((product) => h("section", { class: "card" }, h("h2", {}, t("Details")), details(product))) },
      { name: "stock", title: t("Stock"), open: stockTab(path, isOperator) },
      isOperator && { name: "photos", title: t("Photos"), open: (panel, product, reload) => openPhotos(panel, path, product, reload) },
      { name: "orders", title: t("Orders"), open: (panel) => openOrders(panel, { sku }, t("No orders of this product yet.")) },
    ].filter(Boolean),
    isAffected: (event) => /^(product|stock)\./.test(event.type) || /^(order|shipment)\./.test(event.type),
  });
}
