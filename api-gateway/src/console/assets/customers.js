// Customers: creation, verification, blocking and erasure.

import { change, pagedList, query } from "./api.js";
import { showDialog, badge, empty, fill, h, problem, table, time, toast } from "./dom.js";

export async function open(root, { isOperator }) {
  const list = h("div", {});

  const page = pagedList("/v1/customers", draw);
  const { refresh } = page;

  function draw() {
    const { data: customers, next, failed } = page;
    const rows = table("Newest first", [
      ["Name", (customer) => customer.erased_at ? h("i", { class: "soft" }, "erased") : customer.name],
      ["Email", (customer) => customer.email],
      isOperator && ["Storefront", (customer) => customer.storefront],
      ["Status", (customer) => [customer.is_blocked && badge("blocked", "bad"), " ", customer.is_verified && badge("verified", "good")]],
      ["Created", (customer) => time(customer.created_at)],
      ["Actions", (customer) => h("div", { class: "actions" },
        h("a", { class: "button", href: query("#/orders", { customer_id: customer.id }) }, "Orders"),
        !customer.erased_at && !customer.is_verified && h("button", { onclick: () => act(customer, "verify", "Verify", "Records that the shop has checked the customer's identity.") }, "Verify"),
        !customer.erased_at && (customer.is_blocked
          ? h("button", { onclick: () => act(customer, "unblock", "Unblock", "The customer can place orders again.") }, "Unblock")
          : h("button", { class: "danger", onclick: () => act(customer, "block", "Block", "New orders of this customer are refused. Orders that are already placed continue.") }, "Block")),
        !customer.erased_at && h("button", { class: "danger", onclick: () => erase(customer) }, "Erase"))],
    ].filter(Boolean), customers, { key: (customer) => customer.id });
    fill(list, failed && problem(failed), customers.length ? rows : !failed && empty("No customers yet."),
      next && h("p", {}, h("button", { id: "more", onclick: page.more }, "Load more")));
  }

  async function act(customer, verb, submitLabel, text) {
    const dialogResult = await showDialog({
      title: `${submitLabel} ${customer.name}?`, text, submitLabel, isDanger: verb === "block",
      act: () => change("POST", `/v1/customers/${customer.id}/${verb}`, {}, { intent: `${verb}_customer` }),
    });
    if (dialogResult) toast("Done.");
    refresh();
  }

  async function erase(customer) {
    const dialogResult = await showDialog({
      title: `Erase ${customer.name}?`, submitLabel: "Erase", isDanger: true,
      text: "Name, email, addresses and all other personal data, also in the customer's orders, are permanently erased. What was sold and paid stays on record. This cannot be undone. Not possible while an order of the customer is open.",
      act: () => change("DELETE", `/v1/customers/${customer.id}`, undefined, { intent: "erase_customer" }),
    });
    if (dialogResult) toast("Customer erased.");
    refresh();
  }

  async function create() {
    const dialogResult = await showDialog({
      title: "New customer", submitLabel: "Create",
      fields: [
        { name: "name", label: "Name", required: true }, { name: "email", label: "Email", type: "email", required: true },
        ...(isOperator ? [{ name: "storefront", label: "Storefront", help: "Leave empty for the storefront of your login" }] : []),
      ],
      act: (values) => change("POST", "/v1/customers", values, { intent: "create_customer" }),
    });
    if (dialogResult) toast("Customer created.");
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Customers"), h("button", { class: "main", onclick: create }, "New customer")),
    h("section", { class: "card", "aria-label": "Customers" }, list));
  await refresh();
  return { refresh };
}
