// A combobox that searches on the server while its user types, for customers and products: a shop has too many of
// them for a drop-down. Keyboard and roles follow the ARIA pattern "editable combobox with list autocomplete".

import { fill, h } from "./dom.js";
import { plural, t } from "./i18n.js";

/** Pause in typing after which the search starts. */
const SEARCH_DELAY_MS = 200;

let pickers = 0;

/**
 * A labelled picker. `search(text)` resolves to the choices, `[[value, text, more]]`: `more` is a second line and
 * optional. `onChoose(value, text)` is called for a choice, and with nulls when the chosen text is changed.
 * Returns `{ element, input, value, choose(value, text), clear() }`.
 */
export function picker({ label, name, search, onChoose, placeholder, help, required = false }) {
  const id = `picker-${++pickers}`;
  let choices = [], active = -1, timer = null, latestSearch = 0;
  const list = h("ul", { id: `${id}-list`, class: "choices", role: "listbox", "aria-label": label, hidden: true });
  const status = h("span", { class: "picker-status", role: "status" });
  const input = h("input", {
    id, name, type: "search", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder, required,
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id, "aria-describedby": help && `${id}-help`,
    oninput: () => { forget(); schedule(SEARCH_DELAY_MS); },
    onfocus: () => { if (!picked.value) schedule(0); },
    onblur: close,
    onkeydown: handleKey,
  });
  const element = h("div", { class: "picker" }, h("label", { for: id }, label), input, list, status,
    help && h("span", { class: "help", id: `${id}-help` }, help));
  const picked = { element, input, value: null, choose, clear: () => { input.value = ""; forget(); close(); } };

  /** A text that was changed after a choice is no choice any more. */
  function forget() {
    setValidity();
    if (picked.value === null) return;
    picked.value = null;
    onChoose?.(null, null);
  }

  /** A text without a choice does not count as a value. */
  function setValidity() {
    const isText = picked.value === null && input.value.trim() !== "";
    input.setCustomValidity(isText ? t("Choose an entry from the list.") : "");
  }

  function schedule(delay) {
    clearTimeout(timer);
    timer = setTimeout(load, delay);
  }

  /** Searches; the answer to an earlier text is dropped. */
  async function load() {
    const current = ++latestSearch;
    const text = input.value.trim();
    try {
      const found = await search(text);
      if (current !== latestSearch || document.activeElement !== input) return;
      choices = found;
      draw();
      status.textContent = found.length ? plural(found.length, "1 result", "{count} results") : t("No results.");
    } catch (failure) {
      if (current !== latestSearch) return;
      close();
      status.textContent = failure.message;
    }
  }

  function draw() {
    active = choices.length && input.value.trim() ? 0 : -1;
    fill(list, choices.map(([value, text, more], index) => h("li", {
      id: `${id}-${index}`, role: "option", "aria-selected": "false", "data-value": value,
      // Before the input loses the focus, which would close the list.
      onmousedown: (event) => { event.preventDefault(); pick(index); },
    }, h("span", {}, text), more && h("span", { class: "soft" }, more))));
    setExpanded(choices.length > 0);
    mark();
  }

  function setExpanded(isExpanded) {
    list.hidden = !isExpanded;
    input.setAttribute("aria-expanded", String(isExpanded));
    if (!isExpanded) input.removeAttribute("aria-activedescendant");
  }

  function mark() {
    [...list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === active)));
    if (active < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", `${id}-${active}`);
    list.children[active].scrollIntoView({ block: "nearest" });
  }

  function handleKey(event) {
    const isOpen = !list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen) return schedule(0);
      const step = event.key === "ArrowDown" ? 1 : -1;
      active = (Math.max(active, step > 0 ? -1 : 0) + step + choices.length) % choices.length;
      mark();
    } else if (event.key === "Enter" && isOpen && active >= 0) {
      event.preventDefault();
      pick(active);
    } else if (event.key === "Enter" && picked.value === null && input.value.trim()) {
      // The search is still running: the form is not sent with a text that is no choice.
      event.preventDefault();
      schedule(0);
    } else if (event.key === "Escape" && isOpen) {
      // In a dialog, the first Escape closes the list only.
      event.preventDefault();
      event.stopPropagation();
      close();
    }
  }

  function close() {
    clearTimeout(timer);
    latestSearch++;
    choices = [];
    fill(list);
    setExpanded(false);
    status.textContent = "";
  }

  function pick(index) {
    const [value, text] = choices[index];
    choose(value, text);
    close();
  }

  function choose(value, text) {
    picked.value = value;
    input.value = text;
    setValidity();
    onChoose?.(value, text);
  }

  return picked;
}
