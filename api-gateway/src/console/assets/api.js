// The API, as anybody uses it: the browser's session stands for a key, and nothing is shown before the server
// has said it.

/** What the server refused, or that it did not answer. */
export class Failure extends Error {
  constructor(status, body) {
    super(body.detail ?? "The system did not answer.");
    this.status = status;
    this.code = body.code ?? "UNREACHABLE";
    this.title = { 0: "No connection", 401: "Please log in", 403: "Not allowed", 409: "Not possible now",
      412: "Changed meanwhile", 422: "Not accepted", 503: "Not available now", 504: "No answer in time" }[status]
      ?? body.title ?? "Something went wrong";
    this.errors = body.errors;
    this.requestId = body.request_id;
  }
}

/** A random name: what is sent again under it is done once. */
export function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const watchers = new Set();
/** Told of every answer: whether there was one, and whether it was the system's own. */
export function watch(watcher) {
  watchers.add(watcher);
}

async function send(method, path, { body, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method, credentials: "same-origin", cache: "no-store",
      headers: { Accept: "application/json", "X-Console": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
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

/** A list's beginning: at least so many, or all. `page` reads so many, behind a cursor. */
export async function beginning(count, page) {
  const found = { data: [], next_cursor: null };
  do {
    const limit = Math.min(200, Math.max(50, count - found.data.length));
    const more = await page(limit, found.next_cursor ?? undefined);
    found.data.push(...more.data);
    found.next_cursor = more.next_cursor;
  } while (found.next_cursor && found.data.length < count);
  return found;
}

/** A list of the API, as far as it was asked for; `changed` is told when there is something to show. */
export function pages(path, changed) {
  const list = { data: [], next: null, failed: null };
  const page = (limit, cursor) => get(query(path, { limit, cursor }));
  async function show(reading, before) {
    try {
      const found = await reading;
      Object.assign(list, { data: [...before(), ...found.data], next: found.next_cursor, failed: null });
    } catch (failure) {
      list.failed = failure;
    }
    changed();
  }
  list.refresh = () => show(beginning(list.data.length, page), () => []);
  list.more = () => show(page(50, list.next), () => list.data);
  return list;
}

/** A change: done once, however often the browser has to send it. */
export async function change(method, path, body, { intent, etag } = {}) {
  const headers = { "Idempotency-Key": key(), ...(intent ? { "X-Intent": `console.${intent}` } : {}), ...(etag ? { "If-Match": etag } : {}) };
  for (let attempt = 1; ; attempt++) {
    try {
      return (await send(method, path, { body, headers })).value;
    } catch (failure) {
      // Whether it was done is not known: the same key finds out.
      const isUnknown = failure.status === 504 || failure.status === 0;
      if (!isUnknown || attempt >= 3 || method !== "POST") throw failure;
      await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }
}

export const session = {
  get: () => get("/console/session"),
  open: async (shown) => (await send("POST", "/console/session", { body: { key: shown } })).value,
  close: () => send("DELETE", "/console/session"),
};

/** `path` with those of `parameters` that say something. */
export function query(path, parameters) {
  const said = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return said.length ? `${path}?${new URLSearchParams(said)}` : path;
}

const TYPES = ["order.created", "order.approved", "order.processing", "order.shipped", "order.delivered", "order.cancelled",
  "order.deleted", "order.restored", "order.redacted", "payment.prepared", "payment.action_required", "payment.authorized",
  "payment.declined", "payment.captured", "payment.voided", "payment.refund_requested", "payment.refund_failed",
  "payment.refunded", "stock.reserved", "stock.released", "stock.adjusted", "stock.low", "shipment.created",
  "shipment.shipped", "shipment.in_transit", "shipment.out_for_delivery", "shipment.delivered", "shipment.failed",
  "shipment.returned", "shipment.cancelled", "step.retried", "step.dead", "step.redriven", "step.discarded",
  "product.created", "product.updated", "product.deleted", "webhook_endpoint.created", "webhook_endpoint.updated",
  "webhook_endpoint.disabled", "webhook_endpoint.deleted"];

/** Live events, as long as the page is open; the browser goes on where it was. */
export function listen(take, state) {
  let source;
  const open = () => {
    source = new EventSource("/v1/events/stream");
    source.onopen = () => state(true);
    source.onerror = () => {
      state(false);
      // Refused, not lost: the browser does not come back by itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 3000);
    };
    for (const type of TYPES) source.addEventListener(type, (event) => take(JSON.parse(event.data)));
  };
  open();
  return () => source.close();
}
