// The list of customers.

import { change } from "./api.js";
import { badge, h, relative, showDialog, table, toast } from "./dom.js";
import { t } from "./i18n.js";
import { openList } from "./list.js";

/** Labels of a customer's state. */
export function customerBadges(customer) {
  return [
    customer.erased_at && badge(t("erased"), ""), customer.is_blocked && badge(t("blocked"), "bad"), " ",
    customer.is_verified && badge(t("verified"), "good"),
  ];
}

export async function open(root, { isOperator, parameters }) {
  async function create() {
    const created = await showDialog({
      title: t("New customer"), submitLabel: t("Create"),
      fields: [
        { name: "name", label: t("Name"), required: true }, { name: "email", label: t("E-mail"), type: "email", required: true },
        { name: "phone", label: t("Phone"), type: "tel" },
        ...(isOperator ? [{ name: "storefront", label: t("Storefront"), help: t("Leave empty for the storefront of your login") }] : []),
      ],
      act: (values) => change("POST", "/v1/customers", values, { intent: "create_customer" }),
    });
    if (!created) return;
    toast(t("Customer created."));
    location.hash = `#/customers/${created.id}`;
  }

  return openList(root, parameters, {
    screen: "customers", path: "/v1/customers", title: t("Customers"),
    actions: h("button", { class: "main", onclick: create }, t("New customer")),
    search: { label: t("Search"), placeholder: t("Name or e-mail") },
    filters: isOperator ? [{ name: "storefront", label: t("Storefront") }] : [],
    rows: (customers, list) => table(t("Newest first"), [
      [t("Name"), (customer) => h("a", { href: `#/customers/${customer.id}`, id: `customer-${customer.id}` }, customer.erased_at ? t("erased customer") : customer.name)],
      [t("E-mail"), (customer) => customer.email || "–"],
      isOperator && [t("Storefront"), (customer) => h("button", { class: "link", "aria-label": t("Show only customers of {storefront}", { storefront: customer.storefront }), onclick: () => list.apply({ storefront: customer.storefront }) }, customer.storefront)],
      [t("Status"), customerBadges],
      [t("Created"), (customer) => relative(customer.created_at)],
    ].filter(Boolean), customers, { key: (customer) => customer.id }),
    noEntries: [h("p", {}, t("No customers yet.")), h("p", {}, t("Create a customer here or with your shop's first request: every order belongs to one."))],
    isAffected: (event) => event.type.startsWith("customer."),
  });
}
