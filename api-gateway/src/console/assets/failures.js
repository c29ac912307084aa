// The failures page: dead letters, steps that are being retried and failing webhook endpoints, each with its error,
// the recommended action and the buttons for it.

import { change, get, pagedList, query } from "./api.js";
import { badge, fill, h, problem, relative, showDialog, table, toast } from "./dom.js";
import { changeAll, redriveAll } from "./failure_actions.js";
import { name, number, plural, t } from "./i18n.js";
import { openList } from "./list.js";
import { endpointState } from "./webhooks.js";

/** Kinds of steps that can fail for good. */
const STEPS = ["authorize_payment", "capture_payment", "void_payment", "refund_payment", "check_payment", "request_shipment",
  "cancel_shipment", "reserve_stock", "authorize_edit", "void_authorization", "expire_order", "expire_edit"];

/** The name of a step without the part after a colon, which distinguishes steps of a kind. */
export const stepName = (step) => name(step.split(":")[0]);

/** The number of an order in the search: "12" or "#12"; anything else finds no order. */
const orderNumber = (text) => (text ? /^#?(\d{1,18})$/.exec(text)?.[1] ?? "999999999999999999" : "");

const orderLink = (step) => h("div", {}, t("order {link}", { link: h("a", { href: `#/orders/${step.order_id}` }, `#${step.order_number}`) }));

export async function open(root, { parameters }) {
  let timer = null, retries = null;
  const selected = new Set(), tools = h("div", { class: "actions" });
  const retryList = h("div", {}), endpointList = h("div", {});

  const opened = await openList(root, parameters, {
    screen: "failures", path: "/v1/dead-letters", title: t("Failures"), label: t("Dead letters"), actions: tools,
    search: { label: t("Order number"), placeholder: t("For example 1042") },
    tabs: { name: "kind", label: t("Kind"), options: [["", t("All")], ["step", t("Steps")], ["message", t("Broker messages")]] },
    filters: [{ name: "step", label: t("Step"), options: [["", t("All")], ...STEPS.map((step) => [step, name(step)])] }],
    toParameters: ({ q, ...values }) => ({ ...values, number: orderNumber(q) }),
    rows: (letters) => deadLetterTable(letters),
    noEntries: t("No failures. Steps that fail once are retried automatically."),
    more: [retryList, endpointList],
    onDraw: (list) => { drawTools(list); loadRetries(list.values); },
  });
  await loadEndpoints();

  function deadLetterTable(letters) {
    const isAll = letters.length > 0 && letters.every(({ id }) => selected.has(id));
    return table(t("Newest first"), [
      [h("label", { class: "check" }, h("input", {
        type: "checkbox", id: "all", "aria-label": t("Select all"), checked: isAll, indeterminate: selected.size > 0 && !isAll,
        onchange: (event) => select(letters.map(({ id }) => id), event.target.checked),
      })), (letter) => h("input", {
        type: "checkbox", id: `choose-${letter.id}`, "aria-label": t("Select {name}", { name: letterName(letter) }), checked: selected.has(letter.id),
        onchange: (event) => select([letter.id], event.target.checked),
      })],
      [t("Failed step or message"), (letter) => letter.kind === "step"
        ? [badge(stepName(letter.step), "bad"), orderLink(letter)]
        : [badge(letter.type || t("message"), "bad"), h("div", { class: "help" }, t("from {queue}", letter))]],
      [t("Reason"), (letter) => [letter.reason, letter.kind === "message" && h("details", { id: `body-${letter.id}` }, h("summary", { class: "help" }, t("Message body")), h("pre", {}, letter.body))]],
      [t("What to do"), (letter) => letter.advice ?? t("Redrive sends the message to its queue again, unchanged. Discard it if it can never be used.")],
      [t("Attempts"), (letter) => letter.attempts ?? "–", "number"],
      [t("Failed"), (letter) => relative(letter.died_at)],
      [t("Actions"), (letter) => h("div", { class: "actions" },
        h("button", { id: `redrive-${letter.id}`, "aria-label": t("Redrive {name}", { name: letterName(letter) }), onclick: () => act("redrive", [letter]) }, t("Redrive")),
        h("button", { id: `discard-${letter.id}`, "aria-label": t("Discard {name}", { name: letterName(letter) }), class: "danger", onclick: () => act("discard", [letter]) }, t("Discard")))],
    ], letters, { key: (letter) => letter.id });
  }

  function select(ids, isSelected) {
    for (const id of ids) isSelected ? selected.add(id) : selected.delete(id);
    const card = document.getElementById("all");
    const { entries } = opened.list;
    if (card) {
      card.checked = entries.every(({ id }) => selected.has(id));
      card.indeterminate = selected.size > 0 && !card.checked;
    }
    for (const { id } of entries) {
      const box = document.getElementById(`choose-${id}`);
      if (box) box.checked = selected.has(id);
    }
    drawTools(opened.list);
  }

  function drawTools(list) {
    const shown = list.entries.filter(({ id }) => selected.has(id));
    selected.clear();
    shown.forEach(({ id }) => selected.add(id));
    const hint = shown.length ? plural(shown.length, "{count} selected", "{count} selected")
      : list.entries.length ? t("Redrive tries a failed step again, discard gives it up.") : "";
    fill(tools, h("span", { class: "soft", "aria-live": "polite" }, hint),
      h("button", { class: "main", id: "redrive", disabled: !shown.length, onclick: () => act("redrive", shown) }, t("Redrive")),
      h("button", { class: "danger", id: "discard", disabled: !shown.length, onclick: () => act("discard", shown) }, t("Discard")),
      list.next && [
        h("button", { id: "redrive-all", onclick: () => redriveEverything("/v1/dead-letters/redrive") }, t("Redrive all failed steps")),
        h("button", { id: "discard-all", class: "danger", onclick: discardAll }, t("Discard all that match"))]);
  }

  async function act(verb, letters) {
    const isDiscard = verb === "discard";
    const subject = letters.length === 1 ? letterName(letters[0]) : plural(letters.length, "{count} failure", "{count} failures");
    let doneCount = 0;
    const finished = await showDialog({
      title: isDiscard ? t("Discard {name}?", { name: subject }) : t("Redrive {name}?", { name: subject }), submitLabel: isDiscard ? t("Discard") : t("Redrive"), isDanger: isDiscard,
      text: isDiscard ? discardText() : t("It is attempted now and gets its full number of retries again. Nothing that a provider has already done is done twice."),
      act: () => changeAll(verb, letters, (letter) => { selected.delete(letter.id); doneCount += 1; }),
    });
    const count = number(doneCount);
    if (finished) toast(isDiscard ? t("{count} discarded.", { count }) : t("{count} redriven.", { count }));
    await refresh();
  }

  /** Discards everything that the search and filters find, page by page. */
  async function discardAll() {
    let doneCount = 0;
    const { q, ...values } = opened.list.values;
    const finished = await showDialog({
      title: t("Discard all that match the search and filters?"), submitLabel: t("Discard all"), isDanger: true, text: discardText(),
      act: async () => {
        for (;;) {
          const { data } = await get(query("/v1/dead-letters", { ...values, number: orderNumber(q), limit: 200 }));
          if (data.length === 0) return;
          await changeAll("discard", data, () => { doneCount += 1; });
        }
      },
    });
    if (finished) toast(t("{count} discarded.", { count: number(doneCount) }));
    await refresh();
  }

  async function redriveEverything(path) {
    await redriveAll(path, opened.list.values.step);
    await refresh();
  }

  /** Loads the failed steps that the worker retries automatically, by the same search and filters. */
  async function loadRetries({ q, step, kind }) {
    const filter = { number: orderNumber(q), step };
    if (kind === "message") return fill(retryList);
    if (JSON.stringify(retries?.filter) !== JSON.stringify(filter)) retries = Object.assign(pagedList("/v1/retries", drawRetries, filter), { filter });
    await retries.refresh();
  }

  function drawRetries() {
    const { data: steps, next, failed } = retries;
    const rows = table(t("Oldest orders first"), [
      [t("Step"), (retry) => [badge(stepName(retry.step), "warn"), orderLink(retry)]],
      [t("Reason"), (retry) => retry.reason],
      [t("Attempts"), (retry) => retry.attempts, "number"],
      [t("Next attempt"), (retry) => relative(retry.next_attempt_at)],
      [t("Actions"), (retry) => h("button", { id: `try-${retry.id}`, "aria-label": t("Retry now: {name}", { name: stepName(retry.step) }), onclick: () => retryNow(retry) }, t("Retry now"))],
    ], steps, { key: (retry) => retry.id });
    const count = number(steps.length);
    fill(retryList, failed && problem(failed), steps.length > 0 && h("section", { class: "card", "aria-label": t("Retrying automatically") },
      h("div", { class: "bar" }, h("h2", {}, t("Retrying automatically")), h("span", { class: "soft" }, next ? t("{count} and more", { count }) : count),
        h("button", { id: "try-all", onclick: () => redriveEverything("/v1/retries/redrive") }, t("Retry all now"))),
      rows, next && h("p", {}, h("button", { id: "more-retries", onclick: retries.more }, t("Load more")))));
  }

  /** The webhook endpoints that are failing or were disabled after failures. */
  async function loadEndpoints() {
    try {
      const { data } = await get("/v1/webhook-endpoints?limit=200");
      const failing = data.filter((endpoint) => endpoint.disabled_reason || (endpoint.is_enabled && endpoint.failing_since));
      const rows = table(t("Webhook endpoints"), [
        [t("Endpoint URL"), (endpoint) => [h("a", { class: "mono", href: `#/webhooks/${endpoint.id}` }, endpoint.url), endpoint.description && h("div", { class: "help" }, endpoint.description)]],
        [t("Status"), endpointState],
        [t("What to do"), (endpoint) => endpoint.is_enabled
          ? t("Ask the endpoint's owner to fix it. Its deliveries are kept and sent as soon as it accepts one again. After a day of failures it is disabled.")
          : t("Ask the endpoint's owner to fix it, then enable it on its page. Events missed while it was disabled are not sent; the receiver can read them from the event feed.")],
      ], failing, { key: (endpoint) => endpoint.id });
      fill(endpointList, failing.length > 0 && h("section", { class: "card", "aria-label": t("Failing endpoints") }, h("h2", {}, t("Failing endpoints")), rows));
    } catch (failure) {
      fill(endpointList, problem(failure));
    }
  }

  async function retryNow(step) {
    try {
      await change("POST", `/v1/retries/${encodeURIComponent(step.id)}/redrive`, {}, { intent: "redrive" });
      toast(t("Retry started."));
    } catch (failure) {
      toast(failure.message, "bad");
    }
    await refresh();
  }

  async function refresh() {
    timer = null;
    await Promise.all([opened.refresh(), loadEndpoints()]);
  }

  // A successful retry has no event of its own, so any event can change the list of retries.
  const isRelevant = (event) => event.type.startsWith("step.") || event.type.startsWith("webhook_endpoint.") || retries?.data.length > 0;
  return {
    refresh,
    close: () => { clearTimeout(timer); opened.close(); },
    onEvent: (event) => { if (isRelevant(event)) timer ??= setTimeout(refresh, 700); },
  };
}

const letterName = (letter) => (letter.kind === "step" ? t("{step} of order {number}", { step: stepName(letter.step), number: letter.order_number }) : letter.type || t("this message"));

const discardText = () => t("It is never attempted again; this cannot be undone. Discard only what was settled by other means. The amount of a discarded capture or refund is written off: it is no longer captured or refunded automatically.");
