// Logging in: by an API key, or a token of the identity provider's.

import { session } from "./api.js";
import { fill, h, problem } from "./dom.js";

export function login(done) {
  const wrong = h("div", {});
  const field = h("input", { type: "password", name: "key", required: true, autocomplete: "current-password", id: "key" });
  const button = h("button", { class: "main" }, "Log in");
  const form = h("form", {
    class: "card login",
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        done(await session.open(field.value));
      } catch (failure) {
        fill(wrong, problem(failure));
        button.disabled = false;
        field.select();
      }
    },
  },
  h("h1", {}, "Log in"),
  h("p", { class: "soft" }, "With an API key, or a token. It stays in this browser as a cookie that no script can read, for twelve hours."),
  h("p", {}, h("label", {}, "Key", field)), wrong, h("p", {}, button));
  queueMicrotask(() => field.focus());
  return form;
}
