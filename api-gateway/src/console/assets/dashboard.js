// The dashboard: order figures, revenue and system health.

import { get } from "./api.js";
import { barChart, lineChart } from "./charts.js";
import { badge, decimals, fill, h, money, problem, table, time } from "./dom.js";

const STATUSES = ["pending", "processing", "shipped", "delivered", "cancelled"];
const REFRESH_MS = 5000;
const MINUTE_MS = 60_000;
const WINDOW_MINUTES = 10;

export async function open(root, { isOperator }) {
  let stats, gateway, timer = null, failed = null;
  /** Arrival times of the order.created events since the page was opened. */
  const created = [];

  async function refresh() {
    clearTimeout(timer);
    try {
      [stats, gateway] = await Promise.all([get("/v1/stats?days=14"), get("/readyz").catch((failure) => ({ status: "not ready", broker: failure.message }))]);
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    draw();
    timer = setTimeout(refresh, REFRESH_MS);
  }

  /** The number of orders in each of the last minutes, counted from live events. */
  function ordersPerMinute() {
    const now = Date.now();
    const counts = Array(WINDOW_MINUTES).fill(0);
    for (const at of created) {
      const ago = Math.floor((now - at) / MINUTE_MS);
      if (ago < WINDOW_MINUTES) counts[WINDOW_MINUTES - 1 - ago] += 1;
    }
    return counts;
  }

  function draw() {
    if (!stats) return fill(root, h("h1", {}, "Dashboard"), failed && problem(failed));
    const { orders, days, revenue, system } = stats;
    const labels = days.map((day) => day.day.slice(5));
    const currency = revenue[0]?.currency;
    const perDay = days.map((day) => day.revenue.find((entry) => entry.currency === currency)?.net ?? 0);
    const perMinute = ordersPerMinute();
    fill(root, h("h1", {}, "Dashboard"), failed && problem(failed),
      h("div", { class: "cards" },
        card("Orders", orders.total, `${orders.new} new, ${orders.processed} processed, ${orders.failed} failed`),
        card("Orders in the last minute", perMinute.at(-1), "counted since this page was opened"),
        card("Revenue after refunds", revenue.length ? revenue.map((entry) => money(entry.net, entry.currency)).join(", ") : "–", "all payments captured, less refunds"),
        system && card("Failures", system.dead_letters, system.dead_letters || system.retries
          ? [system.retries > 0 && `${system.retries}${system.retries < 10000 ? "" : " or more"} being retried; `, h("a", { href: "#/failures" }, "Go to Failures")] : "none", system.dead_letters ? "bad" : "")),
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", {}, "Orders by day"),
          barChart("Orders by day", labels, days.map((day) => day.created), days.map((day) => day.cancelled), ["placed", "cancelled"])),
        h("section", { class: "card" }, h("h2", {}, "Revenue after refunds by day"),
          currency ? lineChart("Revenue after refunds by day", labels, perDay.map((amount) => amount / 10 ** decimals(currency)), `${money(perDay.reduce((sum, amount) => sum + amount, 0), currency)} over ${days.length} days; ${currency} only`)
            : h("p", { class: "empty" }, "No revenue yet."))),
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", {}, "Orders per minute"),
          lineChart("Orders per minute", perMinute.map((_, index) => `${WINDOW_MINUTES - 1 - index} min`), perMinute, `The last ${WINDOW_MINUTES} minutes, counted since this page was opened`)),
        h("section", { class: "card" }, h("h2", {}, "Orders by status"), table("", [
          ["Status", ([status]) => badge(status)], ["Orders", ([, count]) => count, "number"],
        ], STATUSES.map((status) => [status, orders.by_status[status]])),
        Object.keys(orders.cancelled).length > 0 && h("p", { class: "help" }, "Cancelled: ",
          Object.entries(orders.cancelled).map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`).join(", ")))),
      isOperator && system && health(system));
  }

  function card(title, figure, more, color = "") {
    return h("div", { class: "card" }, h("div", { class: "soft" }, title), h("div", { class: `figure ${color === "bad" ? "error" : ""}` }, figure), h("div", { class: "help" }, more));
  }

  function health(system) {
    const state = (isGood, text) => badge(text, isGood ? "good" : "bad");
    const sync = (title, source) => source && [h("dt", {}, title), h("dd", {},
      source.report.error ? [badge("failed", "bad"), ` ${source.report.error}`] : badge(source.report.finished_at ? "completed" : "running", "good"), " ",
      time(source.report.finished_at), `, ${source.report.rows} rows, ${source.report.skipped_count} skipped, ${source.report.conflict_count} conflicts`)];
    return h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, "Health"), h("dl", {},
        h("dt", {}, "API gateway"), h("dd", {}, state(gateway.status === "ready", gateway.status)),
        h("dt", {}, "Broker"), h("dd", {}, state(gateway.broker === "ok", gateway.broker)),
        h("dt", {}, "Database"), h("dd", {}, state(!failed, failed ? "not responding" : "ok")),
        h("dt", {}, "Workers"), h("dd", {}, state(system.workers > 0, system.workers ?? "unknown"), h("span", { class: "help" }, ` reported by ${system.worker}`)),
        h("dt", {}, "Steps due"), h("dd", {}, system.due_steps, system.oldest_due_at && [", oldest due ", time(system.oldest_due_at)]),
        h("dt", {}, "Unpublished events"), h("dd", {}, system.outbox_lag),
        Object.entries(system.queues).map(([name, depth]) => [h("dt", { class: "mono" }, name), h("dd", {}, depth ?? "unknown", " messages")]),
        sync("Warehouse sync", system.warehouse), sync("Order import", system.import))),
      h("section", { class: "card" }, h("h2", {}, "Step durations"), Object.keys(system.steps).length
        ? table("Milliseconds from due to done; the last 1,000 steps of this worker", [
          ["Step", ([name]) => name.replaceAll("_", " ")], ["Succeeded", ([, statistics]) => statistics.done, "number"], ["Failed", ([, statistics]) => statistics.failed, "number"],
          ["p50", ([, statistics]) => statistics.p50_ms, "number"], ["p90", ([, statistics]) => statistics.p90_ms, "number"], ["p99", ([, statistics]) => statistics.p99_ms, "number"],
        ], Object.entries(system.steps))
        : h("p", { class: "empty" }, "No steps since this worker started.")));
  }

  await refresh();
  return { refresh, close: () => clearTimeout(timer), onEvent: (event) => { if (event.type === "order.created") created.push(Date.now()); } };
}
