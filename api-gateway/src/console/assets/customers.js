// Who buys.

import { change, pages, query } from "./api.js";
import { ask, badge, empty, fill, h, problem, table, time, toast } from "./dom.js";

export async function open(root, { operates }) {
  const list = h("div", {});

  const found = pages("/v1/customers", draw);
  const { refresh } = found;

  function draw() {
    const { data: customers, next, failed } = found;
    const rows = table("Newest first", [
      ["Name", (one) => one.erased_at ? h("i", { class: "soft" }, "erased") : one.name],
      ["E-mail", (one) => one.email],
      operates && ["Storefront", (one) => one.storefront],
      ["State", (one) => [one.is_blocked && badge("blocked", "bad"), " ", one.is_verified && badge("verified", "good")]],
      ["Since", (one) => time(one.created_at)],
      ["Actions", (one) => h("div", { class: "actions" },
        h("a", { class: "button", href: query("#/orders", { customer_id: one.id }) }, "Orders"),
        !one.erased_at && !one.is_verified && h("button", { onclick: () => act(one, "verify", "Verify", "Their shop knows that they are who they say.") }, "Verify"),
        !one.erased_at && (one.is_blocked
          ? h("button", { onclick: () => act(one, "unblock", "Unblock", "Their orders are taken again.") }, "Unblock")
          : h("button", { class: "danger", onclick: () => act(one, "block", "Block", "Their orders are refused from now on; those that are there go on.") }, "Block")),
        !one.erased_at && h("button", { class: "danger", onclick: () => erase(one) }, "Erase"))],
    ].filter(Boolean), customers, { key: (one) => one.id });
    fill(list, failed && problem(failed), customers.length ? rows : !failed && empty("There is no customer yet."),
      next && h("p", {}, h("button", { id: "more", onclick: found.more }, "More")));
  }

  async function act(one, verb, yes, text) {
    const done = await ask({
      title: `${yes} ${one.name}?`, text, yes, isDanger: verb === "block",
      act: () => change("POST", `/v1/customers/${one.id}/${verb}`, {}, { intent: `${verb}_customer` }),
    });
    if (done) toast("Done.");
    refresh();
  }

  async function erase(one) {
    const done = await ask({
      title: `Erase ${one.name}?`, yes: "Erase", isDanger: true,
      text: "Name, address and everything that their orders say of them is gone for good; what was sold and paid stays. Not possible while an order of theirs is open.",
      act: () => change("DELETE", `/v1/customers/${one.id}`, undefined, { intent: "erase_customer" }),
    });
    if (done) toast("Erased.");
    refresh();
  }

  async function create() {
    const done = await ask({
      title: "New customer", yes: "Create",
      fields: [
        { name: "name", label: "Name", required: true }, { name: "email", label: "E-mail", type: "email", required: true },
        ...(operates ? [{ name: "storefront", label: "Storefront", help: "Empty: the one of this login" }] : []),
      ],
      act: (values) => change("POST", "/v1/customers", values, { intent: "create_customer" }),
    });
    if (done) toast("The customer can order.");
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Customers"), h("button", { class: "main", onclick: create }, "New customer")),
    h("section", { class: "card", "aria-label": "Customers" }, list));
  await refresh();
  return { refresh };
}
