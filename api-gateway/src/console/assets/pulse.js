// How it goes: orders, money, and the system itself.

import { get } from "./api.js";
import { bars, line } from "./charts.js";
import { badge, fill, h, money, problem, table, time } from "./dom.js";

const STATUSES = ["pending", "processing", "shipped", "delivered", "cancelled"];
const EVERY_MS = 5000;
const MINUTE = 60_000;
const WINDOW = 10;

export async function open(root, { operates }) {
  let stats, gateway, timer = null, failed = null;
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
    timer = setTimeout(refresh, EVERY_MS);
  }

  /** Orders of each of the last minutes, as they were heard of here. */
  function minutes() {
    const now = Date.now();
    const counts = Array(WINDOW).fill(0);
    for (const at of created) {
      const ago = Math.floor((now - at) / MINUTE);
      if (ago < WINDOW) counts[WINDOW - 1 - ago] += 1;
    }
    return counts;
  }

  function draw() {
    if (!stats) return fill(root, h("h1", {}, "Pulse"), failed && problem(failed));
    const { orders, days, revenue, system } = stats;
    const labels = days.map((day) => day.day.slice(5));
    const currency = revenue[0]?.currency;
    const perDay = days.map((day) => day.revenue.find((one) => one.currency === currency)?.net ?? 0);
    const digits = currency ? new Intl.NumberFormat(undefined, { style: "currency", currency }).resolvedOptions().maximumFractionDigits : 2;
    const perMinute = minutes();
    fill(root, h("h1", {}, "Pulse"), failed && problem(failed),
      h("div", { class: "cards" },
        card("Orders", orders.total, `${orders.new} new, ${orders.processed} processed, ${orders.failed} failed`),
        card("Orders in the last minute", perMinute.at(-1), "as heard of by this page"),
        card("Taken, less what was given back", revenue.length ? revenue.map((one) => money(one.net, one.currency)).join(", ") : "–", "since the beginning"),
        system && card("Stuck", system.dead_letters, system.dead_letters || system.retries
          ? [system.retries > 0 && `${system.retries}${system.retries < 10000 ? "" : " or more"} being tried again; `, h("a", { href: "#/stuck" }, "See to it")] : "nothing", system.dead_letters ? "bad" : "")),
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", {}, "Orders by day"),
          bars("Orders by day", labels, days.map((day) => day.created), days.map((day) => day.cancelled), ["came", "cancelled"])),
        h("section", { class: "card" }, h("h2", {}, "Revenue by day"),
          currency ? line("Revenue by day", labels, perDay.map((amount) => amount / 10 ** digits), `In ${currency}: ${money(perDay.reduce((all, one) => all + one, 0), currency)} in ${days.length} days`)
            : h("p", { class: "empty" }, "Nothing was taken yet."))),
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", {}, "Orders a minute"),
          line("Orders a minute", perMinute.map((_, index) => `${WINDOW - 1 - index} min`), perMinute, `The last ${WINDOW} minutes, since this page is open`)),
        h("section", { class: "card" }, h("h2", {}, "Where orders stand"), table("", [
          ["Status", ([status]) => badge(status)], ["Orders", ([, count]) => count, "number"],
        ], STATUSES.map((status) => [status, orders.by_status[status]])),
        Object.keys(orders.cancelled).length > 0 && h("p", { class: "help" }, "Cancelled: ",
          Object.entries(orders.cancelled).map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`).join(", ")))),
      operates && system && health(system));
  }

  function card(title, figure, more, mood = "") {
    return h("div", { class: "card" }, h("div", { class: "soft" }, title), h("div", { class: `figure ${mood === "bad" ? "error" : ""}` }, figure), h("div", { class: "help" }, more));
  }

  function health(system) {
    const word = (isGood, text) => badge(text, isGood ? "good" : "bad");
    const report = (title, state) => state && [h("dt", {}, title), h("dd", {},
      state.report.error ? [badge("failed", "bad"), ` ${state.report.error}`] : badge(state.report.finished_at ? "read" : "is read", "good"), " ",
      time(state.report.finished_at), `, ${state.report.rows} rows, ${state.report.skipped_count} skipped, ${state.report.conflict_count} conflicts`)];
    return h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, "Health"), h("dl", {},
        h("dt", {}, "Gateway"), h("dd", {}, word(gateway.status === "ready", gateway.status)),
        h("dt", {}, "Broker"), h("dd", {}, word(gateway.broker === "ok", gateway.broker)),
        h("dt", {}, "Database"), h("dd", {}, word(!failed, failed ? "does not answer" : "ok")),
        h("dt", {}, "Workers"), h("dd", {}, word(system.workers > 0, system.workers ?? "unknown"), h("span", { class: "help" }, ` this was told by ${system.worker}`)),
        h("dt", {}, "Steps due"), h("dd", {}, system.due_steps, system.oldest_due_at && [", the oldest since ", time(system.oldest_due_at)]),
        h("dt", {}, "Events to be published"), h("dd", {}, system.outbox_lag),
        Object.entries(system.queues).map(([name, depth]) => [h("dt", { class: "mono" }, name), h("dd", {}, depth ?? "unknown", " waiting")]),
        report("Warehouse", system.warehouse), report("Other system's orders", system.import))),
      h("section", { class: "card" }, h("h2", {}, "What steps took"), Object.keys(system.steps).length
        ? table("Milliseconds from due to done, the last thousand of this worker", [
          ["Step", ([name]) => name.replaceAll("_", " ")], ["Done", ([, one]) => one.done, "number"], ["Failed", ([, one]) => one.failed, "number"],
          ["Half", ([, one]) => one.p50_ms, "number"], ["90 %", ([, one]) => one.p90_ms, "number"], ["99 %", ([, one]) => one.p99_ms, "number"],
        ], Object.entries(system.steps))
        : h("p", { class: "empty" }, "None since this worker started.")));
  }

  await refresh();
  return { refresh, leave: () => clearTimeout(timer), take: (event) => { if (event.type === "order.created") created.push(Date.now()); } };
}
