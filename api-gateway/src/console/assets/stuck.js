// What could not be done, or not yet: why, since when, what can be done about it, and the button for that.

import { change, get, pages } from "./api.js";
import { ask, badge, empty, fill, h, problem, table, time, toast } from "./dom.js";

export async function open(root) {
  let timer = null;
  const chosen = new Set(), list = h("div", {}), tools = h("div", { class: "actions" });
  const again = h("div", {}), silent = h("div", {});

  const found = pages("/v1/dead-letters", draw), retries = pages("/v1/retries", drawRetries);

  async function refresh() {
    timer = null;
    await Promise.all([retries.refresh(), lookAtEndpoints()]);
    await found.refresh();
  }

  function draw() {
    const { data: letters, next, failed } = found;
    for (const id of chosen) if (!letters.some((letter) => letter.id === id)) chosen.delete(id);
    const isAll = letters.length > 0 && chosen.size === letters.length;
    fill(tools, h("span", { class: "soft", "aria-live": "polite" }, chosen.size ? `${chosen.size} chosen` : ""),
      h("button", { class: "main", disabled: !chosen.size, onclick: () => act("redrive", [...chosen]) }, "Redrive"),
      h("button", { class: "danger", disabled: !chosen.size, onclick: () => act("discard", [...chosen]) }, "Discard"),
      next && h("button", { id: "redrive-all", onclick: () => redriveAll("/v1/dead-letters/redrive", "all dead steps") }, "Redrive all steps"));
    const rows = table("The latest first", [
      [h("label", { class: "check" }, h("input", {
        type: "checkbox", id: "all", "aria-label": "Choose all", checked: isAll, indeterminate: chosen.size > 0 && !isAll,
        onchange: (event) => { chosen.clear(); if (event.target.checked) letters.forEach((letter) => chosen.add(letter.id)); draw(); },
      })), (letter) => h("input", {
        type: "checkbox", id: `choose-${letter.id}`, "aria-label": `Choose ${letter.id}`, checked: chosen.has(letter.id),
        onchange: (event) => { event.target.checked ? chosen.add(letter.id) : chosen.delete(letter.id); draw(); },
      })],
      ["What", (letter) => letter.kind === "step"
        ? [badge(letter.step, "bad"), h("div", {}, "of ", h("a", { class: "mono", href: `#/orders/${letter.order_id}` }, letter.order_id))]
        : [badge(letter.type || "message", "bad"), h("div", { class: "help" }, `from ${letter.queue}`)]],
      ["Why", (letter) => [letter.reason, letter.kind === "message" && h("details", {}, h("summary", { class: "help" }, "the message"), h("pre", {}, letter.body))]],
      ["What to do", (letter) => letter.advice ?? "Redrive sends it again as it came. If it can't be read, discard it."],
      ["Attempts", (letter) => letter.attempts ?? "–", "number"],
      ["Since", (letter) => time(letter.died_at)],
      ["Actions", (letter) => h("div", { class: "actions" },
        h("button", { id: `redrive-${letter.id}`, "aria-label": `Redrive ${letter.step ?? letter.type}`, onclick: () => act("redrive", [letter.id]) }, "Redrive"),
        h("button", { id: `discard-${letter.id}`, "aria-label": `Discard ${letter.step ?? letter.type}`, class: "danger", onclick: () => act("discard", [letter.id]) }, "Discard"))],
    ], letters, { key: (letter) => letter.id });
    fill(list, failed && problem(failed), letters.length ? rows : !failed && empty(retries.data.length ? "Nothing was given up." : "Nothing is stuck."),
      next && h("p", {}, h("button", { id: "more", onclick: found.more }, "More")));
  }

  /** What the worker goes on trying by itself. */
  function drawRetries() {
    const { data: steps, next, failed } = retries;
    const rows = table("The oldest orders first", [
      ["What", (one) => [badge(one.step, "warn"), h("div", {}, "of ", h("a", { class: "mono", href: `#/orders/${one.order_id}` }, one.order_id))]],
      ["Why", (one) => one.reason],
      ["Attempts", (one) => one.attempts, "number"],
      ["Tried again", (one) => time(one.next_attempt_at)],
      ["Actions", (one) => h("button", { id: `try-${one.id}`, "aria-label": `Try ${one.step} now`, onclick: () => tryNow(one) }, "Try now")],
    ], steps, { key: (one) => one.id });
    fill(again, failed && problem(failed), steps.length > 0 && h("section", { class: "card", "aria-label": "Being tried again" },
      h("div", { class: "bar" }, h("h2", {}, "Being tried again"), h("span", { class: "soft" }, `${steps.length}${next ? " and more" : ""}`),
        h("button", { id: "try-all", onclick: () => redriveAll("/v1/retries/redrive", "all of these") }, "Try all now")),
      rows, next && h("p", {}, h("button", { id: "more-retries", onclick: retries.more }, "More"))));
  }

  /** Who is to be told of events, and takes nothing. */
  async function lookAtEndpoints() {
    try {
      const { data } = await get("/v1/webhook-endpoints?limit=200");
      const failing = data.filter((one) => one.disabled_reason || (one.is_enabled && one.failing_since));
      const rows = table("Webhook endpoints", [
        ["URL", (one) => [h("span", { class: "mono" }, one.url), one.description && h("div", { class: "help" }, one.description)]],
        ["State", (one) => one.is_enabled ? [badge("failing", "warn"), h("div", { class: "help" }, "since ", time(one.failing_since))] : badge("disabled", "bad")],
        ["What to do", (one) => one.is_enabled
          ? "Tell its owner. What is due for it waits, and follows at once when it takes something; after a day it is disabled."
          : "Tell its owner, then enable it. What happened in between is not told: it is in the feed."],
        ["Actions", () => h("a", { class: "button", href: "#/webhooks" }, "What it was told")],
      ], failing, { key: (one) => one.id });
      fill(silent, failing.length > 0 && h("section", { class: "card", "aria-label": "Told, and take nothing" }, h("h2", {}, "Told, and take nothing"), rows));
    } catch (failure) {
      fill(silent, problem(failure));
    }
  }

  async function tryNow(step) {
    try {
      await change("POST", `/v1/retries/${encodeURIComponent(step.id)}/redrive`, {}, { intent: "redrive" });
      toast("It is tried now.");
    } catch (failure) {
      toast(failure.message, "bad");
    }
    refresh();
  }

  async function redriveAll(path, which) {
    let redriven = 0;
    const finished = await ask({
      title: `Try ${which} now?`, yes: "Try now",
      text: "Each is tried at once, with all of its retries before it. What a partner has done already is not done again.",
      act: async () => {
        let cursor;
        do {
          const told = await change("POST", path, { all: true, cursor }, { intent: "redrive_all" });
          redriven += told.redriven;
          cursor = told.next_cursor ?? undefined;
        } while (cursor);
      },
    });
    if (finished) toast(`${redriven} redriven.`);
    refresh();
  }

  async function act(verb, ids) {
    const isDiscard = verb === "discard";
    let done = 0;
    const finished = await ask({
      title: `${isDiscard ? "Discard" : "Redrive"} ${ids.length === 1 ? "this" : `these ${ids.length}`}?`, yes: isDiscard ? "Discard" : "Redrive", isDanger: isDiscard,
      text: isDiscard
        ? "Nobody will try again. Do this when what it was for was done by hand; if money hangs on it, order-worker verify goes on to name it."
        : "It is tried again now, with all of its retries before it. What a partner has done already is not done again.",
      act: async () => {
        for (const id of ids) {
          await change("POST", `/v1/dead-letters/${encodeURIComponent(id)}/${verb}`, {}, { intent: verb });
          chosen.delete(id);
          done += 1;
        }
      },
    });
    if (finished) toast(`${done} ${isDiscard ? "discarded" : "redriven"}.`);
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Stuck and dead"), tools), h("section", { class: "card", "aria-label": "Stuck and dead" }, list), again, silent);
  await refresh();
  // A step that was tried again with success says so as what it has done.
  const concerns = (event) => event.type.startsWith("step.") || event.type.startsWith("webhook_endpoint.") || retries.data.length > 0;
  return { refresh, leave: () => clearTimeout(timer), take: (event) => { if (concerns(event)) timer ??= setTimeout(refresh, 700); } };
}
