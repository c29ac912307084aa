// The filters of the order list: their place in the address, the requests that they stand for, the form and the
// chips.

import { query } from "./api.js";
import { h, input, labelled } from "./dom.js";
import { locale, name, t } from "./i18n.js";

/** The tabs: a status, or orders that wait for approval; "" has all orders. */
export const TABS = ["", "pending", "awaiting_approval", "processing", "shipped", "delivered", "cancelled"];
const TAB_TITLES = { "": t("All"), awaiting_approval: t("Awaiting approval") };
const PAYMENTS = ["outstanding", "pending", "authorized", "captured", "partially_refunded", "refunded", "voided", "failed"];
const FIELDS = ["tab", "q", "from", "to", "payment_status", "sku", "tag", "storefront", "customer_id", "include_deleted", "sort"];
/** Fields that only operators may filter by. */
const OPERATOR_FIELDS = ["tag", "storefront", "include_deleted"];

const capitalized = (text) => text[0].toUpperCase() + text.slice(1);
export const tabTitle = (tab) => TAB_TITLES[tab] ?? capitalized(name(tab));

/** The filter in the address; unknown values are left out. */
export function readFilter(parameters, isOperator) {
  const filter = Object.fromEntries(FIELDS.map((field) => [field, parameters.get(field)?.trim() ?? ""]));
  // Links may name the status and the payment like this, too.
  filter.tab ||= parameters.get("status") ?? "";
  filter.payment_status ||= parameters.get("payment") ?? "";
  if (!TABS.includes(filter.tab)) filter.tab = "";
  if (!PAYMENTS.includes(filter.payment_status)) filter.payment_status = "";
  if (filter.sort !== "created_at") filter.sort = "";
  for (const field of ["from", "to"]) if (!startOfDay(filter[field])) filter[field] = "";
  if (!isOperator) for (const field of OPERATOR_FIELDS) filter[field] = "";
  return filter;
}

/** The address of the list with this filter. */
export const address = (filter) => query("#/orders", filter);

/** The first moment of a day in the viewer's time zone, or of the day after it. */
function startOfDay(day, offset = 0) {
  if (!/^\d{4}-\d\d-\d\d$/.test(day)) return null;
  const [year, month, date] = day.split("-").map(Number);
  const time = new Date(year, month - 1, date + offset);
  return Number.isNaN(time.valueOf()) ? null : time;
}

/** The parameters that lists and counts have in common. */
function commonParameters(filter) {
  return {
    created_after: startOfDay(filter.from)?.toISOString(), created_before: startOfDay(filter.to, 1)?.toISOString(),
    sku: filter.sku, tag: filter.tag, storefront: filter.storefront, customer_id: filter.customer_id, include_deleted: filter.include_deleted,
  };
}

/** The parameters of GET /v1/orders. */
export function listParameters(filter) {
  const isAwaiting = filter.tab === "awaiting_approval";
  return {
    ...commonParameters(filter), q: filter.q, payment_status: filter.payment_status, sort: filter.sort,
    status: isAwaiting ? "" : filter.tab, awaits_approval: isAwaiting ? "true" : "",
  };
}

/** The parameters of GET /v1/orders/count; null if the filter can't be counted. */
export function countParameters(filter) {
  return filter.q || filter.payment_status ? null : commonParameters(filter);
}

/** Whether anything but the tab and the order limits the list. */
export const isFiltered = (filter) => FIELDS.some((field) => field !== "tab" && field !== "sort" && filter[field]);

/** The same tab and order without filters. */
export const cleared = ({ tab, sort }) => ({ ...readFilter(new URLSearchParams(), true), tab, sort });

const paymentTitle = (payment) => (payment === "outstanding" ? t("Payment to record") : capitalized(name(payment)));

/**
 * The form with the filters: `{ element, show }`. It calls `apply` with its values when one has changed; `show`
 * shows another filter.
 */
export function filterForm(filter, isOperator, apply) {
  const fields = [
    { name: "from", label: t("From"), type: "date" }, { name: "to", label: t("To"), type: "date" },
    { name: "payment_status", label: t("Payment"), options: [["", t("All")], ...PAYMENTS.map((payment) => [payment, paymentTitle(payment)])] },
    { name: "sku", label: t("Product (SKU)") },
    isOperator && { name: "tag", label: t("Tag") }, isOperator && { name: "storefront", label: t("Storefront") },
    isOperator && { name: "include_deleted", label: t("Include deleted"), type: "check" },
  ].filter(Boolean);
  const inputs = fields.map((field) => [field, input(field)]);
  const value = (element) => (element.type === "checkbox" ? (element.checked ? "true" : "") : element.value.trim());
  const read = (event) => {
    event.preventDefault();
    apply(Object.fromEntries(inputs.map(([{ name }, element]) => [name, value(element)])));
  };
  const show = (values) => {
    for (const [{ name }, element] of inputs) {
      if (value(element) === values[name]) continue;
      if (element.type === "checkbox") element.checked = values[name] === "true";
      else element.value = values[name];
    }
  };
  show(filter);
  const element = h("form", { class: "bar", "aria-label": t("Filter"), onchange: read, onsubmit: read },
    inputs.map(([field, element]) => labelled(field, element)), h("button", {}, t("Apply")));
  return { element, show };
}

const day = (text) => startOfDay(text).toLocaleDateString(locale, { dateStyle: "medium" });

/** The filters that are set, each with a button that removes it. `customer` is the name of the customer. */
export function chips(filter, customer, apply) {
  const texts = {
    q: t("Matches “{text}”", { text: filter.q }),
    from: filter.from && t("From {day}", { day: day(filter.from) }),
    to: filter.to && t("Until {day}", { day: day(filter.to) }),
    payment_status: filter.payment_status && t("Payment: {status}", { status: paymentTitle(filter.payment_status) }),
    sku: t("Product: {sku}", { sku: filter.sku }),
    tag: t("Tag: {tag}", { tag: filter.tag }),
    storefront: t("Storefront: {storefront}", { storefront: filter.storefront }),
    customer_id: t("Customer: {customer}", { customer }),
    include_deleted: t("Deleted orders included"),
  };
  const set = FIELDS.filter((field) => texts[field] && filter[field]);
  if (!set.length) return null;
  return h("ul", { class: "chips", "aria-label": t("Active filters") },
    set.map((field) => h("li", {}, h("button", {
      type: "button", id: `chip-${field}`, title: t("Remove this filter"), "aria-label": t("Remove filter {filter}", { filter: texts[field] }),
      onclick: () => apply({ [field]: "" }),
    }, texts[field], h("span", { "aria-hidden": "true" }, " ✕")))),
    h("li", {}, h("button", { type: "button", class: "plain", id: "clear-filters", onclick: () => apply(cleared(filter)) }, t("Clear all"))));
}
