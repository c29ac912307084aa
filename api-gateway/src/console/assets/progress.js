// A dialog with the progress of work that takes several requests, and a dialog with what failed.

import { fill, h } from "./dom.js";
import { number, t } from "./i18n.js";

let dialogs = 0;

/** Opens a dialog; returns the function that closes it. `onCancel` is called by the Escape key. */
function openDialog(title, content, onCancel) {
  const id = `progress-${++dialogs}`;
  const dialog = h("dialog", { "aria-labelledby": id }, h("div", { class: "stacked" }, h("h2", { id }, title), content));
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); onCancel(); });
  document.body.append(dialog);
  dialog.showModal();
  return () => { dialog.close(); dialog.remove(); };
}

/**
 * Shows the progress of `work` until it ends. `work` calls `report(done)`, and ends early once `signal.aborted` is
 * set by the person. Without a `total`, the number of finished entries is shown alone.
 */
export async function showProgress({ title, total, work }) {
  const controller = new AbortController();
  const bar = h("progress", { "aria-label": title, max: total });
  const text = h("p", { role: "status" });
  const stop = h("button", { type: "button", onclick: () => { controller.abort(); stop.disabled = true; } }, t("Stop"));
  const report = (done) => {
    if (total) bar.value = done;
    fill(text, total ? t("{done} of {total}", { done: number(done), total: number(total) }) : number(done));
  };
  report(0);
  const close = openDialog(title, [bar, text, h("div", { class: "actions end" }, stop)], () => stop.click());
  try {
    return await work(report, controller.signal);
  } finally {
    close();
  }
}

/** Shows a list of what failed, each with the reason, until it is closed. */
export function showFailures(title, failures) {
  return new Promise((resolve) => {
    const entries = failures.map(({ subject, failure }) =>
      h("li", {}, h("b", {}, subject), " ", failure.message, failure.requestId && h("div", { class: "help" }, t("Request ID"), " ", h("span", { class: "mono" }, failure.requestId))));
    const done = () => { close(); resolve(); };
    const close = openDialog(title, [
      h("ul", { class: "failures" }, entries),
      h("div", { class: "actions end" }, h("button", { type: "button", class: "main", onclick: done }, t("Close"))),
    ], done);
  });
}
