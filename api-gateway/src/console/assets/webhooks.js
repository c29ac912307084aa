// Endpoints of others, and what they were told.

import { change, get, query } from "./api.js";
import { ask, badge, empty, fill, h, problem, table, time, toast } from "./dom.js";

export async function open(root) {
  let endpoints = [], chosen = null, deliveries = [], next = null, failed = null, timer = null;
  const list = h("div", {}), told = h("div", {});

  async function refresh() {
    timer = null;
    try {
      endpoints = (await get("/v1/webhook-endpoints?limit=200")).data;
      chosen = endpoints.find((one) => one.id === chosen?.id) ?? null;
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
    if (chosen) await look();
  }

  function draw() {
    const rows = table("Newest first", [
      ["URL", (one) => [h("span", { class: "mono" }, one.url), one.description && h("div", { class: "help" }, one.description)]],
      ["Hears of", (one) => one.event_types?.join(", ") || "everything"],
      ["State", (one) => one.is_enabled
        ? one.failing_since ? [badge("failing", "warn"), h("div", { class: "help" }, "since ", time(one.failing_since))] : badge("enabled", "good")
        : [badge("disabled", "bad"), one.disabled_reason && h("div", { class: "help" }, String(one.disabled_reason).replaceAll("_", " "))]],
      ["Actions", (one) => h("div", { class: "actions" },
        h("button", { id: `told-${one.id}`, onclick: () => { chosen = one; deliveries = []; look(); } }, "What it was told"),
        h("button", { onclick: () => toggle(one) }, one.is_enabled ? "Disable" : "Enable"),
        h("button", { onclick: () => rotate(one) }, "New secret"),
        h("button", { class: "danger", onclick: () => remove(one) }, "Delete"))],
    ], endpoints, { key: (one) => one.id });
    fill(list, failed && problem(failed), endpoints.length ? rows : !failed && empty("Nobody is told of anything yet."));
    if (!chosen) fill(told);
  }

  async function look(cursor) {
    try {
      const page = await get(query(`/v1/webhook-endpoints/${chosen.id}/deliveries`, { limit: 50, cursor }));
      deliveries = cursor ? [...deliveries, ...page.data] : page.data;
      next = page.next_cursor;
    } catch (failure) {
      return fill(told, problem(failure));
    }
    const rows = table(`What ${chosen.url} was told, the latest first`, [
      ["Event", (one) => [h("b", {}, one.event_type), h("div", { class: "mono soft" }, one.event_id)]],
      ["Status", (one) => badge(one.status)],
      ["Attempts", (one) => one.attempts.length, "number"],
      ["It said", (one) => answer(one)],
      ["When", (one) => time(one.created_at)],
      ["Actions", (one) => h("button", { onclick: () => redeliver(one) }, "Send again")],
    ], deliveries, { key: (one) => one.id });
    fill(told, h("section", { class: "card" }, h("h2", {}, "Deliveries"),
      deliveries.length ? rows : empty("It was not told of anything yet."),
      next && h("p", {}, h("button", { id: "more", onclick: () => look(next) }, "More"))));
  }

  function answer(one) {
    const last = one.attempts.at(-1);
    const isDue = one.next_attempt_at && new Date(one.next_attempt_at) <= new Date();
    const next = one.next_attempt_at && h("div", { class: "help" }, isDue ? "waits for its turn" : ["tried again ", time(one.next_attempt_at)]);
    return [last?.response_code ?? "", " ", last?.error ?? "", next];
  }

  const secret = (endpoint) => endpoint?.secret && ask({
    title: "The secret", yes: "I have it",
    text: h("div", {}, h("p", {}, "It signs what this endpoint is told, and is shown this once."), h("pre", { class: "mono", id: "secret" }, endpoint.secret)),
  });

  async function create() {
    const made = await ask({
      title: "New endpoint", yes: "Create",
      fields: [
        { name: "url", label: "URL", type: "url", required: true },
        { name: "event_types", label: "Types of events", help: "order.*, payment.captured …; empty: all of them" },
        { name: "description", label: "What for" },
      ],
      act: ({ event_types, ...values }) => change("POST", "/v1/webhook-endpoints",
        { ...values, ...(event_types ? { event_types: event_types.split(",").map((type) => type.trim()).filter(Boolean) } : {}) }, { intent: "create_endpoint" }),
    });
    await refresh();
    await secret(made);
  }

  async function rotate(one) {
    const made = await ask({
      title: "Give it another secret?", yes: "New secret", text: "The old one signs beside it for a day.",
      act: () => change("POST", `/v1/webhook-endpoints/${one.id}/rotate-secret`, {}, { intent: "rotate_secret" }),
    });
    await secret(made);
  }

  async function toggle(one) {
    await ask({
      title: one.is_enabled ? "Disable this endpoint?" : "Enable this endpoint?", yes: one.is_enabled ? "Disable" : "Enable",
      text: one.is_enabled ? "It is told of nothing until it is enabled again." : "It is told of what happens from now on.",
      act: () => change("PATCH", `/v1/webhook-endpoints/${one.id}`, { is_enabled: !one.is_enabled }, { intent: "toggle_endpoint" }),
    });
    refresh();
  }

  async function remove(one) {
    const done = await ask({
      title: "Delete this endpoint?", yes: "Delete", isDanger: true, text: "It is told of nothing any more, and what it was told is not listed any more.",
      act: () => change("DELETE", `/v1/webhook-endpoints/${one.id}`, undefined, { intent: "delete_endpoint" }),
    });
    if (done) toast("Deleted.");
    refresh();
  }

  async function redeliver(one) {
    const done = await ask({
      title: "Send it again?", yes: "Send again", text: "Under the same id: a receiver that keeps to the standard does it once.",
      act: () => change("POST", `/v1/webhook-endpoints/${chosen.id}/deliveries/${one.id}/redeliver`, {}, { intent: "redeliver" }),
    });
    if (done) toast("It is on its way.");
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Webhooks"), h("button", { class: "main", onclick: create }, "New endpoint")),
    h("section", { class: "card", "aria-label": "Endpoints" }, list), told);
  await refresh();
  return { refresh, leave: () => clearTimeout(timer), take: () => { timer ??= setTimeout(refresh, 2000); } };
}
