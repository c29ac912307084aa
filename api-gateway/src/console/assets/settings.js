// Settings: the effective configuration, versions, connected systems, and the state of the system. Read-only: values
// come from environment variables.

import { get } from "./api.js";
import { badge, fill, h, problem, relative, table, time } from "./dom.js";
import { name, number, plural, t } from "./i18n.js";

const TABS = [["configuration", t("Configuration")], ["partners", t("Connected systems")], ["system", t("System")]];
const REFRESH_MS = 10_000;

/** Titles of connected systems, and the variable that configures each. */
const PARTNERS = {
  payment_provider: [t("Payment provider"), "PAYMENT_PROVIDER"], carrier: [t("Carrier"), "CARRIER"],
  warehouse: [t("External warehouse"), "WAREHOUSE_URL"], import: [t("Order import"), "IMPORT_URL"],
  mail_server: [t("Mail server"), "SMTP_URL"], webhooks: [t("Webhook endpoints"), null],
  media_storage: [t("Storage of photos"), "MEDIA_URL"],
};

export async function open(root, { parameters }) {
  const asked = parameters.get("tab");
  const tab = TABS.some(([known]) => known === asked) ? asked : "configuration";
  let settings, stats, gateway, failed = null, timer = null, filter = "", isClosed = false;

  async function refresh() {
    clearTimeout(timer);
    try {
      [settings, stats, gateway] = await Promise.all([
        get("/v1/settings"), tab === "system" ? get("/v1/stats?days=1") : null,
        tab === "system" ? get("/readyz").catch((failure) => ({ status: "not ready", broker: failure.message })) : null,
      ]);
      failed = null;
    } catch (failure) {
      failed = failure;
    }
    if (isClosed) return;
    draw();
    // The configuration changes with a restart only.
    if (tab !== "configuration") timer = setTimeout(refresh, REFRESH_MS);
  }

  function draw() {
    const tabs = h("nav", { class: "tabs", "aria-label": t("Sections of the settings") },
      TABS.map(([known, title]) => h("a", { href: `#/settings?tab=${known}`, id: `tab-${known}`, "aria-current": known === tab ? "page" : undefined }, title)));
    const content = { configuration, partners, system }[tab];
    fill(root, h("h1", {}, t("Settings")), tabs, failed && problem(failed), settings && content());
  }

  function configuration() {
    const lists = h("div", { id: "variables" });
    const field = h("input", { type: "search", id: "variable", value: filter, oninput: () => { filter = field.value; fillLists(); } });
    const matches = (setting) => `${setting.name} ${setting.description}`.toLowerCase().includes(filter.trim().toLowerCase());
    const fillLists = () => fill(lists, [
      [t("Gateway"), settings.gateway], [t("Worker {name}", { name: settings.worker.name }), settings.worker],
    ].map(([title, program]) => {
      const found = program.settings.filter(matches);
      return h("section", { class: "card" }, h("h2", {}, title),
        table(t("Version {version}, started {time}", { version: program.version, time: relative(program.started_at) }), [
          [t("Variable"), (setting) => h("span", { class: "mono" }, setting.name)],
          [t("Value"), value],
          [t("Source"), (setting) => name(setting.source)],
          [t("Meaning"), (setting) => h("span", { class: "help", lang: "en" }, setting.description)],
        ], found),
        found.length === 0 && h("p", { class: "empty" }, t("No variable matches.")));
    }));
    fillLists();
    return [
      h("p", { class: "soft" }, t("The effective configuration. It comes from environment variables and changes with a restart; secrets are not shown.")),
      h("div", { class: "bar" }, h("label", {}, t("Filter variables"), field)), lists,
    ];
  }

  function value(setting) {
    if (setting.value !== null) return h("span", { class: "mono" }, setting.value);
    if (!setting.is_secret) return h("span", { class: "soft" }, t("not set"));
    return setting.source === "default" ? h("span", { class: "soft" }, t("not set")) : badge(t("set"), "good");
  }

  function partners() {
    const all = [...settings.worker.partners, ...settings.gateway.partners];
    return [
      h("p", { class: "soft" }, t("The last calls that this gateway and one of the workers have made since they started. For external lists, the last call of any worker.")),
      h("section", { class: "card" }, h("h2", {}, t("Connected systems")), table(plural(all.filter(({ name: known }) => known).length, "1 system", "{count} systems"), [
        [t("System"), ({ kind }) => PARTNERS[kind]?.[0] ?? name(kind)],
        [t("Connected to"), ({ kind, name: known }) => (known ? connection(kind, known) : h("span", { class: "soft" }, t("not configured")))],
        [t("State"), state],
        [t("Last successful call"), ({ last_success_at: at }) => relative(at)],
        [t("Last failure"), ({ last_failure_at: at, last_error: error }) => [relative(at), error && h("div", { class: "help", lang: "en" }, error)]],
      ], all)),
    ];
  }

  function connection(kind, known) {
    if (kind === "webhooks") return h("a", { href: "#/webhooks" }, t("see Webhooks"));
    const variable = PARTNERS[kind]?.[1];
    const setting = [...settings.worker.settings, ...settings.gateway.settings].find((one) => one.name === variable);
    return h("span", { class: "mono" }, setting?.value && setting.value !== known ? `${known}: ${setting.value}` : known);
  }

  function state({ name: known, last_success_at: success, last_failure_at: failure }) {
    if (!known) return h("span", { class: "soft" }, "–");
    if (!success && !failure) return badge(t("not called yet"));
    return !failure || (success && success > failure) ? badge(t("works"), "good") : badge(t("fails"), "bad");
  }

  function system() {
    const { system: state } = stats;
    const good = (isGood, text) => badge(text, isGood ? "good" : "bad");
    const { database } = settings.worker;
    const broker = settings.gateway.settings.find((setting) => setting.name === "AMQP_URL");
    const list = (title, source) => source && [h("dt", {}, title), h("dd", {},
      source.report.error ? [badge("failed", "bad"), " ", h("span", { lang: "en" }, source.report.error)] : badge(source.report.finished_at ? t("completed") : t("running"), "good"), " ",
      time(source.report.finished_at), ", ", t("{rows} rows, {skipped} skipped, {conflicts} conflicts", { rows: number(source.report.rows), skipped: number(source.report.skipped_count), conflicts: number(source.report.conflict_count) }))];
    return h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, t("Health")), h("dl", {},
        h("dt", {}, t("Gateway")), h("dd", {}, good(gateway.status === "ready", name(gateway.status)), " ", t("version {version}", { version: settings.gateway.version })),
        h("dt", {}, t("Worker")), h("dd", {}, settings.worker.name, ", ", t("version {version}", { version: settings.worker.version })),
        h("dt", {}, t("Workers")), h("dd", {}, good(state.workers > 0, state.workers === null ? t("unknown") : number(state.workers))),
        h("dt", {}, t("Database")), h("dd", {}, good(!failed, failed ? t("not responding") : t("works")), " ",
          { sqlite: "SQLite", postgres: "PostgreSQL" }[database.kind], ` ${database.version}, `, t("schema {version}", { version: database.schema_version })),
        h("dt", {}, t("Broker")), h("dd", {}, good(gateway.broker === "ok", gateway.broker === "ok" ? t("works") : gateway.broker), " ", h("span", { class: "mono" }, broker?.value)),
        h("dt", {}, t("Due steps")), h("dd", {}, number(state.due_steps), state.oldest_due_at && [", ", t("the oldest was due {time}", { time: relative(state.oldest_due_at) })]),
        h("dt", {}, t("Steps being retried")), h("dd", {}, number(state.retries)),
        h("dt", {}, t("Unpublished events")), h("dd", {}, number(state.outbox_lag)),
        Object.entries(state.queues).map(([queue, depth]) => [h("dt", { class: "mono" }, queue), h("dd", {}, depth === null ? t("unknown") : plural(depth, "1 message", "{count} messages"))]),
        list(t("External warehouse"), state.warehouse), list(t("Order import"), state.import))),
      h("section", { class: "card" }, h("h2", {}, t("Step durations")), Object.keys(state.steps).length
        ? table(t("Counts since this worker started; milliseconds from due to completed, of its last 1,000 steps of each kind"), [
          [t("Step"), ([step]) => name(step)], [t("Completed steps"), ([, steps]) => number(steps.done), "number"], [t("Failed attempts"), ([, steps]) => number(steps.failed), "number"],
          ["p50", ([, steps]) => number(steps.p50_ms), "number"], ["p90", ([, steps]) => number(steps.p90_ms), "number"], ["p99", ([, steps]) => number(steps.p99_ms), "number"],
        ], Object.entries(state.steps))
        : h("p", { class: "empty" }, t("No steps since this worker started."))));
  }

  await refresh();
  return { refresh, close: () => { isClosed = true; clearTimeout(timer); } };
}
