// Webhook endpoints and their deliveries.

import { change, get, query } from "./api.js";
import { showDialog, badge, empty, fill, h, problem, table, time, toast } from "./dom.js";

export async function open(root) {
  let endpoints = [], selected = null, deliveries = [], next = null, failed = null, timer = null;
  const list = h("div", {}), deliveryList = h("div", {});

  async function refresh() {
    timer = null;
    try {
      endpoints = (await get("/v1/webhook-endpoints?limit=200")).data;
      selected = endpoints.find((one) => one.id === selected?.id) ?? null;
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
    if (selected) await loadDeliveries();
  }

  function draw() {
    const rows = table("Newest first", [
      ["Endpoint URL", (one) => [h("span", { class: "mono" }, one.url), one.description && h("div", { class: "help" }, one.description)]],
      ["Events", (one) => one.event_types?.join(", ") || "All events"],
      ["Status", (one) => one.is_enabled
        ? one.failing_since ? [badge("failing", "warn"), h("div", { class: "help" }, "since ", time(one.failing_since))] : badge("enabled", "good")
        : [badge("disabled", "bad"), one.disabled_reason && h("div", { class: "help" }, String(one.disabled_reason).replaceAll("_", " "))]],
      ["Actions", (one) => h("div", { class: "actions" },
        h("button", { id: `told-${one.id}`, onclick: () => { selected = one; deliveries = []; loadDeliveries(); } }, "View deliveries"),
        h("button", { onclick: () => toggle(one) }, one.is_enabled ? "Disable" : "Enable"),
        h("button", { onclick: () => rotate(one) }, "Rotate secret"),
        h("button", { class: "danger", onclick: () => remove(one) }, "Delete"))],
    ], endpoints, { key: (one) => one.id });
    fill(list, failed && problem(failed), endpoints.length ? rows : !failed && empty("No webhook endpoints yet."));
    if (!selected) fill(deliveryList);
  }

  async function loadDeliveries(cursor) {
    try {
      const page = await get(query(`/v1/webhook-endpoints/${selected.id}/deliveries`, { limit: 50, cursor }));
      deliveries = cursor ? [...deliveries, ...page.data] : page.data;
      next = page.next_cursor;
    } catch (failure) {
      return fill(deliveryList, problem(failure));
    }
    const rows = table(`Deliveries to ${selected.url}, newest first`, [
      ["Event", (one) => [h("b", {}, one.event_type), h("div", { class: "mono soft" }, one.event_id)]],
      ["Status", (one) => badge(one.status)],
      ["Attempts", (one) => one.attempts.length, "number"],
      ["Response", (one) => response(one)],
      ["Created", (one) => time(one.created_at)],
      ["Actions", (one) => h("button", { onclick: () => redeliver(one) }, "Resend")],
    ], deliveries, { key: (one) => one.id });
    fill(deliveryList, h("section", { class: "card" }, h("h2", {}, "Deliveries"),
      deliveries.length ? rows : empty("No deliveries yet."),
      next && h("p", {}, h("button", { id: "more", onclick: () => loadDeliveries(next) }, "Load more"))));
  }

  function response(one) {
    const last = one.attempts.at(-1);
    const isDue = one.next_attempt_at && new Date(one.next_attempt_at) <= new Date();
    const next = one.next_attempt_at && h("div", { class: "help" }, isDue ? "next attempt pending" : ["next attempt ", time(one.next_attempt_at)]);
    return [last?.response_code ?? "", " ", last?.error ?? "", next];
  }

  const showSecret = (endpoint) => endpoint?.secret && showDialog({
    title: "Signing secret", submitLabel: "I have saved it",
    text: h("div", {}, h("p", {}, "Verifies the signature of deliveries to this endpoint. Copy it now: it is shown only once."), h("pre", { class: "mono", id: "secret" }, endpoint.secret)),
  });

  async function create() {
    const changed = await showDialog({
      title: "New webhook endpoint", submitLabel: "Create",
      fields: [
        { name: "url", label: "URL", type: "url", required: true },
        { name: "event_types", label: "Event types", help: "Separated by commas, for example: order.*, payment.captured. Leave empty for all events." },
        { name: "description", label: "Description" },
      ],
      act: ({ event_types, ...values }) => change("POST", "/v1/webhook-endpoints",
        { ...values, ...(event_types ? { event_types: event_types.split(",").map((type) => type.trim()).filter(Boolean) } : {}) }, { intent: "create_endpoint" }),
    });
    await refresh();
    await showSecret(changed);
  }

  async function rotate(one) {
    const changed = await showDialog({
      title: "Rotate the signing secret?", submitLabel: "Rotate secret", text: "Creates a new secret. For one day, deliveries are signed with both the old and the new secret; after that, the old one is invalid.",
      act: () => change("POST", `/v1/webhook-endpoints/${one.id}/rotate-secret`, {}, { intent: "rotate_secret" }),
    });
    await showSecret(changed);
  }

  async function toggle(one) {
    await showDialog({
      title: one.is_enabled ? "Disable this endpoint?" : "Enable this endpoint?", submitLabel: one.is_enabled ? "Disable" : "Enable",
      text: one.is_enabled ? "No events are sent to it while it is disabled, and they are not sent later. Its receiver can read them from the event feed." : "Events are sent to it from now on. Events missed while it was disabled are not sent; its receiver can read them from the event feed.",
      act: () => change("PATCH", `/v1/webhook-endpoints/${one.id}`, { is_enabled: !one.is_enabled }, { intent: "toggle_endpoint" }),
    });
    refresh();
  }

  async function remove(one) {
    const done = await showDialog({
      title: "Delete this endpoint?", submitLabel: "Delete", isDanger: true, text: "No more events are sent to it, and its delivery log is no longer available. This cannot be undone.",
      act: () => change("DELETE", `/v1/webhook-endpoints/${one.id}`, undefined, { intent: "delete_endpoint" }),
    });
    if (done) toast("Endpoint deleted.");
    refresh();
  }

  async function redeliver(one) {
    const done = await showDialog({
      title: "Resend this event?", submitLabel: "Resend", text: "It is sent with the same webhook ID: a receiver that follows Standard Webhooks ignores it if it has processed it already.",
      act: () => change("POST", `/v1/webhook-endpoints/${selected.id}/deliveries/${one.id}/redeliver`, {}, { intent: "redeliver" }),
    });
    if (done) toast("Delivery queued.");
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Webhooks"), h("button", { class: "main", onclick: create }, "New endpoint")),
    h("section", { class: "card", "aria-label": "Endpoints" }, list), deliveryList);
  await refresh();
  return { refresh, close: () => clearTimeout(timer), onEvent: () => { timer ??= setTimeout(refresh, 2000); } };
}
