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
      ["Name", (one) => one.erased_at ? h("i", { class: "soft" }, "erased") : one.name],
      ["Email", (one) => one.email],
      isOperator && ["Storefront", (one) => one.storefront],
      ["Status", (one) => [one.is_blocked && badge("blocked", "bad"), " ", one.is_verified && badge("verified", "good")]],
      ["Created", (one) => time(one.created_at)],
      ["Actions", (one) => h("div", { class: "actions" },
        h("a", { class: "button", href: query("#/orders", { customer_id: one.id }) }, "Orders"),
        !one.erased_at && !one.is_verified && h("button", { onclick: () => act(one, "verify", "Verify", "Records that the shop has checked the customer's identity.") }, "Verify"),
        !one.erased_at && (one.is_blocked
          ? h("button", { onclick: () => act(one, "unblock", "Unblock", "The customer can place orders again.") }, "Unblock")
          : h("button", { class: "danger", onclick: () => act(one, "block", "Block", "New orders of this customer are refused. Orders that are already placed continue.") }, "Block")),
        !one.erased_at && h("button", { class: "danger", onclick: () => erase(one) }, "Erase"))],
    ].filter(Boolean), customers, { key: (one) => one.id });
    fill(list, failed && problem(failed), customers.length ? rows : !failed && empty("No customers yet."),
      next && h("p", {}, h("button", { id: "more", onclick: page.more }, "Load more")));
  }

  async function act(one, verb, submitLabel, text) {
    const done = await showDialog({
      title: `${submitLabel} ${one.name}?`, text, submitLabel, isDanger: verb === "block",
      act: () => change("POST", `/v1/customers/${one.id}/${verb}`, {}, { intent: `${verb}_customer` }),
    });
    if (done) toast("Done.");
    refresh();
  }

  async function erase(one) {
    const done = await showDialog({
      title: `Erase ${one.name}?`, submitLabel: "Erase", isDanger: true,
      text: "Name, email, addresses and all other personal data, also in the customer's orders, are permanently erased. What was sold and paid stays on record. This cannot be undone. Not possible while an order of the customer is open.",
      act: () => change("DELETE", `/v1/customers/${one.id}`, undefined, { intent: "erase_customer" }),
    });
    if (done) toast("Customer erased.");
    refresh();
  }

  async function create() {
    const done = await showDialog({
      title: "New customer", submitLabel: "Create",
      fields: [
        { name: "name", label: "Name", required: true }, { name: "email", label: "Email", type: "email", required: true },
        ...(isOperator ? [{ name: "storefront", label: "Storefront", help: "Leave empty for the storefront of your login" }] : []),
      ],
      act: (values) => change("POST", "/v1/customers", values, { intent: "create_customer" }),
    });
    if (done) toast("Customer created.");
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Customers"), h("button", { class: "main", onclick: create }, "New customer")),
    h("section", { class: "card", "aria-label": "Customers" }, list));
  await refresh();
  return { refresh };
}
