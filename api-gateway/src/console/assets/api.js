// Client of the public API. The browser session replaces an API key. The console shows a change only after the
// server has confirmed it.

import { t } from "./i18n.js";

/** A request that the server refused (a problem document) or did not answer (status 0). */
export class Failure extends Error {
  constructor(status, body) {
    super(body.detail ?? t("The server did not respond. Check the connection and try again."));
    this.status = status;
    this.code = body.code ?? "UNREACHABLE";
    this.title = { 0: t("No connection"), 401: t("Login required"), 403: t("Not allowed"), 409: t("Not possible in the current state"),
      412: t("Changed in the meantime"), 413: t("File is too large"), 415: t("File type is not supported"), 422: t("Invalid input"),
      503: t("Service unavailable"), 504: t("Request timed out") }[status] ?? body.title ?? t("Request failed");
    this.errors = body.errors;
    this.requestId = body.request_id;
  }
}

/** A random idempotency key. */
export function idempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const watchers = new Set();
/** Calls `watcher` with the status of every response; 0 if there was none. */
export function watch(watcher) {
  watchers.add(watcher);
}

async function send(method, path, { body, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method, credentials: "same-origin", cache: "no-store",
      headers: { Accept: "application/json", "X-Console": "1", ...(body === undefined ? {} : { "Content-Type": body instanceof Blob ? body.type : "application/json" }), ...headers },
      body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
    });
  } catch {
    watchers.forEach((watcher) => watcher(0));
    throw new Failure(0, {});
  }
  watchers.forEach((watcher) => watcher(response.status));
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    value = { detail: text.slice(0, 200) };
  }
  if (!response.ok) throw new Failure(response.status, value ?? {});
  return { value, etag: response.headers.get("etag"), location: response.headers.get("location") };
}

export const get = async (path) => (await send("GET", path)).value;
export const read = (path) => send("GET", path);

/** Reads pages until `count` entries are loaded or the list ends. `page` reads one: (limit, cursor) => page. */
export async function loadAtLeast(count, page) {
  const found = { data: [], next_cursor: null };
  do {
    const limit = Math.min(200, Math.max(50, count - found.data.length));
    const more = await page(limit, found.next_cursor ?? undefined);
    found.data.push(...more.data);
    found.next_cursor = more.next_cursor;
  } while (found.next_cursor && found.data.length < count);
  return found;
}

/** A paged list of the API. Calls `onChange` after each load. `refresh` reloads all loaded pages. */
export function pagedList(path, onChange, filter = {}) {
  const list = { data: [], next: null, failed: null };
  const page = (limit, cursor) => get(query(path, { ...filter, limit, cursor }));
  async function update(reading, before) {
    try {
      const found = await reading;
      Object.assign(list, { data: [...before(), ...found.data], next: found.next_cursor, failed: null });
    } catch (failure) {
      list.failed = failure;
    }
    onChange();
  }
  list.refresh = () => update(loadAtLeast(list.data.length, page), () => []);
  list.more = () => update(page(50, list.next), () => list.data);
  return list;
}

/** Sends a change with an idempotency key, so that a repeated request has no second effect. */
export async function change(method, path, body, { intent, etag } = {}) {
  const headers = { "Idempotency-Key": idempotencyKey(), ...(intent ? { "X-Intent": `console.${intent}` } : {}), ...(etag ? { "If-Match": etag } : {}) };
  for (let attempt = 1; ; attempt++) {
    try {
      return (await send(method, path, { body, headers })).value;
    } catch (failure) {
      // The outcome is unknown: sending the request again with the same key returns it.
      const isOutcomeUnknown = failure.status === 504 || failure.status === 0;
      if (!isOutcomeUnknown || attempt >= 3 || method !== "POST") throw failure;
      await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }
}

export const session = {
  get: () => get("/console/session"),
  open: async (key) => (await send("POST", "/console/session", { body: { key } })).value,
  close: () => send("DELETE", "/console/session"),
};

/** `path` with the query `parameters` that are not empty. */
export function query(path, parameters) {
  const present = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return present.length ? `${path}?${new URLSearchParams(present)}` : path;
}

const EVENT_TYPES = ["order.created", "order.approved", "order.processing", "order.shipped", "order.delivered", "order.cancelled",
  "order.deleted", "order.restored", "order.updated", "order.redacted", "order.edit_requested", "order.edited",
  "order.edit_rejected", "payment.released", "payment.prepared", "payment.action_required", "payment.authorized",
  "payment.declined", "payment.captured", "payment.voided", "payment.refund_requested", "payment.refund_failed",
  "payment.refunded", "stock.reserved", "stock.released", "stock.adjusted", "stock.low", "shipment.created",
  "shipment.shipped", "shipment.in_transit", "shipment.out_for_delivery", "shipment.delivered", "shipment.failed",
  "shipment.returned", "shipment.cancelled", "return.requested", "return.approved", "return.rejected", "return.cancelled",
  "return.received", "step.retried", "step.dead", "step.redriven", "step.discarded",
  "product.created", "product.updated", "product.deleted", "customer.updated", "webhook_endpoint.created", "webhook_endpoint.updated",
  "webhook_endpoint.disabled", "webhook_endpoint.deleted", "api_key.created", "api_key.revoked"];

/** Subscribes to live events. After a lost connection the browser resumes with `Last-Event-ID`. */
export function listen(onEvent, onState) {
  let source;
  const open = () => {
    source = new EventSource("/v1/events/stream");
    source.onopen = () => onState(true);
    source.onerror = () => {
      onState(false);
      // The browser does not reconnect by itself after an error response.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 3000);
    };
    for (const type of EVENT_TYPES) source.addEventListener(type, (event) => onEvent(JSON.parse(event.data)));
  };
  open();
  return () => source.close();
}
