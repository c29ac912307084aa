// Customer, address, tags and technical details of an order.

import { query } from "./api.js";
import { badge, h, time } from "./dom.js";
import { language, t } from "./i18n.js";
import { hasShipped, isOpen } from "./order_state.js";

/** The usual fields of an address. */
export const ADDRESS = [["name", t("Name")], ["line1", t("Street")], ["line2", t("Address line 2")], ["postal_code", t("Postal code")], ["city", t("City")], ["region", t("Region")], ["country", t("Country")]];
const KNOWN = new Set(ADDRESS.map(([name]) => name));

export function customerCard({ order, customer }) {
  const orders = h("a", { href: query("#/orders", { customer_id: order.customer_id }) }, t("All orders of this customer"));
  return h("section", { class: "card", "aria-label": t("Customer") }, h("h2", {}, t("Customer")),
    !customer ? h("p", { class: "soft" }, t("The customer's data is not available."))
      : customer.erased_at ? h("p", { class: "soft" }, t("The personal data of this customer was erased."))
        : h("div", { class: "lines" },
          h("a", { href: `#/customers/${customer.id}` }, customer.name),
          h("a", { href: `mailto:${encodeURIComponent(customer.email)}` }, customer.email),
          customer.phone && h("a", { href: `tel:${customer.phone.replaceAll(/[^+\d]/g, "")}` }, customer.phone),
          h("div", {}, customer.is_blocked && badge("blocked", "bad"), customer.is_verified && badge("verified", "good"))),
    h("p", {}, orders));
}

const countries = new Intl.DisplayNames(language, { type: "region" });

/** A two-letter country code in words. */
function countryName(code) {
  try {
    return /^[A-Z]{2}$/.test(code) ? countries.of(code) : code;
  } catch {
    return code;
  }
}

/** The lines of an address, as on a letter; fields with other names follow with their names. */
export function addressLines(address) {
  const { name, line1, line2, postal_code, city, region, country } = address ?? {};
  const others = Object.entries(address ?? {}).filter(([field]) => !KNOWN.has(field)).map(([field, text]) => `${field}: ${text}`);
  return [name, line1, line2, [postal_code, city].filter(Boolean).join(" "), region, country && countryName(country), ...others].filter(Boolean);
}

export const canEditAddress = ({ order }) => isOpen(order) && !hasShipped(order) && !order.is_deleted;

export function addressCard(page) {
  const lines = addressLines(page.order.shipping_address);
  return h("section", { class: "card", "aria-label": t("Ship to") }, h("h2", {}, t("Ship to")),
    lines.length ? h("address", { class: "lines" }, lines.map((line) => h("div", {}, line))) : h("p", { class: "soft" }, t("No shipping address.")),
    canEditAddress(page) && h("p", {}, h("button", { id: "edit-address", onclick: () => editAddress(page) }, t("Edit shipping address"))));
}

export function editAddress(page) {
  const { order } = page;
  const current = order.shipping_address ?? {};
  const others = Object.keys(current).filter((name) => !KNOWN.has(name));
  const fields = [...ADDRESS, ...others.map((name) => [name, name])].map(([name, label]) => ({ name, label, value: current[name] }));
  const isLabelled = order.shipments.some((shipment) => shipment.status === "label_created");
  page.act({
    title: t("Edit the shipping address"), submitLabel: t("Save"), method: "PATCH", path: `/v1/orders/${order.id}`, intent: "edit_address", fields,
    text: isLabelled && t("When you save, the shipping label is cancelled at the carrier, and a new one is requested for the new address. Throw away a label that is already printed."),
    toBody: (values) => {
      const given = fields.map(({ name }) => [name, values[name] ?? null]).filter(([name, text]) => text !== null || name in current);
      return { shipping_address: given.some(([, text]) => text) ? Object.fromEntries(given) : null };
    },
  });
}

/** Tags: for operators only. */
export function tagCard(page) {
  const { order, isOperator } = page;
  if (!isOperator) return null;
  const tags = order.tags ?? [];
  return h("section", { class: "card", "aria-label": t("Tags") }, h("h2", {}, t("Tags")),
    h("p", { class: "tags" }, tags.length ? tags.map((tag) => h("a", { class: "badge", href: query("#/orders", { tag }) }, tag)) : h("span", { class: "soft" }, t("No tags."))),
    !order.is_deleted && h("button", {
      id: "edit-tags",
      onclick: () => page.act({
        title: t("Edit tags"), submitLabel: t("Save"), method: "PATCH", path: `/v1/orders/${order.id}`, intent: "edit_tags",
        fields: [{ name: "tags", label: t("Tags"), value: tags.join(", "), help: t("Separated by commas. Only staff can see them; customers cannot.") }],
        toBody: ({ tags: text }) => ({ tags: (text ?? "").split(",").filter((tag) => tag.trim()) }),
      }),
    }, t("Edit tags")));
}

/** Whether the technical details are open: they stay so when the page is drawn again. */
let areDetailsOpen = false;

/** IDs, metadata and versions, for support and developers. */
export function details({ order }) {
  const row = (title, value, isCode) => [h("dt", {}, title), h("dd", { class: isCode && "mono" }, value)];
  return h("details", { class: "card", open: areDetailsOpen, ontoggle: (event) => { areDetailsOpen = event.target.open; } },
    h("summary", {}, h("h2", {}, t("Technical details"))),
    h("dl", {},
      row(t("Order ID"), order.id, true), row(t("Storefront"), order.storefront),
      row(t("Customer ID"), order.customer_id, true),
      order.external_id && row(t("External ID"), order.external_id, true),
      row(t("Placed"), time(order.created_at)), row(t("Last updated"), time(order.updated_at)),
      order.deleted_at && row(t("Deleted"), time(order.deleted_at)),
      row(t("Version"), order.version),
      row(t("Step in progress"), order.in_progress?.step ?? "–", true)),
    Object.keys(order.metadata).length > 0 && [h("h3", {}, t("Metadata")), h("pre", {}, JSON.stringify(order.metadata, null, 2))]);
}
