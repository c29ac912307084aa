// The list of webhook endpoints.

import { change } from "./api.js";
import { badge, h, relative, showDialog, table } from "./dom.js";
import { name, t } from "./i18n.js";
import { openList } from "./list.js";

/** Fields of an endpoint's form. */
export const endpointFields = (endpoint) => [
  { name: "url", label: t("URL"), type: "url", required: true, value: endpoint?.url },
  { name: "event_types", label: t("Event types"), value: endpoint?.event_types?.join(", "), help: t("Separated by commas, for example: order.*, payment.captured. Leave empty for all events.") },
  { name: "description", label: t("Description"), value: endpoint?.description },
];

/** The body of a new endpoint: without the values that are not given. */
const endpointBody = ({ event_types, ...values }) => ({ ...values, ...(event_types ? { event_types: eventTypes(event_types) } : {}) });

export const eventTypes = (text) => text.split(",").map((type) => type.trim()).filter(Boolean);

/** The state of an endpoint: enabled, failing or disabled. */
export function endpointState(endpoint) {
  if (!endpoint.is_enabled) return [badge(t("disabled"), "bad"), endpoint.disabled_reason && h("div", { class: "help" }, name(endpoint.disabled_reason))];
  if (endpoint.failing_since) return [badge(t("failing"), "warn"), h("div", { class: "help" }, t("since {time}", { time: relative(endpoint.failing_since) }))];
  return badge(t("enabled"), "good");
}

/** Shows the secret of a new endpoint, or a new one. */
export async function showSigningSecret(endpoint) {
  if (!endpoint?.secret) return;
  const { secretText } = await import("./secret.js");
  await showDialog({
    title: t("Signing secret"), submitLabel: t("I have saved it"),
    text: secretText(endpoint.secret, t("Verifies the signature of deliveries to this endpoint. Copy it now: it is shown only once.")),
  });
}

export function open(root, { parameters }) {
  async function create() {
    const endpoint = await showDialog({
      title: t("New webhook endpoint"), submitLabel: t("Create"), fields: endpointFields(),
      act: (values) => change("POST", "/v1/webhook-endpoints", endpointBody(values), { intent: "create_endpoint" }),
    });
    if (!endpoint) return;
    await showSigningSecret(endpoint);
    location.hash = `#/webhooks/${endpoint.id}`;
  }

  return openList(root, parameters, {
    screen: "webhooks", path: "/v1/webhook-endpoints", title: t("Webhooks"),
    actions: h("button", { class: "main", onclick: create }, t("New endpoint")),
    search: { label: t("Search"), placeholder: t("Part of the URL or description") },
    rows: (endpoints) => table(t("Newest first"), [
      [t("Endpoint URL"), (endpoint) => [h("a", { class: "mono", href: `#/webhooks/${endpoint.id}`, id: `endpoint-${endpoint.id}` }, endpoint.url), endpoint.description && h("div", { class: "help" }, endpoint.description)]],
      [t("Events"), (endpoint) => endpoint.event_types?.join(", ") || t("All events")],
      [t("Status"), endpointState],
      [t("Created"), (endpoint) => relative(endpoint.created_at)],
    ], endpoints, { key: (endpoint) => endpoint.id }),
    noEntries: [h("p", {}, t("No webhook endpoints yet.")), h("p", {}, t("An endpoint is a URL of another program, to which each event is sent: for example a warehouse or an accounting system."))],
    isAffected: (event) => event.type.startsWith("webhook_endpoint."),
  });
}
