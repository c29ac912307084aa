// The page of one order: progress, payment, shipments, history, and the actions that its state allows.

import { change, get, query, read } from "./api.js";
import { showDialog, badge, fill, h, money, table, time, toast } from "./dom.js";

/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 400;

const units = (count) => (count === 1 ? "1 unit" : `${count} units`);

export async function open(root, { id, me, isOperator }) {
  let order, etag, history = [], timer = null;

  async function load() {
    const found = await read(query(`/v1/orders/${id}`, { include_deleted: isOperator ? "true" : "" }));
    order = found.value;
    etag = found.etag;
    history = [];
    let cursor;
    do {
      const page = await get(query(`/v1/orders/${id}/history`, { limit: 200, cursor, include_deleted: isOperator ? "true" : "" }));
      history.push(...page.data);
      cursor = page.next_cursor;
    } while (cursor && history.length < 1000);
  }

  async function refresh() {
    timer = null;
    try {
      await load();
    } catch (failure) {
      if (failure.status === 404) return fill(root, h("h1", {}, "Order"), h("p", { class: "empty" }, "This order no longer exists."));
      return toast(failure.message, "bad");
    }
    draw();
  }

  function draw() {
    fill(root,
      h("div", { class: "bar" },
        h("h1", {}, `Order #${order.number} `, badge(order.status), order.awaits_approval && [" ", badge("awaiting approval", "warn")], order.is_deleted && [" ", badge("deleted", "bad")]),
        h("div", { class: "actions" }, actions())),
      order.cancel_reason && h("p", { class: "notice" }, `Cancelled: ${order.cancel_reason.replaceAll("_", " ")}`, cancelNote()),
      order.payment.next_action && h("p", { class: "notice" }, `Payment is waiting for the customer to complete: ${order.payment.next_action.type.replaceAll("_", " ")}.`),
      h("section", { class: "card", "aria-label": "Progress" }, h("h2", {}, "Progress"), progress()),
      h("div", { class: "columns" }, items(), payment()),
      shipments(),
      h("div", { class: "columns" }, address(), details()),
      eventLog());
  }

  const first = (...types) => history.find((event) => types.includes(event.type));
  const last = (...types) => history.findLast((event) => types.includes(event.type));
  const cancelNote = () => last("order.cancelled")?.data.note ? `: ${last("order.cancelled").data.note}` : "";

  /** The stages of the order, each with its time, failed attempts and current step. */
  function progress() {
    const isCancelled = order.status === "cancelled";
    const step = order.in_progress;
    /** Errors of the steps that failed permanently, by step name. */
    const dead = new Map();
    for (const event of history) {
      if (event.type === "step.dead") dead.set(event.data.step.split(":")[0], event.data.error);
      if (event.type === "step.redriven" || event.type === "step.discarded") dead.delete(event.data.step.split(":")[0]);
    }
    const retries = (name) => history.filter((event) => event.type === "step.retried" && event.data.step.split(":")[0] === name);
    const stage = (title, event, steps, { failed, pending } = {}) => {
      const isCurrent = step && steps.includes(step.step);
      const deadStep = steps.find((name) => dead.has(name));
      const kind = deadStep || failed ? "bad" : event ? "done" : isCurrent ? "now" : "";
      const retried = steps.flatMap(retries);
      const lastRetry = retried.at(-1);
      return h("li", { class: kind },
        h("b", {}, title),
        h("span", {}, failed ? failed : event ? time(event.time) : isCurrent ? "in progress" : isCancelled ? "not reached" : pending ?? "not started"),
        isCurrent && h("div", { class: "help" }, `${step.step.replaceAll("_", " ")}, attempt ${step.attempt}, due `, time(step.due_at)),
        retried.length > 0 && h("div", { class: "help" }, `${retried.length === 1 ? "1 failed attempt" : `${retried.length} failed attempts`}, last error: ${lastRetry.data.error}`),
        deadStep && h("div", { class: "error" }, `${deadStep.replaceAll("_", " ")} failed permanently: ${dead.get(deadStep)} `, isOperator && h("a", { href: "#/failures" }, "Go to Failures")));
    };
    const declined = first("payment.declined");
    const approval = history[0]?.data.needs_approval
      ? [stage("Approved", first("order.approved"), [], { pending: order.awaits_approval ? "awaiting approval" : undefined })] : [];
    return h("ol", { class: "timeline" },
      stage("Placed", first("order.created"), []),
      stage("Stock reserved", first("stock.reserved"), ["reserve_stock"]),
      ...approval,
      stage("Payment authorized", first("payment.authorized"), ["authorize_payment", "check_payment", "void_payment"],
        { failed: declined && `declined: ${declined.data.message}`, pending: order.payment.next_action ? "waiting for the customer" : undefined }),
      stage("Shipment created", first("shipment.created"), ["request_shipment", "cancel_shipment"]),
      stage("Shipped", first("order.shipped") ?? first("shipment.shipped"), []),
      stage("Payment captured", last("payment.captured"), ["capture_payment", "refund_payment"]),
      stage("Delivered", first("order.delivered"), []),
      isCancelled && stage("Cancelled", first("order.cancelled"), [], { failed: order.cancel_reason.replaceAll("_", " ") }));
  }

  function items() {
    return h("section", { class: "card" }, h("h2", {}, "Items"),
      table(units(order.items.reduce((sum, line) => sum + line.quantity, 0)), [
        ["Product", (line) => [h("a", { href: query("#/inventory", { q: line.sku }) }, line.name), h("div", { class: "mono soft" }, line.sku)]],
        ["Quantity", (line) => line.quantity, "number"],
        ["Unit price", (line) => money(line.unit_price, order.currency), "number"],
        order.items.some((line) => line.discount_total) && ["Discount", (line) => line.discount_total ? money(-line.discount_total, order.currency) : "–", "number"],
        order.items.some((line) => line.tax_total) && ["Tax", (line) => line.tax_total ? money(line.tax_total, order.currency) : "–", "number"],
        ["Total", (line) => money(line.total, order.currency), "number"],
        ["Warehouse", (line) => line.warehouse ?? "–"],
      ].filter(Boolean), order.items),
      order.cancelled_items?.length > 0 && h("p", { class: "notice" }, `Cancelled items: ${order.cancelled_items.map((item) => `${item.quantity} × ${item.sku}`).join(", ")}`),
      totals());
  }

  function totals() {
    const row = (name, amount, isTotal) => [h("dt", {}, isTotal ? h("b", {}, name) : name), h("dd", {}, isTotal ? h("b", {}, money(amount, order.currency)) : money(amount, order.currency))];
    const discounts = order.discounts?.map((discount) => discount.code ?? discount.label).join(", ");
    return h("dl", { class: "totals" },
      row("Subtotal", order.subtotal),
      order.discount_total > 0 && row(discounts ? `Discounts (${discounts})` : "Discounts", -order.discount_total),
      order.shipping && row(`Shipping (${order.shipping.label})`, order.shipping_total),
      order.tax_total > 0 && row(order.tax_included ? "Included tax" : "Tax", order.tax_total),
      row("Total", order.total, true));
  }

  function payment() {
    const payment = order.payment, amount = (name) => money(payment[name], order.currency);
    return h("section", { class: "card" }, h("h2", {}, "Payment ", badge(payment.status)),
      h("dl", {},
        h("dt", {}, "Provider"), h("dd", {}, payment.provider),
        h("dt", {}, "Reference"), h("dd", { class: "mono" }, payment.reference ?? "–"),
        h("dt", {}, "Authorized"), h("dd", {}, amount("authorized")),
        h("dt", {}, "Captured"), h("dd", {}, amount("captured")),
        h("dt", {}, "Refunded"), h("dd", {}, amount("refunded"))));
  }

  function shipments() {
    if (!order.shipments.length) return h("section", { class: "card" }, h("h2", {}, "Shipments"), h("p", { class: "soft" }, "No shipments yet."));
    return h("section", { class: "card" }, h("h2", {}, "Shipments"), table("", [
      ["Tracking number", (shipment) => h("span", { class: "mono" }, shipment.tracking_number || "–")],
      ["Carrier", (shipment) => shipment.carrier],
      ["Status", (shipment) => badge(shipment.status)],
      ["Items", (shipment) => shipment.items.map((item) => `${item.quantity} × ${item.sku} from ${item.warehouse}`).join(", ")],
      ["Shipped", (shipment) => time(shipment.shipped_at)],
      ["Delivered", (shipment) => time(shipment.delivered_at)],
      isOperator && !order.is_deleted && ["Actions", (shipment) => h("div", { class: "actions" }, shipmentActions(shipment))],
    ].filter(Boolean), order.shipments));
  }

  /** The actions on a shipment that its status allows. */
  function shipmentActions(shipment) {
    const path = `/v1/orders/${order.id}/shipments/${shipment.id}`;
    const name = shipment.tracking_number || "shipment";
    const record = (status, type, text, isDanger) => h("button", {
      onclick: () => act({ title: `Mark ${name} as ${status}?`, text, submitLabel: `Mark as ${status}`, isDanger, method: "POST", path: `${path}/events`, intent: "shipment_event", body: { type } }),
    }, `Mark as ${status}`);
    const isInTransit = ["shipped", "in_transit", "out_for_delivery", "failed"].includes(shipment.status);
    return [
      isInTransit && record("delivered", "shipment.delivered", "When all shipments of the order are delivered, the order is delivered too."),
      isInTransit && shipment.status !== "failed" && record("failed", "shipment.failed", "Records a failed delivery. The shipment can still be marked as delivered or returned later."),
      (isInTransit || shipment.status === "delivered") && record("returned", "shipment.returned", "Its items are put back into stock, and refunded to the customer if automatic refunds of returns are enabled.", true),
      shipment.status === "label_created" && h("button", {
        onclick: () => act({ title: `Cancel the shipping label of ${name}?`, text: "The label is cancelled at the carrier. Its items stay reserved and can be shipped in another way.", submitLabel: "Cancel label", isDanger: true, reason: true, method: "POST", path: `${path}/cancel`, intent: "cancel_shipment" }),
      }, "Cancel label"),
    ];
  }

  function address() {
    const fields = Object.entries(order.shipping_address ?? {});
    return h("section", { class: "card" }, h("h2", {}, "Ship to"),
      fields.length ? h("dl", {}, fields.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])) : h("p", { class: "soft" }, "No shipping address."));
  }

  function details() {
    return h("section", { class: "card" }, h("h2", {}, "Details"), h("dl", {},
      h("dt", {}, "Order ID"), h("dd", { class: "mono" }, order.id),
      h("dt", {}, "Storefront"), h("dd", {}, order.storefront),
      h("dt", {}, "Customer"), h("dd", {}, h("a", { class: "mono", href: query("#/orders", { customer_id: order.customer_id }) }, order.customer_id)),
      order.external_id && [h("dt", {}, "External ID"), h("dd", { class: "mono" }, order.external_id)],
      h("dt", {}, "Placed"), h("dd", {}, time(order.created_at)),
      h("dt", {}, "Last updated"), h("dd", {}, time(order.updated_at), `, version ${order.version}`),
      Object.keys(order.metadata).length > 0 && [h("dt", {}, "Metadata"), h("dd", {}, h("pre", {}, JSON.stringify(order.metadata, null, 2)))]));
  }

  function eventLog() {
    return h("section", { class: "card" }, h("h2", {}, "History"), table("All events, newest first", [
      ["Event", (event) => [h("b", {}, event.type), eventData(event)]],
      ["Time", (event) => time(event.time)],
      ["Actor", (event) => event.actor],
      ["Purpose", (event) => [event.intent, event.attempt > 1 && `, attempt ${event.attempt}`]],
      ["Request ID", (event) => h("span", { class: "mono" }, event.request_id)],
    ], [...history].reverse()));
  }

  function eventData(event) {
    const hasData = Object.keys(event.data).length > 0;
    return hasData && h("details", {}, h("summary", { class: "help" }, "Event data"), h("pre", {}, JSON.stringify(event.data, null, 2)));
  }

  /** The actions that the order's state allows. The server checks them again. */
  function actions() {
    const path = `/v1/orders/${order.id}`;
    const hasShipped = order.shipments.some((shipment) => shipment.shipped_at && shipment.status !== "cancelled");
    const isOpen = ["pending", "processing"].includes(order.status);
    const areShipmentsFinished = order.status === "shipped"
      && order.shipments.every((shipment) => ["delivered", "returned", "failed", "cancelled"].includes(shipment.status));
    const refundable = order.payment.captured - order.payment.refunded;
    const step = order.in_progress?.step;
    const isRetried = history.some((event) => event.type === "step.retried" && event.data.step === step);
    const button = (label, options, kind = "") => h("button", { class: kind, onclick: () => act(options) }, label);
    if (order.is_deleted) {
      return isOperator && button("Restore", { title: "Restore this order?", text: "The order appears in the order lists again, unchanged.", submitLabel: "Restore", method: "POST", path: `${path}/restore`, intent: "restore" });
    }
    return [
      isOperator && order.awaits_approval && button("Approve", { title: "Approve this order?", text: `The payment of ${money(order.total, order.currency)} is authorized now. When it succeeds, a shipment is requested from the carrier.`, submitLabel: "Approve", method: "POST", path: `${path}/approve`, intent: "approve" }, "main"),
      isOperator && order.awaits_approval && button("Reject", { title: "Reject this order?", text: "The order is cancelled and its stock is released. The customer is not charged.", submitLabel: "Reject", isDanger: true, reason: true, method: "POST", path: `${path}/reject`, intent: "reject" }, "danger"),
      isOperator && order.status === "processing" && button("Ship", {
        title: "Ship all remaining items?", text: "The items are taken out of stock, and their payment is captured.", submitLabel: "Ship", method: "POST", path: `${path}/shipments`, intent: "ship",
        fields: [{ name: "carrier", label: "Carrier", help: "Leave empty to use the carrier of the shipping label" }, { name: "tracking_number", label: "Tracking number" }, { name: "warehouse", label: "Warehouse", help: "Leave empty to ship from the warehouses that hold the reserved items" },
          { name: "allow_unpaid", label: "Ship without payment", type: "check", help: "Only for an order whose payment is missing or has failed. Unless this is checked, the server refuses to ship such an order." }],
        confirm: ({ allow_unpaid }) => allow_unpaid && {
          title: "Ship without payment?", submitLabel: "Ship without payment", isDanger: true,
          text: `The items leave the warehouse even if no payment is authorized or captured for them. If the payment cannot be captured later, the shop is not paid: up to ${money(order.total, order.currency)}.`,
        },
      }, "main"),
      isOperator && refundable > 0 && button("Refund", {
        title: "Refund this order?", text: `Up to ${money(refundable, order.currency)} can be refunded. The money is sent back to the customer by the payment provider; this cannot be undone.`, submitLabel: "Refund", isDanger: true, method: "POST", path: `${path}/refunds`, intent: "refund",
        fields: [{ name: "amount", label: `Amount in the smallest unit of ${order.currency} (cents, for example)`, type: "number", min: 1, max: refundable, help: `Leave empty to refund ${money(refundable, order.currency)} (${refundable})` }, { name: "reason", label: "Reason" }],
      }),
      isOperator && isRetried && button("Retry now", {
        title: `Retry ${step.split(":")[0].replaceAll("_", " ")} now?`, text: "The last attempt failed. The step is retried automatically; this retries it without waiting. Nothing that the provider has already done is done twice.",
        submitLabel: "Retry now", method: "POST", path: `/v1/retries/${encodeURIComponent(`${id}:${step}`)}/redrive`, intent: "redrive", isUnconditional: true,
      }),
      isOperator && order.status === "processing" && hasShipped && button("Cancel remaining", {
        title: "Cancel the items that have not shipped?", text: "Their stock is released. The customer is charged for the shipped items only; the rest of the payment authorization is voided.",
        submitLabel: "Cancel remaining", isDanger: true, reason: true, method: "POST", path: `${path}/cancel-remaining`, intent: "cancel_remaining",
      }, "danger"),
      isOpen && !hasShipped && !order.awaits_approval && button("Cancel order", {
        title: "Cancel this order?", text: order.payment.status === "authorized" ? "The stock is released and the payment authorization is voided. A cancelled order cannot be reopened." : "The stock is released. If the payment is authorized in the meantime, the authorization is voided. A cancelled order cannot be reopened.",
        submitLabel: "Cancel order", isDanger: true, reason: true, method: "POST", path: `${path}/cancel`, intent: "cancel",
      }, "danger"),
      (["cancelled", "delivered"].includes(order.status) || areShipmentsFinished || (isOpen && !hasShipped)) && button("Delete", {
        title: "Delete this order?", text: isOpen ? "The order is cancelled first, then removed from the lists. An operator can restore it to the lists; it stays cancelled." : "The order is removed from the lists. An operator can restore it.", submitLabel: "Delete", isDanger: true, method: "DELETE", path, intent: "delete",
      }, "danger"),
    ];
  }

  async function act({ title, text, submitLabel, isDanger, reason, fields = [], confirm, method, path, intent, isUnconditional, body = {} }) {
    // The action applies to the version that was on screen; a newer version is refused (412).
    const condition = isUnconditional ? undefined : etag;
    const done = await showDialog({
      title, text, submitLabel, isDanger, fields: reason ? [{ name: "reason", label: "Reason", help: "Shown in the order history" }] : fields,
      act: async (values) => {
        const confirmation = confirm?.(values);
        if (confirmation && !(await showDialog(confirmation))) throw { title: "Nothing was changed", message: `"${confirmation.submitLabel}" was not confirmed.` };
        return change(method, path, method === "DELETE" ? undefined : { ...body, ...values }, { intent, etag: condition });
      },
    });
    if (done) toast("Done.");
    refresh();
  }

  await load();
  draw();
  return {
    refresh,
    onEvent: (event) => { if (event.subject === id) timer ??= setTimeout(refresh, RELOAD_DELAY_MS); },
    close: () => clearTimeout(timer),
  };
}
