// API keys: list, create with the secret shown once, revoke. For admins.

import { change } from "./api.js";
import { badge, h, relative, showDialog, table, toast } from "./dom.js";
import { name, t } from "./i18n.js";
import { openList } from "./list.js";
import { secretText } from "./secret.js";

const ROLES = ["storefront", "operator", "admin"];

/** Status of a key: revoked, expired or active. */
function status(key) {
  if (key.revoked_at) return [badge(t("revoked"), "bad"), h("div", { class: "help" }, relative(key.revoked_at))];
  const isExpired = key.expires_at && new Date(key.expires_at) <= new Date();
  return isExpired ? badge(t("expired"), "bad") : badge(t("active"), "good");
}

export async function open(root, { parameters }) {
  const opened = await openList(root, parameters, {
    screen: "keys", path: "/v1/api-keys", title: t("Keys"),
    actions: h("button", { class: "main", onclick: create }, t("New key")),
    search: { label: t("Search"), placeholder: t("Name or first characters of the key") },
    rows: (keys) => table(t("Newest first"), [
      [t("Name"), (key) => [h("b", {}, key.name), h("div", { class: "mono soft" }, `${key.prefix}…`)]],
      [t("Role"), (key) => [name(key.role), key.storefront && h("div", { class: "help" }, key.storefront)]],
      [t("Status"), status],
      [t("Last used"), (key) => key.last_used_at ? relative(key.last_used_at) : t("never")],
      [t("Expires"), (key) => key.expires_at ? relative(key.expires_at) : t("never")],
      [t("Created"), (key) => relative(key.created_at)],
      [t("Actions"), (key) => !key.revoked_at && h("button", { class: "danger", id: `revoke-${key.id}`, "aria-label": t("Revoke {name}", key), onclick: () => revoke(key) }, t("Revoke"))],
    ], keys, { key: (key) => key.id }),
    noEntries: [h("p", {}, t("No keys yet. The key that you use comes from the gateway's configuration.")), h("p", {}, t("Create a key for each client, so that each can be revoked alone."))],
    isAffected: (event) => event.type.startsWith("api_key."),
  });

  async function create() {
    const key = await showDialog({
      title: t("New API key"), submitLabel: t("Create"),
      fields: [
        { name: "name", label: t("Name"), required: true, help: t("Shown in histories and logs, for example the client that uses the key.") },
        { name: "role", label: t("Role"), options: ROLES.map((role) => [role, name(role)]) },
        { name: "storefront", label: t("Storefront"), help: t("Required for the role Storefront; leave empty for the other roles.") },
        { name: "expires_at", label: t("Expires"), type: "datetime-local", help: t("Leave empty for a key that does not expire.") },
      ],
      act: ({ name, role, storefront, expires_at }) => change("POST", "/v1/api-keys",
        { name, role, ...(storefront ? { storefront } : {}), ...(expires_at ? { expires_at: new Date(expires_at).toISOString() } : {}) },
        { intent: "create_api_key" }),
    });
    await opened.refresh();
    if (key) await showSecret(key);
  }

  function showSecret(key) {
    if (!key.secret) return toast(t("The secret could not be shown. Revoke the key and create another one."), "bad");
    return showDialog({
      title: t("Secret of {name}", key), submitLabel: t("I have saved it"),
      text: secretText(key.secret, t("Copy it now: it is shown only once. Clients send it as Authorization: Bearer SECRET.")),
    });
  }

  async function revoke(key) {
    const isRevoked = await showDialog({
      title: t("Revoke {name}?", key), submitLabel: t("Revoke"), isDanger: true,
      text: t("Requests with this key are refused within 5 seconds, and its open connections end. This cannot be undone."),
      act: () => change("DELETE", `/v1/api-keys/${key.id}`, undefined, { intent: "revoke_api_key" }),
    });
    if (isRevoked) toast(t("Key revoked."));
    await opened.refresh();
  }

  return opened;
}
