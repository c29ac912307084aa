// The login form. Accepts an API key or a token of the identity provider.

import { session } from "./api.js";
import { fill, h, problem } from "./dom.js";
import { t } from "./i18n.js";

export function loginForm(onLogin) {
  const error = h("div", {});
  const field = h("input", { type: "password", name: "key", required: true, autocomplete: "current-password", id: "key" });
  const button = h("button", { class: "main" }, t("Log in"));
  const form = h("form", {
    class: "card login",
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        onLogin(await session.open(field.value));
      } catch (failure) {
        fill(error, problem(failure));
        button.disabled = false;
        field.select();
      }
    },
  },
  h("h1", {}, t("Log in")),
  h("p", { class: "soft" }, t("Use an API key or an access token. You stay logged in on this browser for at most twelve hours.")),
  h("p", {}, h("label", {}, t("API key or token"), field)), error, h("p", {}, button));
  queueMicrotask(() => field.focus());
  return form;
}
