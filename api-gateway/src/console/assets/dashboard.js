// The dashboard: figures of a period beside those of the period before, work to do, and the state of the system.

import { get, query } from "./api.js";
import { columnChart } from "./charts.js";
import { badge, decimals, fill, h, money, problem, relative, table } from "./dom.js";
import { number, plural, t } from "./i18n.js";

const PERIODS = [7, 30, 90];
const DEFAULT_PERIOD = 30;
const STATUSES = ["pending", "processing", "shipped", "delivered", "cancelled"];
/** Interval between reloads without events, and the shortest one with events. */
const REFRESH_MS = 30_000;
const EVENT_REFRESH_MS = 3000;
/** A step that is due for longer than this is late. */
const LATE_MS = 60_000;
/** The server counts work to do up to this number. */
const MAX_COUNT = 10_000;

export async function open(root, { parameters, isOperator }) {
  const asked = Number(parameters.get("days"));
  const period = PERIODS.includes(asked) ? asked : DEFAULT_PERIOD;
  let stats, gateway, failed = null, timer = null, reloadAt = 0, drawn = "", isClosed = false;

  async function refresh() {
    clearTimeout(timer);
    reloadAt = Date.now() + REFRESH_MS;
    try {
      [stats, gateway] = await Promise.all([get(`/v1/stats?days=${2 * period}`), get("/readyz").catch((failure) => ({ status: "not ready", broker: failure.message }))]);
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    if (isClosed) return;
    // A chart that is being read stays as it is until a number changes.
    const state = JSON.stringify([stats, gateway, failed]);
    if (state !== drawn) draw();
    drawn = state;
    timer = setTimeout(refresh, Math.max(0, reloadAt - Date.now()));
  }

  /** Reloads soon, but not for each event of many. */
  function refreshSoon() {
    const soon = Date.now() + EVENT_REFRESH_MS;
    if (soon >= reloadAt) return;
    reloadAt = soon;
    clearTimeout(timer);
    timer = setTimeout(refresh, EVENT_REFRESH_MS);
  }

  const link = (changes) => query("#/dashboard", { days: period, currency: parameters.get("currency"), ...changes });

  function draw() {
    const head = h("div", { class: "bar" }, h("h1", {}, t("Dashboard")),
      choice(t("Period"), PERIODS.map((days) => [t("{days} days", { days }), link({ days }), days === period, `days-${days}`])));
    if (!stats) return fill(root, head, failed && problem(failed));
    const currencies = [...new Set(stats.days.flatMap((day) => [...day.revenue, ...day.order_values].map((entry) => entry.currency)))].sort();
    const currency = currencies.includes(parameters.get("currency")) ? parameters.get("currency") : busiest(currencies);
    if (currencies.length > 1) head.append(choice(t("Currency"), currencies.map((code) => [code, link({ currency: code }), code === currency, `currency-${code}`])));
    fill(root, head, failed && problem(failed),
      stats.system && work(),
      stats.orders.total === 0 ? firstSteps() : figures(currency),
      h("div", { class: "columns" }, stats.orders.total > 0 && charts(currency), byStatus(), stats.system && health()));
  }

  /** The currency with the most orders. */
  function busiest(currencies) {
    const orders = (currency) => stats.order_values.find((value) => value.currency === currency)?.orders ?? 0;
    return currencies.toSorted((one, other) => orders(other) - orders(one))[0];
  }

  /** Values by day of both periods: { now, before }. */
  function series(value) {
    const values = stats.days.map(value);
    return { before: values.slice(0, period), now: values.slice(period) };
  }

  const sum = (values) => values.reduce((all, value) => all + value, 0);
  const revenueOf = (day, currency) => day.revenue.find((entry) => entry.currency === currency) ?? { captured: 0, refunded: 0 };
  const placedOf = (day, currency) => day.order_values.find((entry) => entry.currency === currency) ?? { orders: 0, total: 0 };

  function figures(currency) {
    const orders = series((day) => day.created);
    const captured = series((day) => revenueOf(day, currency).captured);
    const refunded = series((day) => revenueOf(day, currency).refunded);
    const placed = series((day) => placedOf(day, currency));
    const average = (days) => sum(days.map(({ total }) => total)) / sum(days.map(({ orders: count }) => count));
    const amount = (value) => money(value, currency);
    return h("div", { class: "cards" },
      figure(t("Orders"), sum(orders.now), sum(orders.before), (value) => number(value)),
      currency && figure(t("Revenue"), sum(captured.now), sum(captured.before), amount, t("captured payments")),
      currency && figure(t("Refunds"), sum(refunded.now), sum(refunded.before), amount),
      currency && figure(t("Average order value"), average(placed.now), average(placed.before), (value) => amount(Math.round(value)), t("total when placed")));
  }

  function figure(title, now, before, format, note) {
    const hasBefore = before > 0;
    const change = hasBefore && Number.isFinite(now) ? now / before - 1 : null;
    const text = change === null
      ? t("no comparison: nothing in the previous {days} days", { days: period })
      : t("{change} compared with {before} in the previous {days} days", {
        change: number(change, { style: "percent", signDisplay: "exceptZero", maximumFractionDigits: Math.abs(change) < 0.1 ? 1 : 0 }), before: format(before), days: period,
      });
    return h("section", { class: "card", "aria-label": title },
      h("h2", { class: "soft" }, title, note && h("span", { class: "help" }, ` · ${note}`)),
      h("div", { class: "figure" }, Number.isFinite(now) ? format(now) : "–"), h("div", { class: "help" }, text));
  }

  function charts(currency) {
    const days = stats.days.slice(period).map(({ day }) => day);
    const before = (values) => ({ name: t("previous {days} days", { days: period }), values });
    const count = { format: (value) => number(value), tick: (value) => number(value, { notation: "compact", maximumFractionDigits: 1 }), unit: t("orders") };
    const major = 10 ** decimals(currency);
    const amounts = {
      format: (value) => money(Math.round(value), currency), tick: (value) => number(value / major, { notation: "compact", maximumFractionDigits: 1 }), unit: currency,
    };
    const orders = series((day) => day.created);
    const cancelled = series((day) => day.cancelled);
    const captured = series((day) => revenueOf(day, currency).captured);
    const refunded = series((day) => revenueOf(day, currency).refunded);
    const average = series((day) => {
      const { orders: placed, total } = placedOf(day, currency);
      return placed ? total / placed : null;
    });
    const card = (title, chart) => h("section", { class: "card" }, h("h2", {}, title), chart);
    return [
      card(t("Orders by day"), columnChart({
        ...count, id: "orders-by-day", title: t("Orders by day"), days, before: before(orders.before),
        series: [{ name: t("placed"), values: orders.now, style: "one" }, { name: t("cancelled"), values: cancelled.now, style: "two" }],
      })),
      currency && card(t("Revenue by day"), columnChart({
        ...amounts, id: "revenue-by-day", title: t("Revenue by day"), days, before: before(captured.before),
        series: [{ name: t("captured"), values: captured.now, style: "one" }, { name: t("refunded"), values: refunded.now, style: "two" }],
      })),
      currency && card(t("Average order value by day"), columnChart({
        ...amounts, id: "average-by-day", title: t("Average order value by day"), days, before: before(average.before),
        series: [{ name: t("average order value"), values: average.now, style: "one" }],
      })),
    ];
  }

  /** Work for an operator: a number with a link for each kind. */
  function work() {
    const { attention, system } = stats;
    const isLate = system.oldest_due_at && Date.now() - new Date(system.oldest_due_at) > LATE_MS;
    const { orders_awaiting_approval: approvals, outstanding_payments: payments, requested_returns: returns, low_stock_products: products } = attention;
    const kinds = [
      [system.dead_letters, plural(system.dead_letters, "1 failure to fix", "{count} failures to fix"), "#/failures", "bad"],
      [system.retries, plural(system.retries, "1 step being retried", "{count} steps being retried"), "#/failures", "warn"],
      [isLate ? system.due_steps : 0, plural(system.due_steps, "1 late step", "{count} late steps"), "#/settings?tab=system", "warn"],
      [approvals, plural(approvals, "1 order to approve", "{count} orders to approve"), "#/orders?tab=awaiting_approval", "info"],
      [payments, plural(payments, "1 payment to record", "{count} payments to record"), "#/orders?payment=outstanding", "info"],
      [returns, plural(returns, "1 return to approve or reject", "{count} returns to approve or reject"), "#/returns?status=requested", "info"],
      [products, plural(products, "1 product low on stock", "{count} products low on stock"), "#/products?low_stock=true", "warn"],
    ].filter(([count]) => count > 0);
    return h("section", { class: "card attention", "aria-label": t("Needs attention") }, h("h2", {}, t("Needs attention")),
      kinds.length === 0 ? h("p", { class: "soft" }, t("Nothing needs your attention."))
        : h("ul", { class: "plain" }, kinds.map(([count, title, href, color]) => h("li", {}, h("a", { href, class: color }, title, count >= MAX_COUNT && ` ${t("or more")}`)))));
  }

  function firstSteps() {
    return h("section", { class: "card" }, h("h2", {}, t("No orders yet")),
      h("p", {}, t("The first order appears here as soon as it is placed. To try it out:")),
      h("ol", {},
        isOperator && h("li", {}, h("a", { href: "#/products" }, t("Create a product and its stock"))),
        h("li", {}, h("a", { href: "#/customers" }, t("Create a customer"))),
        h("li", {}, h("a", { href: "#/new" }, t("Place an order")))));
  }

  function byStatus() {
    const { orders } = stats;
    const reasons = Object.entries(orders.cancelled).map(([reason, count]) => [badge(reason), ` ${number(count)} `]);
    return h("section", { class: "card" }, h("h2", {}, t("All orders")),
      table(plural(orders.total, "1 order", "{count} orders"), [
        [t("Status"), ([status]) => h("a", { href: `#/orders?status=${status}` }, badge(status))], [t("Orders"), ([, count]) => number(count), "number"],
      ], STATUSES.map((status) => [status, orders.by_status[status]])),
      reasons.length > 0 && h("p", { class: "help" }, t("Cancelled, by reason:"), " ", reasons));
  }

  /** The system's health in one line, with its faults. */
  function health() {
    const { system } = stats;
    const broker = gateway.broker === "ok";
    const parts = [
      [t("Gateway"), gateway.status === "ready"], [t("Broker"), broker], [t("Database"), !failed],
      [system.workers === null ? t("Number of workers unknown") : plural(system.workers, "1 worker", "{count} workers"), system.workers > 0],
      [system.outbox_lag === 0 ? t("All events published") : plural(system.outbox_lag, "1 unpublished event", "{count} unpublished events"), system.outbox_lag < 1000],
    ];
    const isGood = parts.every(([, good]) => good);
    return h("section", { class: "card", "aria-label": t("Health") }, h("h2", {}, t("Health")),
      h("p", {}, badge(isGood ? t("All systems work") : t("There are faults"), isGood ? "good" : "bad")),
      h("p", { class: "actions" }, parts.map(([text, good]) => h("span", { class: "soft" }, good ? "✓ " : "✗ ", text))),
      system.oldest_due_at && h("p", { class: "help" }, t("The oldest due step was due {time}.", { time: relative(system.oldest_due_at) })),
      h("p", {}, h("a", { href: "#/settings?tab=system" }, t("Details"))));
  }

  await refresh();
  return { refresh, close: () => { isClosed = true; clearTimeout(timer); }, onEvent: refreshSoon };
}

/** A choice among links, as buttons. */
function choice(title, options) {
  return h("nav", { class: "choice", "aria-label": title },
    options.map(([text, href, isChosen, id]) => h("a", { href, id, class: "button", "aria-current": isChosen ? "true" : undefined }, text)));
}
