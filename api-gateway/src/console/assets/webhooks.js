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
      selected = endpoints.find((endpoint) => endpoint.id === selected?.id) ?? null;
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
    if (selected) await loadDeliveries();
  }

  function draw() {
    const rows = table("Newest first", [
      ["Endpoint URL", (endpoint) => [h("span", { class: "mono" }, endpoint.url), endpoint.description && h("div", { class: "help" }, endpoint.description)]],
      ["Events", (endpoint) => endpoint.event_types?.join(", ") || "All events"],
      ["Status", (endpoint) => endpoint.is_enabled
        ? endpoint.failing_since ? [badge("failing", "warn"), h("div", { class: "help" }, "since ", time(endpoint.failing_since))] : badge("enabled", "good")
        : [badge("disabled", "bad"), endpoint.disabled_reason && h("div", { class: "help" }, String(endpoint.disabled_reason).replaceAll("_", " "))]],
      ["Actions", (endpoint) => h("div", { class: "actions" },
        h("button", { id: `told-${endpoint.id}`, onclick: () => { selected = endpoint; deliveries = []; loadDeliveries(); } }, "View deliveries"),
        h("button", { onclick: () => toggle(endpoint) }, endpoint.is_enabled ? "Disable" : "Enable"),
        h("button", { onclick: () => rotate(endpoint) }, "Rotate secret"),
        h("button", { class: "danger", onclick: () => remove(endpoint) }, "Delete"))],
    ], endpoints, { key: (endpoint) => endpoint.id });
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
      ["Event", (delivery) => [h("b", {}, delivery.event_type), h("div", { class: "mono soft" }, delivery.event_id)]],
      ["Status", (delivery) => badge(delivery.status)],
      ["Attempts", (delivery) => delivery.attempts.length, "number"],
      ["Response", (delivery) => response(delivery)],
      ["Created", (delivery) => time(delivery.created_at)],
      ["Actions", (delivery) => h("button", { onclick: () => redeliver(delivery) }, "Resend")],
    ], deliveries, { key: (delivery) => delivery.id });
    fill(deliveryList, h("section", { class: "card" }, h("h2", {}, "Deliveries"),
      deliveries.length ? rows : empty("No deliveries yet."),
      next && h("p", {}, h("button", { id: "more", onclick: () => loadDeliveries(next) }, "Load more"))));
  }

  function response(delivery) {
    const lastAttempt = delivery.attempts.at(-1);
    const isDue = delivery.next_attempt_at && new Date(delivery.next_attempt_at) <= new Date();
    const nextAttempt = delivery.next_attempt_at && h("div", { class: "help" }, isDue ? "next attempt pending" : ["next attempt ", time(delivery.next_attempt_at)]);
    return [lastAttempt?.response_code ?? "", " ", lastAttempt?.error ?? "", nextAttempt];
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

  async function rotate(endpoint) {
    const changed = await showDialog({
      title: "Rotate the signing secret?", submitLabel: "Rotate secret", text: "Creates a new secret. For one day, deliveries are signed with both the old and the new secret; after that, the old one is invalid.",
      act: () => change("POST", `/v1/webhook-endpoints/${endpoint.id}/rotate-secret`, {}, { intent: "rotate_secret" }),
    });
    await showSecret(changed);
  }

  async function toggle(endpoint) {
    await showDialog({
      title: endpoint.is_enabled ? "Disable this endpoint?" : "Enable this endpoint?", submitLabel: endpoint.is_enabled ? "Disable" : "Enable",
      text: endpoint.is_enabled ? "No events are sent to it while it is disabled, and they are not sent later. Its receiver can read them from the event feed." : "Events are sent to it from now on. Events missed while it was disabled are not sent; its receiver can read them from the event feed.",
      act: () => change("PATCH", `/v1/webhook-endpoints/${endpoint.id}`, { is_enabled: !endpoint.is_enabled }, { intent: "toggle_endpoint" }),
    });
    refresh();
  }

  async function remove(endpoint) {
    const dialogResult = await showDialog({
      title: "Delete this endpoint?", submitLabel: "Delete", isDanger: true, text: "No more events are sent to it, and its delivery log is no longer available. This cannot be undone.",
      act: () => change("DELETE", `/v1/webhook-endpoints/${endpoint.id}`, undefined, { intent: "delete_endpoint" }),
    });
    if (dialogResult) toast("Endpoint deleted.");
    refresh();
  }

  async function redeliver(delivery) {
    const dialogResult = await showDialog({
      title: "Resend this event?", submitLabel: "Resend", text: "It is sent with the same webhook ID: a receiver that follows Standard Webhooks ignores it if it has processed it already.",
      act: () => change("POST", `/v1/webhook-endpoints/${selected.id}/deliveries/${delivery.id}/redeliver`, {}, { intent: "redeliver" }),
    });
    if (dialogResult) toast("Delivery queued.");
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Webhooks"), h("button", { class: "main", onclick: create }, "New endpoint")),
    h("section", { class: "card", "aria-label": "Endpoints" }, list), deliveryList);
  await refresh();
  return { refresh, close: () => clearTimeout(timer), onEvent: () => { timer ??= setTimeout(refresh, 2000); } };
}
