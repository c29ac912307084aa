// One order: where it stands, how it came there, and what can be done now.

import { change, get, query, read } from "./api.js";
import { ask, badge, fill, h, money, table, time, toast } from "./dom.js";

const PAUSE_MS = 400;

const units = (count) => (count === 1 ? "1 unit" : `${count} units`);

export async function open(root, { id, me, operates }) {
  let order, etag, history = [], timer = null;

  async function load() {
    const found = await read(query(`/v1/orders/${id}`, { include_deleted: operates ? "true" : "" }));
    order = found.value;
    etag = found.etag;
    history = [];
    let cursor;
    do {
      const page = await get(query(`/v1/orders/${id}/history`, { limit: 200, cursor, include_deleted: operates ? "true" : "" }));
      history.push(...page.data);
      cursor = page.next_cursor;
    } while (cursor && history.length < 1000);
  }

  async function refresh() {
    timer = null;
    try {
      await load();
    } catch (failure) {
      if (failure.status === 404) return fill(root, h("h1", {}, "Order"), h("p", { class: "empty" }, "This order is not there any more."));
      return toast(failure.message, "bad");
    }
    draw();
  }

  function draw() {
    fill(root,
      h("div", { class: "bar" },
        h("h1", {}, `Order #${order.number} `, badge(order.status), order.awaits_approval && [" ", badge("waits for approval", "warn")], order.is_deleted && [" ", badge("deleted", "bad")]),
        h("div", { class: "actions" }, actions())),
      order.cancel_reason && h("p", { class: "notice" }, `Cancelled: ${order.cancel_reason.replaceAll("_", " ")}`, note()),
      order.payment.next_action && h("p", { class: "notice" }, `The customer has to act before the payment goes on: ${order.payment.next_action.type}.`),
      h("section", { class: "card", "aria-label": "Its way" }, h("h2", {}, "Its way"), way()),
      h("div", { class: "columns" }, items(), paid()),
      shipments(),
      h("div", { class: "columns" }, address(), about()),
      log());
  }

  const happened = (...types) => history.find((event) => types.includes(event.type));
  const last = (...types) => history.findLast((event) => types.includes(event.type));
  const note = () => last("order.cancelled")?.data.note ? `: ${last("order.cancelled").data.note}` : "";

  /** The stations of its way, each with its time, its attempts and what is under way. */
  function way() {
    const isOver = order.status === "cancelled";
    const step = order.in_progress;
    const dead = new Map();
    for (const event of history) {
      if (event.type === "step.dead") dead.set(event.data.step.split(":")[0], event.data.error);
      if (event.type === "step.redriven" || event.type === "step.discarded") dead.delete(event.data.step.split(":")[0]);
    }
    const tries = (name) => history.filter((event) => event.type === "step.retried" && event.data.step.split(":")[0] === name);
    const station = (title, event, steps, { failed, waits } = {}) => {
      const isNow = step && steps.includes(step.step);
      const died = steps.find((name) => dead.has(name));
      const kind = died || failed ? "bad" : event ? "done" : isNow ? "now" : "";
      const retried = steps.flatMap(tries);
      const lastTry = retried.at(-1);
      return h("li", { class: kind },
        h("b", {}, title),
        h("span", {}, failed ? failed : event ? time(event.time) : isNow ? "under way" : isOver ? "did not happen" : waits ?? "still to come"),
        isNow && h("div", { class: "help" }, `${step.step.replaceAll("_", " ")}, attempt ${step.attempt}, due `, time(step.due_at)),
        retried.length > 0 && h("div", { class: "help" }, `failed ${retried.length} × before: ${lastTry.data.error}`),
        died && h("div", { class: "error" }, `${died.replaceAll("_", " ")} is stuck: ${dead.get(died)} `, operates && h("a", { href: "#/stuck" }, "See to it")));
    };
    const declined = happened("payment.declined");
    const approval = history[0]?.data.needs_approval
      ? [station("Approved", happened("order.approved"), [], { waits: order.awaits_approval ? "waits for it" : undefined })] : [];
    return h("ol", { class: "way" },
      station("Placed", happened("order.created"), []),
      station("Stock held", happened("stock.reserved"), ["reserve_stock"]),
      ...approval,
      station("Payment held", happened("payment.authorized"), ["authorize_payment", "check_payment", "void_payment"],
        { failed: declined && `declined: ${declined.data.message}`, waits: order.payment.next_action ? "waits for the customer" : undefined }),
      station("Announced to the carrier", happened("shipment.created"), ["request_shipment", "cancel_shipment"]),
      station("Left", happened("order.shipped") ?? happened("shipment.shipped"), []),
      station("Paid", last("payment.captured"), ["capture_payment", "refund_payment"]),
      station("Arrived", happened("order.delivered"), []),
      isOver && station("Cancelled", happened("order.cancelled"), [], { failed: order.cancel_reason.replaceAll("_", " ") }));
  }

  function items() {
    return h("section", { class: "card" }, h("h2", {}, "Items"),
      table(units(order.items.reduce((sum, line) => sum + line.quantity, 0)), [
        ["Product", (line) => [h("a", { href: query("#/inventory", { q: line.sku }) }, line.name), h("div", { class: "mono soft" }, line.sku)]],
        ["Quantity", (line) => line.quantity, "number"],
        ["Each", (line) => money(line.unit_price, order.currency), "number"],
        ["Warehouse", (line) => line.warehouse ?? "–"],
      ], order.items),
      order.cancelled_items?.length > 0 && h("p", { class: "notice" }, `Cancelled: ${order.cancelled_items.map((item) => `${item.quantity} × ${item.sku}`).join(", ")}`),
      h("p", {}, h("b", {}, `Total ${money(order.total, order.currency)}`)));
  }

  function paid() {
    const payment = order.payment, amount = (name) => money(payment[name], order.currency);
    return h("section", { class: "card" }, h("h2", {}, "Money ", badge(payment.status)),
      h("dl", {},
        h("dt", {}, "Provider"), h("dd", {}, payment.provider),
        h("dt", {}, "Reference"), h("dd", { class: "mono" }, payment.reference ?? "–"),
        h("dt", {}, "Held"), h("dd", {}, amount("authorized")),
        h("dt", {}, "Taken"), h("dd", {}, amount("captured")),
        h("dt", {}, "Given back"), h("dd", {}, amount("refunded"))));
  }

  function shipments() {
    if (!order.shipments.length) return h("section", { class: "card" }, h("h2", {}, "Parcels"), h("p", { class: "soft" }, "None yet."));
    return h("section", { class: "card" }, h("h2", {}, "Parcels"), table("", [
      ["Tracking number", (parcel) => h("span", { class: "mono" }, parcel.tracking_number || "–")],
      ["Carrier", (parcel) => parcel.carrier],
      ["Status", (parcel) => badge(parcel.status)],
      ["Inside", (parcel) => parcel.items.map((item) => `${item.quantity} × ${item.sku} from ${item.warehouse}`).join(", ")],
      ["Left", (parcel) => time(parcel.shipped_at)],
      ["Arrived", (parcel) => time(parcel.delivered_at)],
      operates && !order.is_deleted && ["Actions", (parcel) => h("div", { class: "actions" }, shipmentActions(parcel))],
    ].filter(Boolean), order.shipments));
  }

  /** What an operator can record of a shipment, by where it is. */
  function shipmentActions(parcel) {
    const path = `/v1/orders/${order.id}/shipments/${parcel.id}`;
    const name = parcel.tracking_number || "this shipment";
    const record = (label, type, text, isDanger) => h("button", {
      onclick: () => act({ title: `${label}: ${name}?`, text, yes: label, isDanger, method: "POST", path: `${path}/events`, intent: "shipment_event", body: { type } }),
    }, label);
    const isUnderWay = ["shipped", "in_transit", "out_for_delivery", "failed"].includes(parcel.status);
    return [
      isUnderWay && record("Delivered", "shipment.delivered", "The shipment arrived. When all have, the order is delivered."),
      isUnderWay && parcel.status !== "failed" && record("Delivery failed", "shipment.failed", "The shipment could not be delivered. It can still arrive, or come back."),
      (isUnderWay || parcel.status === "delivered") && record("Returned", "shipment.returned", "What is in it is back in stock, and refunded where returns are.", true),
      parcel.status === "label_created" && h("button", {
        onclick: () => act({ title: `Cancel the label ${name}?`, text: "It is withdrawn at the carrier. What is in it waits to be shipped otherwise.", yes: "Cancel label", isDanger: true, reason: true, method: "POST", path: `${path}/cancel`, intent: "cancel_shipment" }),
      }, "Cancel label"),
    ];
  }

  function address() {
    const fields = Object.entries(order.shipping_address ?? {});
    return h("section", { class: "card" }, h("h2", {}, "Goes to"),
      fields.length ? h("dl", {}, fields.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])) : h("p", { class: "soft" }, "No address."));
  }

  function about() {
    return h("section", { class: "card" }, h("h2", {}, "About it"), h("dl", {},
      h("dt", {}, "Id"), h("dd", { class: "mono" }, order.id),
      h("dt", {}, "Storefront"), h("dd", {}, order.storefront),
      h("dt", {}, "Customer"), h("dd", {}, h("a", { class: "mono", href: query("#/orders", { customer_id: order.customer_id }) }, order.customer_id)),
      order.external_id && [h("dt", {}, "Elsewhere"), h("dd", { class: "mono" }, order.external_id)],
      h("dt", {}, "Came"), h("dd", {}, time(order.created_at)),
      h("dt", {}, "Last change"), h("dd", {}, time(order.updated_at), `, version ${order.version}`),
      Object.keys(order.metadata).length > 0 && [h("dt", {}, "Metadata"), h("dd", {}, h("pre", {}, JSON.stringify(order.metadata, null, 2)))]));
  }

  function log() {
    return h("section", { class: "card" }, h("h2", {}, "History"), table("Everything that happened, the latest first", [
      ["What", (event) => [h("b", {}, event.type), details(event)]],
      ["When", (event) => time(event.time)],
      ["Who", (event) => event.actor],
      ["Why", (event) => [event.intent, event.attempt > 1 && `, attempt ${event.attempt}`]],
      ["Request", (event) => h("span", { class: "mono" }, event.request_id)],
    ], [...history].reverse()));
  }

  function details(event) {
    const said = Object.keys(event.data).length > 0;
    return said && h("details", {}, h("summary", { class: "help" }, "details"), h("pre", {}, JSON.stringify(event.data, null, 2)));
  }

  /** What can be done as it stands; the server decides. */
  function actions() {
    const path = `/v1/orders/${order.id}`;
    const hasLeft = order.shipments.some((parcel) => parcel.shipped_at && parcel.status !== "cancelled");
    const isOpen = ["pending", "processing"].includes(order.status);
    const isAtRest = order.status === "shipped"
      && order.shipments.every((parcel) => ["delivered", "returned", "failed", "cancelled"].includes(parcel.status));
    const left = order.payment.captured - order.payment.refunded;
    const step = order.in_progress?.step;
    const waits = history.some((event) => event.type === "step.retried" && event.data.step === step);
    const button = (label, options, kind = "") => h("button", { class: kind, onclick: () => act(options) }, label);
    if (order.is_deleted) {
      return operates && button("Restore", { title: "Restore this order?", text: "It is in the lists again, as it was.", yes: "Restore", method: "POST", path: `${path}/restore`, intent: "restore" });
    }
    return [
      operates && order.awaits_approval && button("Approve", { title: "Approve this order?", text: `The payment of ${money(order.total, order.currency)} is asked for now; when it is held, the goods are announced to the carrier.`, yes: "Approve", method: "POST", path: `${path}/approve`, intent: "approve" }, "main"),
      operates && order.awaits_approval && button("Reject", { title: "Reject this order?", text: "It is cancelled, and its stock is free again. Nobody is charged.", yes: "Reject", isDanger: true, reason: true, method: "POST", path: `${path}/reject`, intent: "reject" }, "danger"),
      operates && order.status === "processing" && button("Ship", {
        title: "Ship everything that is still here?", text: "The goods leave the shelves, and what they cost is taken from the customer.", yes: "Ship", method: "POST", path: `${path}/shipments`, intent: "ship",
        fields: [{ name: "carrier", label: "Carrier", help: "If another than announced" }, { name: "tracking_number", label: "Tracking number" }, { name: "warehouse", label: "Warehouse", help: "Empty: wherever the goods are held" }],
      }, "main"),
      operates && left > 0 && button("Refund", {
        title: "Refund this order?", text: `At most ${money(left, order.currency)} can be given back. The provider does it in a moment.`, yes: "Refund", isDanger: true, method: "POST", path: `${path}/refunds`, intent: "refund",
        fields: [{ name: "amount", label: `Amount in the smallest unit of ${order.currency}`, type: "number", min: 1, max: left, help: `Empty: all of ${left}` }, { name: "reason", label: "Why" }],
      }),
      operates && waits && button("Try now", {
        title: `Try to ${step.split(":")[0].replaceAll("_", " ")} now?`, text: "It failed, and is tried again by itself; this spares the wait. What a partner has done already is not done again.",
        yes: "Try now", method: "POST", path: `/v1/retries/${encodeURIComponent(`${id}:${step}`)}/redrive`, intent: "redrive", isWhateverItIs: true,
      }),
      operates && order.status === "processing" && hasLeft && button("Cancel remaining", {
        title: "Cancel what has not left?", text: "Its stock is free again. Only what has left is paid for; the rest of the hold on the customer's money is given up.",
        yes: "Cancel remaining", isDanger: true, reason: true, method: "POST", path: `${path}/cancel-remaining`, intent: "cancel_remaining",
      }, "danger"),
      isOpen && !hasLeft && !order.awaits_approval && button("Cancel order", {
        title: "Cancel this order?", text: order.payment.status === "authorized" ? "Its stock is free again, and the hold on the customer's money is given up." : "Its stock is free again. Should the payment go through at this moment, it is given up.",
        yes: "Cancel order", isDanger: true, reason: true, method: "POST", path: `${path}/cancel`, intent: "cancel",
      }, "danger"),
      (["cancelled", "delivered"].includes(order.status) || isAtRest || (isOpen && !hasLeft)) && button("Delete", {
        title: "Delete this order?", text: isOpen ? "It is cancelled first, then it is gone from the lists. An operator can restore it." : "It is gone from the lists. An operator can restore it.", yes: "Delete", isDanger: true, method: "DELETE", path, intent: "delete",
      }, "danger"),
    ];
  }

  async function act({ title, text, yes, isDanger, reason, fields = [], method, path, intent, isWhateverItIs, body = {} }) {
    // What is confirmed is what was seen.
    const condition = isWhateverItIs ? undefined : etag;
    const done = await ask({
      title, text, yes, isDanger, fields: reason ? [{ name: "reason", label: "Why", help: "Kept in the history" }] : fields,
      act: (values) => change(method, path, method === "DELETE" ? undefined : { ...body, ...values }, { intent, etag: condition }),
    });
    if (done) toast("Done.");
    refresh();
  }

  await load();
  draw();
  return {
    refresh,
    take: (event) => { if (event.subject === id) timer ??= setTimeout(refresh, PAUSE_MS); },
    leave: () => clearTimeout(timer),
  };
}
