// The page of one order: loads the order with its history, customer, messages and failures, and puts the parts together.

import { change, get, query, read } from "./api.js";
import { empty, fill, h, showDialog, toast } from "./dom.js";
import { t } from "./i18n.js";
import { isBeingSent, messageTable } from "./messages.js";
import { attention } from "./order_attention.js";
import { addressCard, customerCard, details, tagCard } from "./order_customer.js";
import { header } from "./order_header.js";
import { itemCard, loadPhotos } from "./order_items.js";
import { paymentCard } from "./order_payment.js";
import { progressCard } from "./order_progress.js";
import { shipmentCard } from "./order_shipments.js";
import { noteForm, timelineCard } from "./order_timeline.js";
import { returnTable } from "./returns.js";

/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 400;
/** Interval of reloading while a message is being sent, which is no event. */
const MESSAGE_RELOAD_MS = 2000;
/** Events that are loaded; earlier ones of a longer history are left out. */
const MAX_EVENTS = 1000;

/**
 * Data and actions of the page, which its parts share: `order`, `etag`, `history` (oldest first), `failures` (dead
 * steps of the order), `customer`, `messages`, `photos` (by SKU), `act(options)`, `send(options)` and `refresh()`.
 */
export async function open(root, { id, me, isOperator }) {
  // #/orders/{id}/print/{kind}/{shipment_id}
  const [view, kind, shipmentId] = location.hash.split("?")[0].split("/").slice(3);
  const page = { me, isOperator, history: [], failures: [], customer: null, messages: [], photos: new Map(), act, send, refresh };
  let timer = null;
  await load(page, id);
  if (view === "print") {
    const { openPrintView } = await import("./order_print.js");
    return openPrintView(root, page, kind, shipmentId);
  }
  const form = noteForm(page);

  async function refresh() {
    clearTimeout(timer);
    timer = null;
    try {
      await load(page, id);
    } catch (failure) {
      if (failure.status === 404) return fill(root, h("h1", {}, t("Order")), empty(t("This order no longer exists.")));
      return toast(failure.message, "bad");
    }
    draw();
  }

  function draw() {
    const { order, messages } = page;
    form.update();
    document.title = t("Order #{number}", { number: order.number });
    root.dataset.version = order.version;
    fill(root,
      header(page), attention(page), progressCard(page),
      h("div", { class: "order-columns" },
        h("div", { class: "stacked" }, itemCard(page), paymentCard(page), shipmentCard(page)),
        h("div", { class: "stacked" }, customerCard(page), addressCard(page), tagCard(page), details(page))),
      order.returns?.length > 0 && h("section", { class: "card", "aria-label": t("Returns") }, h("h2", {}, t("Returns")), returnTable("", order.returns, isOperator, refresh)),
      messageTable(order, messages, isOperator, refresh), timelineCard(page, form));
    if (messages.some(isBeingSent)) timer ??= setTimeout(refresh, MESSAGE_RELOAD_MS);
    loadPhotos(page).then((isChanged) => { if (isChanged && root.isConnected) draw(); });
  }

  /**
   * Shows a dialog for a change and sends it. The change applies to the version that was on screen when the dialog
   * was opened; a newer version is refused (412).
   */
  async function act({ title, text, submitLabel, isDanger, reason, fields = [], confirm, method = "POST", path, intent, isUnconditional, body = {}, toBody = (values) => values, done = t("Done.") }) {
    const etag = isUnconditional ? undefined : page.etag;
    const result = await showDialog({
      title, text, submitLabel, isDanger, fields: reason ? [{ name: "reason", label: t("Reason"), help: t("Shown in the timeline") }] : fields,
      act: async (values) => {
        const confirmation = confirm?.(values);
        if (confirmation && !(await showDialog(confirmation))) throw { title: t("Nothing was changed"), message: t("\"{label}\" was not confirmed.", { label: confirmation.submitLabel }) };
        return change(method, path, method === "DELETE" ? undefined : { ...body, ...toBody(values) }, { intent, etag });
      },
    });
    // The message is shown once the page has the new version, which the next action applies to.
    await refresh();
    if (result) toast(done);
  }

  /** Sends a change that needs no dialog. Resolves to whether it succeeded. */
  async function send({ method = "POST", path, body = {}, intent, etag, done = t("Done.") }) {
    try {
      await change(method, path, body, { intent, etag });
    } catch (failure) {
      toast(`${failure.title}: ${failure.message}`, "bad");
      await refresh();
      return false;
    }
    await refresh();
    toast(done);
    return true;
  }

  draw();
  return {
    refresh,
    onEvent: (event) => { if (event.subject === id) timer ??= setTimeout(refresh, RELOAD_DELAY_MS); },
    close: () => clearTimeout(timer),
  };
}

/** Loads the order and the rest of the page's data. */
async function load(page, id) {
  const { isOperator } = page;
  const include_deleted = isOperator ? "true" : "";
  const { value: order, etag } = await read(query(`/v1/orders/${id}`, { include_deleted }));
  const optional = (reading) => reading.catch((failure) => { if (failure.status === 404 || failure.status === 403) return null; throw failure; });
  const [history, customer, messages] = await Promise.all([
    loadHistory(id, include_deleted),
    optional(get(`/v1/customers/${order.customer_id}`)),
    order.is_deleted ? { data: [] } : get(query(`/v1/orders/${id}/messages`, { limit: 200 })),
  ]);
  const hasFailed = isOperator && history.some(({ type }) => type === "step.dead");
  const failures = hasFailed ? (await get(query("/v1/dead-letters", { number: order.number, limit: 200 }))).data : [];
  Object.assign(page, { order, etag, history, customer, messages: messages.data, failures });
}

async function loadHistory(id, include_deleted) {
  const history = [];
  let cursor;
  do {
    const found = await get(query(`/v1/orders/${id}/history`, { limit: 200, cursor, include_deleted }));
    history.push(...found.data);
    cursor = found.next_cursor;
  } while (cursor && history.length < MAX_EVENTS);
  return history;
}
