// Tabs: links to the views of a list or of one entry, each with an address of its own.

import { h } from "./dom.js";

/**
 * A row of tabs. `options` are [value, title, address]; `choose(value)` shows a view without loading the screen again.
 * `prefix` distinguishes the ids of two rows on a screen.
 */
export function tabs(prefix, label, current, options, choose) {
  return h("nav", { class: "tabs", "aria-label": label }, options.map(([value, title, href]) => h("a", {
    href, id: `${prefix}-tab-${value || "all"}`, "aria-current": value === current ? "true" : undefined,
    onclick: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      choose(value);
    },
  }, title)));
}

/** Shows `address` as that of this view. "Back" of the browser loads the screen at the address before. */
export function setAddress(address, { replace = false } = {}) {
  if (address === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
}
