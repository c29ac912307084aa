// Actions on several orders. Each order is changed by a request of its own, so that one that fails affects no other.

import { change, read } from "./api.js";
import { h, showDialog, toast } from "./dom.js";
import { plural, t } from "./i18n.js";
import { showFailures, showProgress } from "./progress.js";

/** Number of requests at the same time. */
const PARALLEL_REQUESTS = 4;
/** Number of attempts to change an order that changes at the same time. */
const MAX_ATTEMPTS = 5;

const post = (order, action, body, intent) => change("POST", `/v1/orders/${order.id}/${action}`, body, { intent });

/** `applies` tells to which orders an action applies; the server decides in the end. */
const ACTIONS = {
  approve: {
    applies: (order) => order.awaits_approval,
    none: t("None of the selected orders awaits approval."),
    title: (count) => plural(count, "Approve 1 order?", "Approve {count} orders?"),
    submit: t("Approve"),
    text: t("The payment of each order is authorized now. When it succeeds, a shipping label is requested from the carrier."),
    send: (order) => post(order, "approve", undefined, "approve"),
    done: (count) => plural(count, "1 order approved.", "{count} orders approved."),
  },
  ship: {
    applies: (order) => order.status === "processing",
    none: t("None of the selected orders can be shipped: only orders in processing can."),
    title: (count) => plural(count, "Ship 1 order?", "Ship {count} orders?"),
    submit: t("Ship"),
    text: t("All items that were not shipped yet are recorded as handed to the carrier, and their payment is captured. An order that is not paid is refused."),
    fields: [{ name: "carrier", label: t("Carrier"), help: t("Leave empty to use the carrier of the label.") }],
    send: (order, { carrier }) => post(order, "shipments", carrier ? { carrier } : {}, "ship"),
    done: (count) => plural(count, "1 order shipped.", "{count} orders shipped."),
  },
  cancel: {
    applies: (order) => ["pending", "processing"].includes(order.status),
    none: t("None of the selected orders can be cancelled: they were shipped or cancelled before."),
    title: (count) => plural(count, "Cancel 1 order?", "Cancel {count} orders?"),
    submit: t("Cancel orders"),
    text: t("The reserved stock is released and the payment is voided or refunded. An order of which something was shipped is refused."),
    fields: [{ name: "reason", label: t("Reason") }],
    isDanger: true,
    send: (order, { reason }) => post(order, "cancel", reason ? { reason } : {}, "cancel"),
    done: (count) => plural(count, "1 order cancelled.", "{count} orders cancelled."),
  },
  tag: {
    applies: () => true,
    title: (count) => plural(count, "Add a tag to 1 order?", "Add a tag to {count} orders?"),
    submit: t("Add tag"),
    text: t("The other tags of each order stay."),
    fields: [{ name: "tag", label: t("Tag"), required: true }],
    send: addTag,
    done: (count) => plural(count, "1 order tagged.", "{count} orders tagged."),
  },
};

/** Adds a tag, unless the order has it. The tags are a set given as a whole: if the order changes meanwhile, they are read again. */
async function addTag(order, { tag }) {
  const text = tag.trim();
  for (let attempt = 1; ; attempt++) {
    const { value, etag } = await read(`/v1/orders/${order.id}?include_deleted=true`);
    const tags = value.tags ?? [];
    if (tags.some((known) => known.toLowerCase() === text.toLowerCase())) return;
    try {
      await change("PATCH", `/v1/orders/${order.id}`, { tags: [...tags, text] }, { intent: "tag", etag });
      return;
    } catch (failure) {
      if (failure.status !== 412 || attempt >= MAX_ATTEMPTS) throw failure;
    }
  }
}

/** Asks, executes the action on the orders that it applies to, and reports each failure. */
export async function runAction(name, orders) {
  const action = ACTIONS[name];
  const affected = orders.filter(action.applies);
  if (!affected.length) return toast(action.none, "bad");
  const skipped = orders.length - affected.length;
  const values = await showDialog({
    title: action.title(affected.length), submitLabel: action.submit, isDanger: action.isDanger, fields: action.fields,
    text: [h("p", {}, action.text), skipped > 0 && h("p", {}, plural(skipped, "1 selected order is left as it is, because this does not apply to it.", "{count} selected orders are left as they are, because this does not apply to them."))],
  });
  if (!values) return;
  const failures = [];
  let done = 0;
  const started = await showProgress({
    title: action.title(affected.length).replace("?", " …"), total: affected.length,
    work: async (report, signal) => {
      const waiting = [...affected];
      const worker = async () => {
        while (waiting.length && !signal.aborted) {
          const order = waiting.shift();
          try {
            await action.send(order, values);
          } catch (failure) {
            failures.push({ subject: `#${order.number}`, failure });
          }
          report(++done);
        }
      };
      await Promise.all(Array.from({ length: PARALLEL_REQUESTS }, worker));
      return affected.length - waiting.length;
    },
  });
  if (started - failures.length) toast(action.done(started - failures.length));
  if (started < affected.length) toast(plural(affected.length - started, "Stopped: 1 order was left as it is.", "Stopped: {count} orders were left as they are."), "bad");
  if (failures.length) await showFailures(plural(failures.length, "1 order failed", "{count} orders failed"), failures);
}
