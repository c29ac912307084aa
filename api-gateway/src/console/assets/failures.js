// The failures page: dead letters, steps that are being retried and failing webhook endpoints, each with its error,
// the recommended action and the buttons for it.

import { change, get, pagedList } from "./api.js";
import { showDialog, badge, empty, fill, h, problem, table, time, toast } from "./dom.js";

export async function open(root) {
  let timer = null;
  const selected = new Set(), list = h("div", {}), tools = h("div", { class: "actions" });
  const retryList = h("div", {}), endpointList = h("div", {});

  const deadLetters = pagedList("/v1/dead-letters", draw), retries = pagedList("/v1/retries", drawRetries);

  async function refresh() {
    timer = null;
    await Promise.all([retries.refresh(), loadEndpoints()]);
    await deadLetters.refresh();
  }

  function draw() {
    const { data: letters, next, failed } = deadLetters;
    for (const id of selected) if (!letters.some((letter) => letter.id === id)) selected.delete(id);
    const isAll = letters.length > 0 && selected.size === letters.length;
    fill(tools, h("span", { class: "soft", "aria-live": "polite" }, selected.size ? `${selected.size} selected` : letters.length ? "Redrive tries a failed step again, discard gives it up." : ""),
      h("button", { class: "main", disabled: !selected.size, onclick: () => act("redrive", [...selected]) }, "Redrive"),
      h("button", { class: "danger", disabled: !selected.size, onclick: () => act("discard", [...selected]) }, "Discard"),
      next && h("button", { id: "redrive-all", onclick: () => redriveAll("/v1/dead-letters/redrive", "Redrive all failed steps?", "Redrive all") }, "Redrive all failed steps"));
    const rows = table("Newest first", [
      [h("label", { class: "check" }, h("input", {
        type: "checkbox", id: "all", "aria-label": "Select all", checked: isAll, indeterminate: selected.size > 0 && !isAll,
        onchange: (event) => { selected.clear(); if (event.target.checked) letters.forEach((letter) => selected.add(letter.id)); draw(); },
      })), (letter) => h("input", {
        type: "checkbox", id: `choose-${letter.id}`, "aria-label": `Select ${letter.id}`, checked: selected.has(letter.id),
        onchange: (event) => { event.target.checked ? selected.add(letter.id) : selected.delete(letter.id); draw(); },
      })],
      ["Failed step or message", (letter) => letter.kind === "step"
        ? [badge(letter.step, "bad"), h("div", {}, "order ", h("a", { class: "mono", href: `#/orders/${letter.order_id}` }, letter.order_id))]
        : [badge(letter.type || "message", "bad"), h("div", { class: "help" }, `from ${letter.queue}`)]],
      ["Error", (letter) => [letter.reason, letter.kind === "message" && h("details", {}, h("summary", { class: "help" }, "Message body"), h("pre", {}, letter.body))]],
      ["What to do", (letter) => letter.advice ?? "Redrive sends the message to its queue again, unchanged. Discard it if it cannot be read."],
      ["Attempts", (letter) => letter.attempts ?? "–", "number"],
      ["Failed at", (letter) => time(letter.died_at)],
      ["Actions", (letter) => h("div", { class: "actions" },
        h("button", { id: `redrive-${letter.id}`, "aria-label": `Redrive ${letter.step ?? letter.type}`, onclick: () => act("redrive", [letter.id]) }, "Redrive"),
        h("button", { id: `discard-${letter.id}`, "aria-label": `Discard ${letter.step ?? letter.type}`, class: "danger", onclick: () => act("discard", [letter.id]) }, "Discard"))],
    ], letters, { key: (letter) => letter.id });
    fill(list, failed && problem(failed), letters.length ? rows : !failed && empty(retries.data.length ? "No permanent failures. The steps below are retried automatically." : "No failures."),
      next && h("p", {}, h("button", { id: "more", onclick: deadLetters.more }, "Load more")));
  }

  /** The failed steps that the worker retries automatically. */
  function drawRetries() {
    const { data: steps, next, failed } = retries;
    const rows = table("Oldest orders first", [
      ["Step", (retry) => [badge(retry.step, "warn"), h("div", {}, "order ", h("a", { class: "mono", href: `#/orders/${retry.order_id}` }, retry.order_id))]],
      ["Error", (retry) => retry.reason],
      ["Attempts", (retry) => retry.attempts, "number"],
      ["Next attempt", (retry) => time(retry.next_attempt_at)],
      ["Actions", (retry) => h("button", { id: `try-${retry.id}`, "aria-label": `Retry now: ${retry.step}`, onclick: () => retryNow(retry) }, "Retry now")],
    ], steps, { key: (retry) => retry.id });
    fill(retryList, failed && problem(failed), steps.length > 0 && h("section", { class: "card", "aria-label": "Retrying automatically" },
      h("div", { class: "bar" }, h("h2", {}, "Retrying automatically"), h("span", { class: "soft" }, `${steps.length}${next ? " and more" : ""}`),
        h("button", { id: "try-all", onclick: () => redriveAll("/v1/retries/redrive", "Retry all waiting steps now?", "Retry all now") }, "Retry all now")),
      rows, next && h("p", {}, h("button", { id: "more-retries", onclick: retries.more }, "Load more"))));
  }

  /** The webhook endpoints that are failing or were disabled after failures. */
  async function loadEndpoints() {
    try {
      const { data } = await get("/v1/webhook-endpoints?limit=200");
      const failing = data.filter((endpoint) => endpoint.disabled_reason || (endpoint.is_enabled && endpoint.failing_since));
      const rows = table("Webhook endpoints", [
        ["Endpoint URL", (endpoint) => [h("span", { class: "mono" }, endpoint.url), endpoint.description && h("div", { class: "help" }, endpoint.description)]],
        ["Status", (endpoint) => endpoint.is_enabled ? [badge("failing", "warn"), h("div", { class: "help" }, "since ", time(endpoint.failing_since))] : badge("disabled", "bad")],
        ["What to do", (endpoint) => endpoint.is_enabled
          ? "Ask the endpoint's owner to fix it. Its deliveries are kept and sent as soon as it accepts one again. After a day of failures it is disabled."
          : "Ask the endpoint's owner to fix it, then enable it on the Webhooks page. Events missed while it was disabled are not sent; the receiver can read them from the event feed."],
        ["Actions", () => h("a", { class: "button", href: "#/webhooks" }, "Go to Webhooks")],
      ], failing, { key: (endpoint) => endpoint.id });
      fill(endpointList, failing.length > 0 && h("section", { class: "card", "aria-label": "Failing endpoints" }, h("h2", {}, "Failing endpoints"), rows));
    } catch (failure) {
      fill(endpointList, problem(failure));
    }
  }

  async function retryNow(step) {
    try {
      await change("POST", `/v1/retries/${encodeURIComponent(step.id)}/redrive`, {}, { intent: "redrive" });
      toast("Retry started.");
    } catch (failure) {
      toast(failure.message, "bad");
    }
    refresh();
  }

  async function redriveAll(path, title, submitLabel) {
    let redriven = 0;
    const finished = await showDialog({
      title, submitLabel,
      text: "Every step is attempted now and gets its full number of retries again. Nothing that a provider has already done is done twice.",
      act: async () => {
        let cursor;
        do {
          const result = await change("POST", path, { all: true, cursor }, { intent: "redrive_all" });
          redriven += result.redriven;
          cursor = result.next_cursor ?? undefined;
        } while (cursor);
      },
    });
    if (finished) toast(`${redriven === 1 ? "1 step" : `${redriven} steps`} redriven.`);
    refresh();
  }

  async function act(verb, ids) {
    const isDiscard = verb === "discard";
    const letter = deadLetters.data.find(({ id }) => id === ids[0]);
    let doneCount = 0;
    const finished = await showDialog({
      title: `${isDiscard ? "Discard" : "Redrive"} ${ids.length === 1 ? letter.step ?? letter.type ?? "this message" : `${ids.length} failures`}?`, submitLabel: isDiscard ? "Discard" : "Redrive", isDanger: isDiscard,
      text: isDiscard
        ? "It is never attempted again; this cannot be undone. Discard only what was settled by other means. The amount of a discarded capture or refund is written off: it is no longer captured or refunded automatically."
        : "It is attempted now and gets its full number of retries again. Nothing that a provider has already done is done twice.",
      act: async () => {
        for (const id of ids) {
          await change("POST", `/v1/dead-letters/${encodeURIComponent(id)}/${verb}`, {}, { intent: verb });
          selected.delete(id);
          doneCount += 1;
        }
      },
    });
    if (finished) toast(`${doneCount} ${isDiscard ? "discarded" : "redriven"}.`);
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Failures"), tools), h("section", { class: "card", "aria-label": "Dead letters" }, list), retryList, endpointList);
  await refresh();
  // A successful retry has no event of its own, so any event can change the list of retries.
  const isRelevant = (event) => event.type.startsWith("step.") || event.type.startsWith("webhook_endpoint.") || retries.data.length > 0;
  return { refresh, close: () => clearTimeout(timer), onEvent: (event) => { if (isRelevant(event)) timer ??= setTimeout(refresh, 700); } };
}
