// One webhook endpoint: details, and its deliveries with their attempts.

import { change, get, read } from "./api.js";
import { badge, fill, h, problem, relative, showDialog, table, time, toast } from "./dom.js";
import { name, number, t } from "./i18n.js";
import { editForm, facts, openDetail } from "./detail.js";
import { openList } from "./list.js";
import { endpointFields, endpointState, eventTypes, showSigningSecret } from "./webhooks.js";

const STATUSES = ["pending", "succeeded", "failed"];

export function open(root, context) {
  const path = `/v1/webhook-endpoints/${encodeURIComponent(context.id)}`;

  async function load() {
    const { value, etag } = await read(path);
    return { ...value, etag };
  }

  async function rotate(endpoint, reload) {
    const rotated = await showDialog({
      title: t("Rotate the signing secret?"), submitLabel: t("Rotate secret"), text: t("Creates a new secret. For one day, deliveries are signed with both the old and the new secret; after that, the old one is invalid."),
      act: () => change("POST", `${path}/rotate-secret`, {}, { intent: "rotate_secret" }),
    });
    await showSigningSecret(rotated);
    await reload();
  }

  async function toggle(endpoint, reload) {
    const label = endpoint.is_enabled ? t("Disable") : t("Enable");
    const isDone = await showDialog({
      title: endpoint.is_enabled ? t("Disable this endpoint?") : t("Enable this endpoint?"), submitLabel: label,
      text: endpoint.is_enabled
        ? t("No events are sent to it while it is disabled, and they are not sent later. Its receiver can read them from the event feed.")
        : t("Events are sent to it from now on. Events missed while it was disabled are not sent; its receiver can read them from the event feed."),
      act: () => change("PATCH", path, { is_enabled: !endpoint.is_enabled }, { intent: "toggle_endpoint" }),
    });
    if (isDone) toast(t("Done."));
    await reload();
  }

  async function remove() {
    const isRemoved = await showDialog({
      title: t("Delete this endpoint?"), submitLabel: t("Delete"), isDanger: true, text: t("No more events are sent to it, and its delivery log is no longer available. This cannot be undone."),
      act: () => change("DELETE", path, undefined, { intent: "delete_endpoint" }),
    });
    if (!isRemoved) return;
    toast(t("Endpoint deleted."));
    location.hash = "#/webhooks";
  }

  function openDetails(panel, endpoint, reload) {
    const about = h("section", { class: "card", "aria-label": t("About") });
    const form = editForm(endpoint, {
      title: t("Details"), fields: endpointFields, reload, saved: t("Endpoint saved."),
      save: ({ url, event_types, description }, { etag }) => change("PATCH", path,
        { url, event_types: event_types ? eventTypes(event_types) : null, description: description ?? null }, { intent: "edit_endpoint", etag }),
    });
    const refresh = (current) => {
      about.replaceChildren(h("h2", {}, t("About")), facts([
        [t("Storefront"), current.storefront ?? t("all storefronts")], [t("Created"), time(current.created_at)], [t("Changed"), time(current.updated_at)],
      ]), h("p", { class: "help" }, t("Deliveries are CloudEvents in JSON, signed as specified by Standard Webhooks, and retried for a day.")));
      form.refresh(current);
    };
    refresh(endpoint);
    panel.append(h("div", { class: "columns" }, form.element, about));
    return { refresh };
  }

  async function redeliver(delivery, refresh) {
    const isDone = await showDialog({
      title: t("Resend this event?"), submitLabel: t("Resend"), text: t("It is sent with the same webhook ID: a receiver that follows Standard Webhooks ignores it if it has processed it already."),
      act: () => change("POST", `${path}/deliveries/${delivery.id}/redeliver`, {}, { intent: "redeliver" }),
    });
    if (isDone) toast(t("Delivery queued."));
    await refresh();
  }

  /** The body of a delivery, which is read when it is shown. */
  function body(delivery) {
    const content = h("div", {}, t("Loading …"));
    const show = async (event) => {
      if (!event.target.open) return;
      try {
        const { event: sent } = await get(`${path}/deliveries/${delivery.id}`);
        fill(content, sent ? h("pre", { tabindex: 0, "aria-label": t("Body") }, JSON.stringify(sent, null, 2)) : t("The event was deleted after its retention period."));
      } catch (failure) {
        fill(content, problem(failure));
      }
    };
    return h("details", { id: `body-${delivery.id}`, ontoggle: show }, h("summary", {}, t("Show body")), content);
  }

  const openDeliveries = (panel) => openList(panel, null, {
    path: `${path}/deliveries`, label: t("Deliveries"),
    tabs: { name: "status", label: t("Status"), options: [["", t("All")], ...STATUSES.map((status) => [status, name(status)])] },
    rows: (deliveries, { refresh }) => table(t("Newest first"), [
      [t("Event"), (delivery) => [h("b", {}, delivery.event_type), h("div", { class: "mono soft" }, delivery.event_id), body(delivery)]],
      [t("Status"), (delivery) => badge(delivery.status)],
      [t("Response"), response],
      [t("Attempts"), attempts],
      [t("Created"), (delivery) => relative(delivery.created_at)],
      [t("Actions"), (delivery) => h("button", { id: `resend-${delivery.id}`, "aria-label": t("Resend {event}", { event: delivery.event_type }), onclick: () => redeliver(delivery, refresh) }, t("Resend"))],
    ], deliveries, { key: (delivery) => delivery.id }),
    noEntries: t("No deliveries yet: the first event that matches is listed here."),
    // The result of a delivery is no event, but follows one.
    isAffected: () => true,
  });

  return openDetail(root, context, {
    screen: "webhooks", listTitle: t("Webhooks"), load, gone: t("This endpoint does not exist, or it was deleted."),
    heading: (endpoint) => [h("span", { class: "url" }, endpoint.url), " ", endpointState(endpoint)],
    actions: (endpoint, reload) => [
      h("button", { id: "toggle", onclick: () => toggle(endpoint, reload) }, endpoint.is_enabled ? t("Disable") : t("Enable")),
      h("button", { id: "rotate", onclick: () => rotate(endpoint, reload) }, t("Rotate secret")),
      h("button", { id: "delete", class: "danger", onclick: remove }, t("Delete")),
    ],
    tabs: [
      { name: "deliveries", title: t("Deliveries"), open: openDeliveries },
      { name: "details", title: t("Details"), open: openDetails },
    ],
    isAffected: (event) => event.type.startsWith("webhook_endpoint."),
  });
}

/** The response to the last attempt, and the next attempt. */
function response(delivery) {
  const lastAttempt = delivery.attempts.at(-1);
  const isDue = delivery.next_attempt_at && new Date(delivery.next_attempt_at) <= new Date();
  return [
    lastAttempt?.response_code ?? "", " ", lastAttempt?.error ?? "",
    delivery.next_attempt_at && h("div", { class: "help" }, isDue ? t("next attempt pending") : t("next attempt {time}", { time: relative(delivery.next_attempt_at) })),
  ];
}

/** All attempts that are kept: time, response and duration. */
function attempts(delivery) {
  if (delivery.attempts.length < 1) return "–";
  return h("details", { id: `attempts-${delivery.id}` }, h("summary", {}, number(delivery.attempts.length)), h("ol", { class: "plain" }, delivery.attempts.map((attempt) => h("li", {},
    time(attempt.at), `: ${attempt.response_code ?? "–"} ${attempt.error ?? ""} `, h("span", { class: "soft" }, `${number(attempt.latency_ms)} ms`)))));
}
