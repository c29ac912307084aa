// The page of one order: progress, payment, shipments, history, and the actions that its state allows.

import { change, get, query, read } from "./api.js";
import { showDialog, badge, fill, h, money, table, time, toast } from "./dom.js";
import { isBeingSent, messageTable } from "./messages.js";
import { requestReturn, returnTable } from "./returns.js";
import { ADDRESS } from "./new_order.js";

/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 400;
/** Interval of reloading while a message is being sent, which is no event. */
const MESSAGE_RELOAD_MS = 2000;

const units = (count) => (count === 1 ? "1 unit" : `${count} units`);

export async function open(root, { id, me, isOperator }) {
  let order, etag, history = [], messages = [], timer = null;

  async function load() {
    const response = await read(query(`/v1/orders/${id}`, { include_deleted: isOperator ? "true" : "" }));
    order = response.value;
    etag = response.etag;
    history = [];
    let cursor;
    do {
      const page = await get(query(`/v1/orders/${id}/history`, { limit: 200, cursor, include_deleted: isOperator ? "true" : "" }));
      history.push(...page.data);
      cursor = page.next_cursor;
    } while (cursor && history.length < 1000);
    messages = order.is_deleted ? [] : (await get(query(`/v1/orders/${id}/messages`, { limit: 200 }))).data;
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
      order.pending_edit && h("p", { class: "notice" }, `This order has a pending edit. The payment of its new total, ${money(order.pending_edit.total, order.currency)}, is being authorized; until then the order does not change.`),
      h("section", { class: "card", "aria-label": "Progress" }, h("h2", {}, "Progress"), progress()),
      h("div", { class: "columns" }, items(), payment()),
      shipments(),
      returns(),
      messageTable(order, messages, isOperator, refresh),
      h("div", { class: "columns" }, address(), isOperator && internal(), details()),
      eventLog());
    if (messages.some(isBeingSent)) timer ??= setTimeout(refresh, MESSAGE_RELOAD_MS);
  }

  const firstEvent = (...types) => history.find((event) => types.includes(event.type));
  const lastEvent = (...types) => history.findLast((event) => types.includes(event.type));
  const cancelNote = () => lastEvent("order.cancelled")?.data.note ? `: ${lastEvent("order.cancelled").data.note}` : "";

  /** The stages of the order, each with its time, failed attempts and current step. */
  function progress() {
    const isCancelled = order.status === "cancelled";
    const step = order.in_progress;
    /** Errors of the steps that failed permanently, by step name. */
    const dead = new Map();
    for (const event of history) {
      if (event.type === "step.dead") dead.set(event.data.step.split(":")[0], event.data.error);
      if (event.type === "step.redriven" || event.type === "step.discarded") dead.delete(event.data.step.split(":")[0]);
      if (event.type === "payment.refunded" && isManual() && refundDue() === 0) dead.delete("refund_payment");
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
    const declined = firstEvent("payment.declined");
    const approval = history[0]?.data.needs_approval
      ? [stage("Approved", firstEvent("order.approved"), [], { pending: order.awaits_approval ? "awaiting approval" : undefined })] : [];
    return h("ol", { class: "timeline" },
      stage("Placed", firstEvent("order.created"), []),
      stage("Stock reserved", firstEvent("stock.reserved"), ["reserve_stock"]),
      ...approval,
      isManual()
        ? stage("Payment received", outstanding() === 0 ? lastEvent("payment.captured") : undefined, ["refund_payment"], { pending: order.status === "pending" ? "awaiting payment" : undefined })
        : stage("Payment authorized", firstEvent("payment.authorized"), ["authorize_payment", "check_payment", "void_payment"],
          { failed: declined && `declined: ${declined.data.message}`, pending: order.payment.next_action ? "waiting for the customer" : undefined }),
      stage("Shipment created", firstEvent("shipment.created"), ["request_shipment", "cancel_shipment"]),
      stage("Shipped", firstEvent("order.shipped") ?? firstEvent("shipment.shipped"), []),
      !isManual() && stage("Payment captured", lastEvent("payment.captured"), ["capture_payment", "refund_payment"]),
      stage("Delivered", firstEvent("order.delivered"), []),
      isCancelled && stage("Cancelled", firstEvent("order.cancelled"), [], { failed: order.cancel_reason.replaceAll("_", " ") }));
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
        h("dt", {}, "Refunded"), h("dd", {}, amount("refunded"))),
      isManual() && outstanding() > 0 && h("p", { class: "notice" }, `Outstanding: ${money(outstanding(), order.currency)}. The order is prepared for shipping when it is paid in full.`),
      transactions());
  }

  /** Whether the order is paid outside of a payment provider. */
  const isManual = () => order.payment.provider === "manual";

  /** Amount that the customer still has to pay manually. */
  const outstanding = () => order.status === "cancelled" ? 0 : Math.max(order.total - order.payment.captured, 0);

  /** Amount of the refunds that are due and not made yet. */
  const refundDue = () => order.transactions.filter((transaction) => transaction.kind === "refund" && transaction.status === "pending").reduce((sum, transaction) => sum + transaction.amount, 0);

  function transactions() {
    return order.transactions.length > 0 && table("Transactions", [
      ["Type", (transaction) => transaction.kind],
      ["Amount", (transaction) => money(transaction.amount, order.currency), "number"],
      ["Status", (transaction) => badge(transaction.status)],
      ["Reference", (transaction) => h("span", { class: "mono" }, transaction.reference ?? "–")],
      ["Time", (transaction) => time(transaction.received_at ?? transaction.created_at)],
    ], order.transactions);
  }

  function shipments() {
    if (!order.shipments.length) return h("section", { class: "card" }, h("h2", {}, "Shipments"), h("p", { class: "soft" }, "No shipments yet."));
    return h("section", { class: "card" }, h("h2", {}, "Shipments"), table("", [
      ["Tracking number", (shipment) => shipment.tracking_url
        ? link(shipment.tracking_url, shipment.tracking_number || "Tracking page", "mono")
        : h("span", { class: "mono" }, shipment.tracking_number || "–")],
      ["Carrier", (shipment) => [shipment.carrier, shipment.label_url && [" · ", link(shipment.label_url, "Print label")]]],
      ["Status", (shipment) => badge(shipment.status)],
      ["Items", (shipment) => shipment.items.map((item) => `${item.quantity} × ${item.sku} from ${item.warehouse}`).join(", ")],
      ["Shipped", (shipment) => time(shipment.shipped_at)],
      ["Delivered", (shipment) => time(shipment.delivered_at)],
      isOperator && !order.is_deleted && ["Actions", (shipment) => h("div", { class: "actions" }, shipmentActions(shipment))],
    ].filter(Boolean), order.shipments));
  }

  /** A link to a page of the carrier, in a new tab. The server accepts http and https URLs only. */
  function link(href, text, kind) {
    return h("a", { href, class: kind, target: "_blank", rel: "noopener noreferrer" }, text);
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

  function returns() {
    return order.returns?.length > 0 && h("section", { class: "card", "aria-label": "Returns" }, h("h2", {}, "Returns"), returnTable("", order.returns, isOperator, refresh));
  }

  function address() {
    const fields = Object.entries(order.shipping_address ?? {});
    return h("section", { class: "card" }, h("h2", {}, "Ship to"),
      fields.length ? h("dl", {}, fields.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])) : h("p", { class: "soft" }, "No shipping address."),
      isOpen() && !hasShipped() && !order.is_deleted && h("button", { onclick: editAddress }, "Edit shipping address"));
  }

  function editAddress() {
    const current = order.shipping_address ?? {};
    const others = Object.keys(current).filter((name) => ADDRESS.every(([known]) => known !== name));
    const fields = [...ADDRESS, ...others.map((name) => [name, name])].map(([name, label]) => ({ name, label, value: current[name] }));
    const isLabelled = order.shipments.some((shipment) => shipment.status === "label_created");
    act({
      title: "Edit the shipping address", submitLabel: "Save", method: "PATCH", path: `/v1/orders/${order.id}`, intent: "edit_address", fields,
      text: isLabelled && "When you save, the shipping label is cancelled at the carrier, and a new one is requested for the new address. Throw away a label that is already printed.",
      toBody: (values) => {
        const given = fields.map(({ name }) => [name, values[name] ?? null]);
        return { shipping_address: given.some(([, text]) => text) ? Object.fromEntries(given) : null };
      },
    });
  }

  /** Note and tags: for operators only. */
  function internal() {
    const tags = order.tags ?? [];
    return h("section", { class: "card" }, h("h2", {}, "Note and tags"),
      h("p", { class: order.note ? "note" : "soft" }, order.note ?? "No note."),
      tags.length > 0 && h("p", {}, tags.map((tag) => [h("a", { class: "badge", href: query("#/orders", { tag }) }, tag), " "])),
      !order.is_deleted && h("button", {
        onclick: () => act({
          title: "Edit note and tags", submitLabel: "Save", method: "PATCH", path: `/v1/orders/${order.id}`, intent: "edit_note",
          fields: [{ name: "note", label: "Note", type: "area", rows: 5, value: order.note, help: "Only staff can see the note and the tags; customers cannot" }, { name: "tags", label: "Tags", value: tags.join(", "), help: "Separated by commas" }],
          toBody: ({ note, tags: text }) => ({ note: note ?? null, tags: (text ?? "").split(",").filter((tag) => tag.trim()) }),
        }),
      }, "Edit note and tags"));
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

  /** The quantity of each product, in all of its line items together. */
  function quantities() {
    const bySku = new Map();
    for (const { sku, quantity } of order.items) bySku.set(sku, (bySku.get(sku) ?? 0) + quantity);
    return bySku;
  }

  /** Discounts and taxes of the shipping charge belong to its amount, so only a charge without them is edited here. */
  const isShippingEditable = () => !order.shipping?.discounts?.length && !order.shipping?.taxes?.length;

  function editFields() {
    const ofProducts = [...quantities()].map(([sku, quantity]) => ({ name: `quantity ${sku}`, label: `Quantity of ${sku}`, type: "number", min: 0, max: 1_000_000, value: quantity, required: true }));
    return [...ofProducts,
      { name: "sku", label: "Add product", help: "SKU of the product" },
      { name: "quantity", label: "Quantity of the added product", type: "number", min: 1, max: 1_000_000 },
      isShippingEditable() && { name: "shipping", label: `Shipping charge (${order.currency})`, type: "money", currency: order.currency, value: order.shipping?.amount, help: "Leave empty for no shipping charge" },
      { name: "reason", label: "Reason", help: "Shown in the order history" }].filter(Boolean);
  }

  /** The edit that the form describes: only what differs from the order. */
  function editBody(values) {
    const items = [...quantities()].map(([sku, before]) => ({ sku, before, quantity: values[`quantity ${sku}`] ?? 0 }))
      .filter(({ before, quantity }) => quantity !== before).map(({ sku, quantity }) => ({ sku, quantity }));
    if (values.sku) items.push({ sku: values.sku, quantity: values.quantity ?? 1 });
    const body = { reason: values.reason };
    if (items.length) body.items = items;
    if (isShippingEditable() && values.shipping !== order.shipping?.amount) {
      body.shipping = values.shipping === undefined ? null : { label: order.shipping?.label ?? "Shipping", amount: values.shipping };
    }
    return body;
  }

  const hasShipped = () => order.shipments.some((shipment) => shipment.shipped_at && shipment.status !== "cancelled");
  const isOpen = () => ["pending", "processing"].includes(order.status);

  /** The actions that the order's state allows. The server checks them again. */
  function actions() {
    const path = `/v1/orders/${order.id}`;
    const unitsOf = (items) => items.reduce((sum, item) => sum + item.quantity, 0);
    const received = order.returns?.flatMap((entry) => entry.received ?? []) ?? [];
    const haveAllUnitsReturned = unitsOf(received) >= unitsOf(order.shipments.filter((shipment) => shipment.status !== "cancelled").flatMap((shipment) => shipment.items));
    const areShipmentsFinished = order.status === "shipped"
      && (haveAllUnitsReturned || order.shipments.every((shipment) => ["delivered", "returned", "failed", "cancelled"].includes(shipment.status)));
    const isEditable = !hasShipped() && !order.pending_edit && (order.status === "processing" || order.awaits_approval || (isManual() && order.status === "pending"));
    const refundable = order.payment.captured - order.payment.refunded;
    const step = order.in_progress?.step;
    const isRetried = history.some((event) => event.type === "step.retried" && event.data.step === step);
    const button = (label, options, kind = "") => h("button", { class: kind, onclick: () => act(options) }, label);
    if (order.is_deleted) {
      return isOperator && button("Restore", { title: "Restore this order?", text: "The order appears in the order lists again, unchanged.", submitLabel: "Restore", method: "POST", path: `${path}/restore`, intent: "restore" });
    }
    return [
      isOperator && order.awaits_approval && button("Approve", { title: "Approve this order?", text: isManual() ? "A shipping label is requested from the carrier when the order is paid." : `The payment of ${money(order.total, order.currency)} is authorized now. When it succeeds, a shipment is requested from the carrier.`, submitLabel: "Approve", method: "POST", path: `${path}/approve`, intent: "approve" }, "main"),
      isOperator && order.awaits_approval && button("Reject", { title: "Reject this order?", text: "The order is cancelled and its stock is released. The customer is not charged.", submitLabel: "Reject", isDanger: true, reason: true, method: "POST", path: `${path}/reject`, intent: "reject" }, "danger"),
      isOperator && order.status === "processing" && button("Ship", {
        title: "Ship all remaining items?", text: "The items are taken out of stock, and their payment is captured.", submitLabel: "Ship", method: "POST", path: `${path}/shipments`, intent: "ship",
        fields: [{ name: "carrier", label: "Carrier", help: "Leave empty to use the carrier of the shipping label" }, { name: "tracking_number", label: "Tracking number" }, { name: "tracking_url", label: "Tracking page", help: "URL of the carrier's page about this shipment" }, { name: "warehouse", label: "Warehouse", help: "Leave empty to ship from the warehouses that hold the reserved items" },
          { name: "allow_unpaid", label: "Ship without payment", type: "check", help: "Only for an order whose payment is missing or has failed. Unless this is checked, the server refuses to ship such an order." }],
        confirm: ({ allow_unpaid }) => allow_unpaid && {
          title: "Ship without payment?", submitLabel: "Ship without payment", isDanger: true,
          text: `The items leave the warehouse even if no payment is authorized or captured for them. If the payment cannot be captured later, the shop is not paid: up to ${money(order.total, order.currency)}.`,
        },
      }, "main"),
      isEditable && button("Edit order", {
        title: "Edit this order?", text: isManual() ? "The new total applies at once. The total of an order that is already paid cannot rise; if it falls, you pay the difference back to the customer."
          : "A lower total applies at once, and the customer is charged less or refunded. For a higher one, the customer's payment method is authorized first; if it is declined, the order does not change.",
        submitLabel: "Save", method: "POST", path: `${path}/edit`, intent: "edit", fields: editFields(), toBody: editBody,
      }),
      order.pending_edit && button("Cancel pending edit", {
        title: "Cancel the pending edit?", text: "The order does not change. Items that were reserved for the edit are available again, and its payment authorization is voided.",
        submitLabel: "Cancel pending edit", isDanger: true, reason: true, method: "POST", path: `${path}/edit/cancel`, intent: "cancel_edit",
      }, "danger"),
      isOperator && isManual() && order.total > 0 && (outstanding() > 0 || order.status === "cancelled") && button("Record payment", {
        title: "Record a payment?", text: outstanding() > 0
          ? `${money(outstanding(), order.currency)} are outstanding. When the order is paid in full, it is prepared for shipping.`
          : "This order is cancelled. You have to pay back to the customer whatever you record here.",
        submitLabel: "Record payment", method: "POST", path: `${path}/payments`, intent: "record_payment",
        fields: [{ name: "amount", label: `Amount received (${order.currency})`, type: "money", currency: order.currency, min: 1, required: true, value: outstanding() || "" },
          { name: "reference", label: "Reference", help: "For example the number of the bank transfer or of the receipt" },
          { name: "overpaid", label: "Accept more than the outstanding amount", type: "check", value: outstanding() === 0, help: "Unless this is checked, a larger payment is not recorded." }],
      }, "main"),
      isOperator && isManual() && order.status !== "pending" && refundable > 0 && button("Record refund", {
        title: "Record a refund?", text: `Records money that you have paid back to the customer. ${refundDue() > 0 ? `${money(refundDue(), order.currency)} are due. ` : ""}Up to ${money(refundable, order.currency)} can be refunded. Nothing is sent to the customer.`,
        submitLabel: "Record refund", method: "POST", path: `${path}/refunds`, intent: "record_refund",
        fields: [{ name: "amount", label: `Amount (${order.currency})`, type: "money", currency: order.currency, min: 1, max: refundable, required: true, value: refundDue() || refundable }, { name: "reference", label: "Reference" }, { name: "reason", label: "Reason" }],
      }, refundDue() > 0 ? "main" : ""),
      isOperator && !isManual() && refundable > 0 && button("Refund", {
        title: "Refund this order?", text: `Up to ${money(refundable, order.currency)} can be refunded. The money is sent back to the customer by the payment provider; this cannot be undone.`, submitLabel: "Refund", isDanger: true, method: "POST", path: `${path}/refunds`, intent: "refund",
        fields: [{ name: "amount", label: `Amount (${order.currency})`, type: "money", currency: order.currency, min: 1, max: refundable, help: `Leave empty to refund ${money(refundable, order.currency)}` }, { name: "reason", label: "Reason" }],
      }),
      hasShipped() && h("button", { onclick: () => requestReturn(order).then((dialogResult) => { if (dialogResult) toast("Return created."); refresh(); }) }, "Return items"),
      isOperator && isRetried && button("Retry now", {
        title: `Retry ${step.split(":")[0].replaceAll("_", " ")} now?`, text: "The last attempt failed. The step is retried automatically; this retries it without waiting. Nothing that the provider has already done is done twice.",
        submitLabel: "Retry now", method: "POST", path: `/v1/retries/${encodeURIComponent(`${id}:${step}`)}/redrive`, intent: "redrive", isUnconditional: true,
      }),
      isOperator && order.status === "processing" && hasShipped() && button("Cancel remaining items", {
        title: "Cancel the items that have not shipped?", text: "Their stock is released. The customer is charged for the shipped items only; the rest of the payment authorization is voided.",
        submitLabel: "Cancel remaining items", isDanger: true, reason: true, method: "POST", path: `${path}/cancel-remaining`, intent: "cancel_remaining",
      }, "danger"),
      isOpen() && !hasShipped() && !order.awaits_approval && button("Cancel order", {
        title: "Cancel this order?", text: isManual() ? `The stock is released. ${order.payment.captured > 0 ? `${money(order.payment.captured, order.currency)} are to be paid back to the customer. ` : ""}A cancelled order cannot be reopened.` : order.payment.status === "authorized" ? "The stock is released and the payment authorization is voided. A cancelled order cannot be reopened." : "The stock is released. If the payment is authorized in the meantime, the authorization is voided. A cancelled order cannot be reopened.",
        submitLabel: "Cancel order", isDanger: true, reason: true, method: "POST", path: `${path}/cancel`, intent: "cancel",
      }, "danger"),
      (["cancelled", "delivered"].includes(order.status) || areShipmentsFinished || (isOpen() && !hasShipped())) && button("Delete", {
        title: "Delete this order?", text: isOpen() ? "The order is cancelled first, then removed from the lists. An operator can restore it to the lists; it stays cancelled." : "The order is removed from the lists. An operator can restore it.", submitLabel: "Delete", isDanger: true, method: "DELETE", path, intent: "delete",
      }, "danger"),
    ];
  }

  async function act({ title, text, submitLabel, isDanger, reason, fields = [], confirm, method, path, intent, isUnconditional, body = {}, toBody = (values) => values }) {
    // The action applies to the version that was on screen; a newer version is refused (412).
    const condition = isUnconditional ? undefined : etag;
    const dialogResult = await showDialog({
      title, text, submitLabel, isDanger, fields: reason ? [{ name: "reason", label: "Reason", help: "Shown in the order history" }] : fields,
      act: async (values) => {
        const confirmation = confirm?.(values);
        if (confirmation && !(await showDialog(confirmation))) throw { title: "Nothing was changed", message: `"${confirmation.submitLabel}" was not confirmed.` };
        return change(method, path, method === "DELETE" ? undefined : { ...body, ...toBody(values) }, { intent, etag: condition });
      },
    });
    if (dialogResult) toast("Done.");
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
