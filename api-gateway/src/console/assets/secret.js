// A secret that is shown once, with a button to copy it.

import { h, toast } from "./dom.js";
import { t } from "./i18n.js";

/** The content of a dialog with `secret` and the `text` about it. */
export function secretText(secret, text) {
  const shown = h("pre", { class: "mono", id: "secret" }, secret);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(secret);
      toast(t("Copied."));
    } catch {
      // Browsers allow access to the clipboard over HTTPS and on this machine only.
      getSelection().selectAllChildren(shown);
      toast(t("Press Ctrl+C to copy the selected secret."));
    }
  };
  return h("div", {}, h("p", {}, text), shown, h("button", { type: "button", id: "copy", onclick: copy }, t("Copy")));
}
