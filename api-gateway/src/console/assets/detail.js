// The screen of one entry: heading, actions and tabs. The tab is kept in the address.

import { query } from "./api.js";
import { empty, fill, h, labelled, input, problem, readAll, toast } from "./dom.js";
import { t } from "./i18n.js";
import { setAddress, tabs } from "./tabs.js";

/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 500;

/**
 * Opens an entry in `root`. Options:
 * - `screen`, `listTitle`: the list that the entry belongs to
 * - `load()`: reads the entry; `gone`: text for an entry that does not exist
 * - `heading(entry)`, `actions(entry, reload)`, `notice(entry)`
 * - `tabs`: [{ name, title, open(panel, entry, reload) }]; `open` resolves to { refresh?(entry), onEvent?, close? }
 * - `isAffected(event, entry)`: whether a live event changes the entry
 */
export async function openDetail(root, { id, parameters }, options) {
  let entry = null, view = null, timer = null, isClosed = false;
  const header = h("div", { class: "detail-head" }), navigation = h("div", {}), panel = h("div", { class: "panel" });
  let current = options.tabs.find(({ name }) => name === parameters.get("tab")) ?? options.tabs[0];
  const address = (tab) => query(`#/${options.screen}/${encodeURIComponent(id)}`, { tab: tab === options.tabs[0].name ? "" : tab });

  function drawHeader() {
    fill(header,
      h("p", {}, h("a", { href: `#/${options.screen}`, class: "up", id: "up" }, "← ", options.listTitle)),
      h("div", { class: "bar" }, h("h1", {}, options.heading(entry)), h("div", { class: "actions" }, options.actions?.(entry, reload))),
      options.notice?.(entry));
    fill(navigation, options.tabs.length > 1 && tabs("detail", t("Views"), current.name, options.tabs.map(({ name, title }) => [name, title, address(name)]), show));
  }

  async function show(name) {
    current = options.tabs.find((tab) => tab.name === name);
    setAddress(address(name));
    drawHeader();
    view?.close?.();
    view = null;
    const opening = current, content = h("div", { class: "screen" });
    let opened;
    try {
      opened = await current.open(content, entry, reload);
    } catch (failure) {
      fill(content, problem(failure));
    }
    if (opening !== current || isClosed) return opened?.close?.();
    view = opened;
    fill(panel, content);
  }

  /** Reads the entry again. Input that was not saved stays. */
  async function reload() {
    clearTimeout(timer);
    timer = null;
    try {
      entry = await options.load();
    } catch (failure) {
      if (isClosed) return;
      if (failure.status === 404) return showGone();
      return toast(failure.message, "bad");
    }
    if (isClosed) return;
    drawHeader();
    await view?.refresh?.(entry);
  }

  function showGone() {
    fill(root, h("h1", {}, options.listTitle), empty(options.gone, " ", h("a", { href: `#/${options.screen}` }, t("Back to the list"))));
  }

  try {
    entry = await options.load();
  } catch (failure) {
    if (failure.status !== 404) throw failure;
    showGone();
    return {};
  }
  fill(root, header, navigation, panel);
  await show(current.name);
  return {
    refresh: reload,
    onEvent: (event) => {
      view?.onEvent?.(event);
      if (options.isAffected?.(event, entry)) timer ??= setTimeout(reload, RELOAD_DELAY_MS);
    },
    close: () => { isClosed = true; clearTimeout(timer); view?.close?.(); },
  };
}

/** The `open` of a tab that only shows the entry: `draw(entry, reload)` returns its content. */
export const drawn = (draw) => (panel, entry, reload) => {
  const refresh = (current) => fill(panel, draw(current, reload));
  refresh(entry);
  return { refresh };
};

/**
 * A form for an entry in a card. `fields(entry)` as in a dialog, `save(values, entry)` sends them. While there is input
 * that was not saved, a changed entry does not replace it.
 */
export function editForm(entry, { title, text, fields, submitLabel = t("Save"), saved = t("Saved."), save, reload }) {
  const element = h("section", { class: "card", "aria-label": title });
  let isChanged = false, latest = entry;

  /** The refusal of input for an entry that was changed meanwhile, with a way to continue. */
  const discard = () => h("button", { type: "button", id: "discard-input", onclick: async () => { isChanged = false; await reload(); draw(latest); } }, t("Discard the input and show the current values"));

  function draw(current) {
    const inputs = fields(current).map((field) => [field, input(field)]);
    const error = h("div", {}), submit = h("button", { class: "main" }, submitLabel);
    inputs.forEach(([field, control]) => { control.id = `field-${field.name}`; });
    const form = h("form", {
      class: "fields", oninput: () => { isChanged = true; },
      onsubmit: async (event) => {
        event.preventDefault();
        submit.disabled = true;
        try {
          await save(readAll(inputs), current);
          isChanged = false;
          toast(saved);
          await reload();
        } catch (failure) {
          fill(error, problem(failure), failure.status === 412 && discard());
        }
        submit.disabled = false;
      },
    }, inputs.map(([field, control]) => labelled(field, control)), error, h("div", { class: "actions" }, submit));
    fill(element, h("h2", {}, title), text && h("p", { class: "help" }, text), form);
  }

  draw(entry);
  return { element, refresh: (current) => { latest = current; if (!isChanged) draw(current); } };
}

/** Names and values as a definition list; those without a value are left out. */
export function facts(pairs) {
  return h("dl", {}, pairs.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "")
    .map(([title, value]) => [h("dt", {}, title), h("dd", {}, value)]));
}
