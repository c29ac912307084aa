// API keys: list, create with the secret shown once, revoke. For admins.

import { change, pagedList } from "./api.js";
import { badge, empty, fill, h, problem, showDialog, table, time, toast } from "./dom.js";

const ROLES = [["storefront", "Storefront"], ["operator", "Operator"], ["admin", "Admin"]];

/** Status of a key: revoked, expired or active. */
function status(key) {
  if (key.revoked_at) return [badge("revoked", "bad"), h("div", { class: "help" }, time(key.revoked_at))];
  const isExpired = key.expires_at && new Date(key.expires_at) <= new Date();
  if (isExpired) return [badge("expired", "bad"), h("div", { class: "help" }, time(key.expires_at))];
  return [badge("active", "good"), key.expires_at && h("div", { class: "help" }, "expires ", time(key.expires_at))];
}

export async function open(root) {
  const list = h("div", {});
  const keys = pagedList("/v1/api-keys", draw);
  let timer = null;

  function refresh() {
    timer = null;
    return keys.refresh();
  }

  function draw() {
    const rows = table("Newest first", [
      ["Name", (key) => [h("b", {}, key.name), h("div", { class: "mono soft" }, `${key.prefix}…`)]],
      ["Role", (key) => [key.role, key.storefront && h("div", { class: "help" }, key.storefront)]],
      ["Status", status],
      ["Last used", (key) => key.last_used_at ? time(key.last_used_at) : "never"],
      ["Created", (key) => time(key.created_at)],
      ["Actions", (key) => !key.revoked_at && h("button", { class: "danger", onclick: () => revoke(key) }, "Revoke")],
    ], keys.data, { key: (key) => key.id });
    fill(list, keys.failed && problem(keys.failed),
      keys.data.length ? rows : !keys.failed && empty("No keys yet. The key that you use comes from the gateway's configuration."),
      keys.next && h("p", {}, h("button", { id: "more", onclick: keys.more }, "Load more")));
  }

  async function create() {
    const key = await showDialog({
      title: "New API key", submitLabel: "Create",
      fields: [
        { name: "name", label: "Name", required: true, help: "Shown in histories and logs, for example the client that uses the key." },
        { name: "role", label: "Role", options: ROLES },
        { name: "storefront", label: "Storefront", help: "Required for the role Storefront; leave empty for the other roles." },
        { name: "expires_at", label: "Expires", type: "datetime-local", help: "Leave empty for a key that does not expire." },
      ],
      act: ({ name, role, storefront, expires_at }) => change("POST", "/v1/api-keys",
        { name, role, ...(storefront ? { storefront } : {}), ...(expires_at ? { expires_at: new Date(expires_at).toISOString() } : {}) },
        { intent: "create_api_key" }),
    });
    await refresh();
    if (key) await showSecret(key);
  }

  function showSecret(key) {
    if (!key.secret) return toast("The secret could not be shown. Revoke the key and create another one.", "bad");
    const secret = h("pre", { class: "mono", id: "secret" }, key.secret);
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(key.secret);
        toast("Copied.");
      } catch {
        // Browsers allow access to the clipboard over HTTPS and on this machine only.
        getSelection().selectAllChildren(secret);
        toast("Press Ctrl+C to copy the selected secret.");
      }
    };
    return showDialog({
      title: `Secret of ${key.name}`, submitLabel: "I have saved it",
      text: h("div", {}, h("p", {}, "Copy it now: it is shown only once. Clients send it as Authorization: Bearer SECRET."), secret,
        h("button", { type: "button", id: "copy", onclick: copy }, "Copy")),
    });
  }

  async function revoke(key) {
    const isRevoked = await showDialog({
      title: `Revoke ${key.name}?`, submitLabel: "Revoke", isDanger: true,
      text: "Requests with this key are refused within 5 seconds, and its open connections end. This cannot be undone.",
      act: () => change("DELETE", `/v1/api-keys/${key.id}`, undefined, { intent: "revoke_api_key" }),
    });
    if (isRevoked) toast("Key revoked.");
    refresh();
  }

  fill(root, h("div", { class: "bar" }, h("h1", {}, "Keys"), h("button", { class: "main", onclick: create }, "New key")),
    h("section", { class: "card", "aria-label": "Keys" }, list));
  await refresh();
  return {
    refresh, close: () => clearTimeout(timer),
    onEvent: ({ type }) => { if (type.startsWith("api_key.")) timer ??= setTimeout(refresh, 500); },
  };
}
