// The timeline of an order: its events in sentences, by day, newest first, and the note of the shop.

import { h } from "./dom.js";
import { exactTime, locale, t } from "./i18n.js";
import { actorName, sentence } from "./order_sentences.js";

const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "full" });

/** Colour of the mark of an event; others have none. */
const COLORS = {
  "order.cancelled": "bad", "payment.declined": "bad", "payment.refund_failed": "bad", "shipment.failed": "bad", "step.dead": "bad",
  "step.retried": "warn", "order.edit_rejected": "warn", "shipment.returned": "warn", "payment.action_required": "warn",
  "payment.authorized": "good", "payment.captured": "good", "order.delivered": "good", "shipment.delivered": "good",
};

export function timelineCard({ order, history, isOperator }, form) {
  return h("section", { class: "card", "aria-label": t("Timeline") }, h("h2", {}, t("Timeline")),
    isOperator && form.element,
    byDay(history).map(([title, events]) => [
      h("h3", { class: "day" }, title),
      h("ol", { class: "events" }, events.map((event) => h("li", { class: COLORS[event.type] }, entry(event, order))))]));
}

/** Events by the day in the viewer's time zone: [[day, events]], newest first. */
function byDay(history) {
  const days = new Map();
  for (const event of [...history].reverse()) {
    const title = day.format(new Date(event.time));
    days.set(title, [...(days.get(title) ?? []), event]);
  }
  return [...days];
}

/** Ids of the events whose details are open: they stay open when the timeline is drawn again. */
const opened = new Set();

function entry(event, order) {
  const actor = actorName(event);
  const details = [
    [t("Event type"), event.type], [t("Actor"), event.actor],
    [t("Intent"), event.attempt > 1 ? t("{intent}, attempt {attempt}", { intent: event.intent, attempt: event.attempt }) : event.intent],
    [t("Request ID"), event.request_id],
  ];
  return [
    h("p", {}, h("span", { class: "sentence" }, sentence(event, order)),
      h("span", { class: "soft" }, " · ", h("time", { datetime: event.time, title: exactTime(event.time) }, clock.format(new Date(event.time))), actor && t(" · by {actor}", { actor }))),
    h("details", { open: opened.has(event.id), ontoggle: ({ target }) => (target.open ? opened.add(event.id) : opened.delete(event.id)) },
      h("summary", { class: "help", id: `event-${event.id}` }, t("Details")),
      h("dl", {}, details.map(([title, text]) => [h("dt", {}, title), h("dd", { class: "mono" }, text)])),
      Object.keys(event.data).length > 0 && h("pre", {}, JSON.stringify(event.data, null, 2))),
  ];
}

/**
 * The form with the order's note. It is created once, so that a text that was not saved yet stays when the page is
 * drawn again; `update` shows the note of the loaded order unless it was changed here.
 */
export function noteForm(page) {
  let saved = page.order.note ?? "";
  const text = h("textarea", { id: "note", name: "note", rows: 2, value: saved, maxlength: 5000, placeholder: t("Only staff can see the note"), oninput: () => update() });
  const save = h("button", { id: "save-note" }, t("Save note"));
  const hint = h("span", { class: "help", "aria-live": "polite" });
  const element = h("form", {
    class: "note-form",
    onsubmit: async (event) => {
      event.preventDefault();
      const note = text.value.trim() || null;
      if (await page.send({ method: "PATCH", path: `/v1/orders/${page.order.id}`, body: { note }, intent: "edit_note", etag: page.etag, done: t("Note saved.") })) {
        saved = note ?? "";
        text.value = saved;
        update();
      }
    },
  }, h("label", {}, t("Note"), text), h("div", { class: "actions" }, save, hint));

  function update() {
    const note = page.order.note ?? "";
    const isChanged = text.value !== saved;
    if (note !== saved && !isChanged) text.value = saved = note;
    save.disabled = page.order.is_deleted || text.value === note;
    text.disabled = page.order.is_deleted;
    hint.textContent = note !== saved && isChanged ? t("The note was changed in the meantime, to: {note}", { note: note || "–" }) : "";
  }

  update();
  return { element, update };
}
