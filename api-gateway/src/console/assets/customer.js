// One customer: details with addresses, and orders.

import { change, read } from "./api.js";
import { h, showDialog, table, time, toast } from "./dom.js";
import { t } from "./i18n.js";
import { addressCard } from "./customer_addresses.js";
import { customerBadges } from "./customers.js";
import { editForm, facts, openDetail } from "./detail.js";
import { openOrders } from "./order_list.js";

export function open(root, context) {
  const { id } = context;
  const path = `/v1/customers/${encodeURIComponent(id)}`;

  async function load() {
    const { value, etag } = await read(path);
    return { ...value, etag };
  }

  async function act(reload, verb, done, dialog) {
    const isDone = await showDialog({ ...dialog, act: () => change("POST", `${path}/${verb}`, {}, { intent: `${verb}_customer` }) });
    if (isDone) toast(done);
    await reload();
  }

  async function erase(customer, reload) {
    const isErased = await showDialog({
      title: t("Erase {name}?", { name: customer.name }), submitLabel: t("Erase"), isDanger: true,
      text: h("div", {},
        h("p", {}, t("Erased for good, here and in all orders of this customer:")),
        h("ul", {}, h("li", {}, t("name, e-mail, phone number, addresses and metadata")), h("li", {}, t("addresses, notes and free texts of orders and returns")), h("li", {}, t("addresses and contents of messages"))),
        h("p", {}, t("Kept: what was sold and paid. This cannot be undone, and is refused while an order or a return of the customer is open."))),
      act: () => change("DELETE", path, undefined, { intent: "erase_customer" }),
    });
    if (isErased) toast(t("Customer erased."));
    await reload();
  }

  function actions(customer, reload) {
    if (customer.erased_at) return null;
    const { name } = customer;
    return [
      !customer.is_verified && h("button", { id: "verify", onclick: () => act(reload, "verify", t("Customer verified."), { title: t("Verify {name}?", { name }), submitLabel: t("Verify"), text: t("Records that the shop has checked the customer's identity.") }) }, t("Verify")),
      customer.is_blocked
        ? h("button", { id: "block", onclick: () => act(reload, "unblock", t("Customer unblocked."), { title: t("Unblock {name}?", { name }), submitLabel: t("Unblock"), text: t("The customer can place orders again.") }) }, t("Unblock"))
        : h("button", { id: "block", class: "danger", onclick: () => act(reload, "block", t("Customer blocked."), { title: t("Block {name}?", { name }), submitLabel: t("Block"), isDanger: true, text: t("New orders of this customer are refused. Orders that are already placed continue.") }) }, t("Block")),
      h("button", { id: "erase", class: "danger", onclick: () => erase(customer, reload) }, t("Erase")),
    ];
  }

  function openDetails(panel, customer, reload) {
    const about = h("section", { class: "card", "aria-label": t("About") });
    const addresses = h("div", {});
    const form = customer.erased_at ? null : editForm(customer, {
      title: t("Details"), reload, saved: t("Customer saved."),
      fields: (current) => [
        { name: "name", label: t("Name"), required: true, value: current.name },
        { name: "email", label: t("E-mail"), type: "email", required: true, value: current.email, help: t("A customer whose e-mail address changes has to be verified again.") },
        { name: "phone", label: t("Phone"), type: "tel", value: current.phone },
      ],
      save: ({ name, email, phone }, { etag }) => change("PATCH", path, { name, email, phone: phone ?? null }, { intent: "edit_customer", etag }),
    });

    function refresh(current) {
      about.replaceChildren(h("h2", {}, t("About")), facts([
        [t("Customer ID"), h("span", { class: "mono" }, current.id)], [t("Storefront"), current.storefront],
        [t("Created"), time(current.created_at)], [t("Erased"), current.erased_at && time(current.erased_at)],
      ]), metadata(current));
      addresses.replaceChildren(current.erased_at ? "" : addressCard(path, current, reload));
      form?.refresh(current);
    }

    refresh(customer);
    panel.append(h("div", { class: "columns" }, form?.element ?? "", about), addresses);
    return { refresh };
  }

  const metadata = (customer) => {
    const entries = Object.entries(customer.metadata);
    return entries.length > 0 ? table(t("Metadata"), [[t("Name"), ([name]) => name], [t("Value"), ([, value]) => typeof value === "string" ? value : JSON.stringify(value)]], entries) : "";
  };

  return openDetail(root, context, {
    screen: "customers", listTitle: t("Customers"), load, gone: t("This customer does not exist."),
    heading: (customer) => [customer.erased_at ? t("Erased customer") : customer.name, " ", customerBadges(customer)],
    actions,
    tabs: [
      { name: "details", title: t("Details"), open: openDetails },
      { name: "orders", title: t("Orders"), open: (panel) => openOrders(panel, { customer_id: id }, t("This customer has placed no orders yet.")) },
    ],
    isAffected: (event, customer) => event.type.startsWith("customer.") && (event.subject ?? customer.id) === customer.id,
  });
}
