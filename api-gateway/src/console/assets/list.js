// A list screen: search on the server, tabs and filters that are kept in the address, pages that stay when the list is
// loaded again, and reloads on live events.

import { get, loadAtLeast, query } from "./api.js";
import { empty, fill, h, input, labelled, problem } from "./dom.js";
import { plural, t } from "./i18n.js";
import { setAddress, tabs } from "./tabs.js";

/** Pause in typing after which the search starts. */
const SEARCH_DELAY_MS = 250;
/** Delay between an event and the reload that it causes; events in between share the reload. */
const RELOAD_DELAY_MS = 900;

/**
 * Opens a list in `root`. Options:
 * - `screen`: name of the screen, whose address has the values of search, tabs and filters; without it the list is part
 *   of another screen
 * - `path` of the API, and `fixed`: query parameters that are always sent
 * - `title`, `intro`, `actions`: heading, text below it, and buttons beside it
 * - `search`: { label, placeholder }, sent as `q`
 * - `tabs`: { name, label, options: [[value, title]] }; `filters`: [{ name, label, options } or { name, label }]:
 *   a drop-down, or a value that can be removed only
 * - `toParameters(values)`: query parameters of the API, if they are not the values themselves
 * - `rows(entries, list)`: the table; `noEntries`: content for an empty list without filters
 * - `isAffected(event)`: whether a live event changes the list
 * - `onDraw(list)`: called after each load
 */
export async function openList(root, parameters, options) {
  const { screen, path, search, filters = [], fixed = {}, toParameters = (values) => values } = options;
  const prefix = screen ?? "part";
  const names = [search && "q", options.tabs?.name, ...filters.map(({ name }) => name)].filter(Boolean);
  const values = Object.fromEntries(names.map((name) => [name, (screen && parameters?.get(name)) || ""]));
  const list = { entries: [], next: null, failed: null, values, refresh, apply };
  let running = Promise.resolve(), generation = 0, reloadTimer = null, searchTimer = null;
  const controls = h("div", { class: "controls" }), content = h("div", {}), status = h("p", { class: "soft shown", role: "status" });
  const searchField = search && input({ name: "q", type: "search", value: values.q, placeholder: search.placeholder });
  if (searchField) {
    searchField.id = `${prefix}-search`;
    searchField.addEventListener("input", () => {
      clearTimeout(searchTimer);
      searchTimer = setTimeout(() => apply({ q: searchField.value.trim() }, { replace: true }), SEARCH_DELAY_MS);
    });
  }

  const address = (changes) => (screen ? query(`#/${screen}`, { ...values, ...changes }) : location.hash);
  const page = (limit, cursor) => get(query(path, { ...fixed, ...toParameters(values), limit, cursor }));

  /** Loads entries after `before`, unless the filters change meanwhile. */
  async function load(read, before, current = generation) {
    try {
      const found = await read();
      if (current !== generation) return;
      Object.assign(list, { entries: [...before(), ...found.data], next: found.next_cursor, failed: null });
    } catch (failure) {
      if (current !== generation) return;
      list.failed = failure;
    }
    draw();
  }

  /** Loads all pages again that are shown. Loads follow one another. */
  function refresh() {
    clearTimeout(reloadTimer);
    reloadTimer = null;
    running = running.then(() => load(() => loadAtLeast(list.entries.length, page), () => []));
    return running;
  }

  function more() {
    running = running.then(() => load(() => page(50, list.next), () => list.entries));
    return running;
  }

  /** Changes search, tab or filters, and shows the first page. */
  function apply(changes, { replace = false } = {}) {
    clearTimeout(searchTimer);
    if (Object.entries(changes).every(([name, value]) => values[name] === value)) return running;
    Object.assign(values, changes);
    if (screen) setAddress(address({}), { replace });
    if (searchField && document.activeElement !== searchField) searchField.value = values.q;
    generation += 1;
    drawControls();
    running = load(() => page(50), () => []);
    return running;
  }

  function drawControls() {
    const removable = filters.filter(({ name, options: choices }) => !choices && values[name]);
    fill(controls,
      options.tabs && tabs(prefix, options.tabs.label, values[options.tabs.name],
        options.tabs.options.map(([value, title]) => [value, title, address({ [options.tabs.name]: value })]),
        (value) => apply({ [options.tabs.name]: value })),
      (search || filters.length > 0) && h("form", {
        class: "bar", role: "search", "aria-label": t("Search and filter"),
        onsubmit: (event) => { event.preventDefault(); if (searchField) apply({ q: searchField.value.trim() }); },
      },
      searchField && labelled({ label: search.label }, searchField),
      filters.filter(({ options: choices }) => choices).map((filter) => {
        const field = input({ name: filter.name, options: filter.options, value: values[filter.name] });
        field.id = `${prefix}-${filter.name}`;
        field.addEventListener("change", () => apply({ [filter.name]: field.value }));
        return labelled({ label: filter.label }, field);
      }),
      searchField && h("button", { id: `${prefix}-submit` }, t("Search"))),
      removable.map(({ name, label }) => h("p", { class: "chip" }, label, " ",
        h("button", { id: `${prefix}-remove-${name}`, "aria-label": t("Remove the filter {label}", { label }), onclick: () => apply({ [name]: "" }) }, "×"))));
  }

  function draw() {
    const { entries, next, failed } = list;
    const isFiltered = Object.values(values).some(Boolean);
    const clear = () => {
      if (searchField) searchField.value = "";
      return apply(Object.fromEntries(names.map((name) => [name, ""])));
    };
    const opened = [...content.querySelectorAll("details[open][id]")].map(({ id }) => id);
    fill(content, failed && problem(failed), entries.length > 0 ? options.rows(entries, list)
      : !failed && (isFiltered
        ? empty(t("Nothing matches the search and filters."), " ", h("button", { id: `${prefix}-clear`, onclick: clear }, t("Clear filters")))
        : h("div", { class: "empty" }, options.noEntries)),
    next && h("p", {}, h("button", { id: "more", onclick: more }, t("Load more"))));
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    const shown = next ? plural(entries.length, "1 shown, there are more", "{count} shown, there are more") : plural(entries.length, "1 entry", "{count} entries");
    if (status.textContent !== shown) status.textContent = shown;
    options.onDraw?.(list);
  }

  /** "/" moves to the search of the list, instead of that in the frame. */
  function focusSearch(event) {
    const isTyping = event.target.closest?.("input, select, textarea, dialog");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    searchField.focus();
  }

  drawControls();
  fill(root,
    options.title && h("div", { class: "bar" }, h("h1", {}, options.title), options.actions),
    options.intro,
    h("section", { class: options.title ? "card" : "", "aria-label": options.label ?? options.title }, controls, status, content),
    options.more);
  if (searchField && screen) document.addEventListener("keydown", focusSearch, true);
  await refresh();
  return {
    refresh, list,
    onEvent: (event) => { if (options.isAffected?.(event)) reloadTimer ??= setTimeout(refresh, RELOAD_DELAY_MS); },
    close: () => {
      generation += 1;
      clearTimeout(reloadTimer);
      clearTimeout(searchTimer);
      document.removeEventListener("keydown", focusSearch, true);
    },
  };
}
