// What could not be done: why, since when, what can be done about it, and the button for that.

import { change, pages } from "./api.js";
import { ask, badge, empty, fill, h, problem, table, time, toast } from "./dom.js";

export async function open(root) {
  let timer = null;
  const chosen = new Set(), list = h("div", {}), tools = h("div", { class: "actions" });

  const found = pages("/v1/dead-letters", draw);

  function refresh() {
    timer = null;
    return found.refresh();
  }

  function draw() {
    const { data: letters, next, failed } = found;
    for (const id of chosen) if (!letters.some((letter) => letter.id === id)) chosen.delete(id);
    const isAll = letters.length > 0 && chosen.size === letters.length;
    fill(tools, h("span", { class: "soft", "aria-live": "polite" }, chosen.size ? `${chosen.size} chosen` : ""),
      h("button", { class: "main", disabled: !chosen.size, onclick: () => act("redrive", [...chosen]) }, "Redrive"),
      h("button", { class: "danger", disabled: !chosen.size, onclick: () => act("discard", [...chosen]) }, "Discard"));
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
    fill(list, failed && problem(failed), letters.length ? rows : !failed && empty("Nothing is stuck."),
      next && h("p", {}, h("button", { id: "more", onclick: found.more }, "More")));
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

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Stuck and dead"), tools), h("section", { class: "card", "aria-label": "Stuck and dead" }, list));
  await refresh();
  return { refresh, leave: () => clearTimeout(timer), take: (event) => { if (event.type.startsWith("step.")) timer ??= setTimeout(refresh, 700); } };
}
