// Export of orders as CSV (RFC 4180, UTF-8), made in the browser from pages of the list.

import { decimals, toast } from "./dom.js";
import { plural, t } from "./i18n.js";
import { showProgress } from "./progress.js";

const PAGE_SIZE = 200;
/** Tells spreadsheets that the file is UTF-8. */
const BYTE_ORDER_MARK = "\ufeff";

/** An amount in minor units as a decimal number. */
function decimal(amount, currency) {
  const digits = decimals(currency);
  const text = String(Math.abs(amount)).padStart(digits + 1, "0");
  const whole = text.slice(0, text.length - digits);
  return `${amount < 0 ? "-" : ""}${whole}${digits ? `.${text.slice(-digits)}` : ""}`;
}

const amount = (value) => (order) => ({ number: decimal(value(order), order.currency) });

/** Name and value of each column. Texts are strings; { number } is written as it is. */
const COLUMNS = [
  ["number", (order) => ({ number: order.number })],
  ["id", (order) => order.id],
  ["external_id", (order) => order.external_id],
  ["storefront", (order) => order.storefront],
  ["created_at", (order) => order.created_at],
  ["status", (order) => order.status],
  ["awaits_approval", (order) => String(Boolean(order.awaits_approval))],
  ["payment_status", (order) => order.payment.status],
  ["payment_provider", (order) => order.payment.provider],
  ["customer_id", (order) => order.customer_id],
  ["customer_name", (order) => order.customer_name],
  ["items", (order) => order.items.map((line) => `${line.quantity} × ${line.sku} ${line.name}`).join("; ")],
  ["quantity", (order) => ({ number: order.items.reduce((sum, line) => sum + line.quantity, 0) })],
  ["currency", (order) => order.currency],
  ["subtotal", amount((order) => order.subtotal)],
  ["discount_total", amount((order) => order.discount_total)],
  ["shipping_total", amount((order) => order.shipping_total)],
  ["tax_total", amount((order) => order.tax_total)],
  ["total", amount((order) => order.total)],
  ["captured", amount((order) => order.payment.captured)],
  ["refunded", amount((order) => order.payment.refunded)],
  ["tracking_numbers", (order) => order.shipments.map((shipment) => shipment.tracking_number).filter(Boolean).join("; ")],
  ["tags", (order) => (order.tags ?? []).join(", ")],
];

/** A field. A text that a spreadsheet would take for a formula gets a leading apostrophe. */
function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "object") return String(value.number);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const line = (fields) => `${fields.map(field).join(",")}\r\n`;
const lines = (orders) => orders.map((order) => line(COLUMNS.map(([, value]) => value(order)))).join("");

function save(parts) {
  const url = URL.createObjectURL(new Blob([BYTE_ORDER_MARK, line(COLUMNS.map(([name]) => name)), ...parts], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `orders-${new Date().toISOString().slice(0, 10)}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Saves `orders` to a file. */
export function exportOrders(orders) {
  save([lines(orders)]);
  toast(plural(orders.length, "1 order exported.", "{count} orders exported."));
}

/**
 * Saves all orders of a list to a file. `page` reads a page of the list: (limit, cursor) => page. `total` is the
 * number of orders, if it is known.
 */
export async function exportList(page, total) {
  const parts = [];
  let count = 0;
  const isComplete = await showProgress({
    title: t("Exporting orders"), total,
    work: async (report, signal) => {
      const stopped = new Promise((resolve) => signal.addEventListener("abort", () => resolve(null)));
      let cursor;
      do {
        const found = await Promise.race([page(PAGE_SIZE, cursor), stopped]);
        if (!found) return false;
        parts.push(lines(found.data));
        count += found.data.length;
        report(count);
        cursor = found.next_cursor;
      } while (cursor);
      return true;
    },
  });
  if (!isComplete) return toast(t("Export stopped. Nothing was saved."), "bad");
  save(parts);
  toast(plural(count, "1 order exported.", "{count} orders exported."));
}
