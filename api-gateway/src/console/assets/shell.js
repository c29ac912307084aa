// The frame around the screens: navigation, search for orders, account menu, language, time zone, and keyboard
// shortcuts.

import { fill, h } from "./dom.js";
import { LANGUAGES, language, name as nameOf, setLanguage, t, timeZone } from "./i18n.js";

/** Screens by section of the navigation. Screens that no section names are listed at the end. */
const SECTIONS = [
  ["", ["dashboard", "orders", "returns", "products", "inventory", "customers"]],
  [t("Operations"), ["failures", "messages"]],
  [t("Integrations"), ["webhooks", "keys"]],
  [t("System"), ["settings"]],
];
/** Screens that the key `g` and then this key open. */
const GO_TO = { d: "dashboard", o: "orders", r: "returns", p: "products", c: "customers", f: "failures", m: "messages", w: "webhooks", k: "keys", s: "settings" };
/** Time for the second key after `g`. */
const SECOND_KEY_MS = 1500;

const element = (id) => document.getElementById(id);

/** Draws the frame for a session. `screens` are those that its role may open. */
export function drawShell({ me, screens, onLogOut }) {
  const known = new Map(screens.map((screen) => [screen.name, screen]));
  const sections = SECTIONS.map(([title, names]) => [title, names.filter((name) => known.has(name))]);
  const named = new Set(sections.flatMap(([, names]) => names));
  sections.at(-1)[1].push(...[...known.keys()].filter((name) => !named.has(name)));
  const link = (name) => h("li", {}, h("a", { href: `#/${name}`, "data-screen": name }, known.get(name).title));
  const nav = element("nav");
  nav.setAttribute("aria-label", t("Main navigation"));
  fill(nav, sections.filter(([, names]) => names.length > 0).map(([title, names]) => [
    title && h("h2", {}, title), h("ul", { class: "plain" }, names.map(link)),
  ]));
  fill(element("zone"), t("Times in {zone}", { zone: timeZone.replaceAll("_", " ") }));
  drawFinder();
  drawMenu();
  drawAccount(me, onLogOut);
  for (const id of ["side", "menu", "finder"]) element(id).hidden = false;
}

/** Hides the parts of the frame that need a session. */
export function hideShell() {
  for (const id of ["side", "menu", "finder"]) element(id).hidden = true;
  fill(element("who"), languageChoice());
}

function drawFinder() {
  const label = t("Find orders by number, customer or tracking number");
  const field = h("input", { type: "search", id: "find", "aria-label": label, placeholder: t("Find orders …"), title: `${label} (/)`, enterkeyhint: "search", maxlength: 254 });
  const form = element("finder");
  form.setAttribute("aria-label", t("Find orders"));
  fill(form, field);
  form.onsubmit = (event) => {
    event.preventDefault();
    const q = field.value.trim();
    location.hash = q ? `#/orders?${new URLSearchParams({ q })}` : "#/orders";
  };
}

/** The button that shows the navigation on a phone. */
function drawMenu() {
  const [button, side] = [element("menu"), element("side")];
  button.textContent = "☰";
  button.setAttribute("aria-label", t("Menu"));
  const toggle = (isOpen) => {
    side.classList.toggle("open", isOpen);
    button.setAttribute("aria-expanded", isOpen);
  };
  button.onclick = () => toggle(!side.classList.contains("open"));
  side.onclick = (event) => event.target.closest("a") && toggle(false);
  side.onkeydown = (event) => {
    if (event.key !== "Escape") return;
    toggle(false);
    button.focus();
  };
  toggle(false);
}

function languageChoice() {
  return h("div", { class: "languages", role: "group", "aria-label": t("Language") },
    Object.entries(LANGUAGES).map(([code, title]) => h("button", { lang: code, "aria-pressed": String(code === language), onclick: () => setLanguage(code) }, title)));
}

function drawAccount(me, onLogOut) {
  const menu = h("details", { class: "account-menu" },
    h("summary", {}, me.actor),
    h("div", { class: "card" },
      h("p", { class: "help" }, t("Role: {role}", { role: nameOf(me.role) }), me.storefront && [h("br"), t("Storefront of your login: {storefront}", { storefront: me.storefront })]),
      languageChoice(),
      h("button", { onclick: showShortcuts }, t("Keyboard shortcuts")),
      h("a", { class: "button", href: "/docs" }, t("API reference")),
      me.is_open ? null : h("button", { onclick: onLogOut }, t("Log out"))));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  fill(element("who"), h("span", { id: "live", class: "live" }, t("connecting")), menu);
}

/** Marks the current screen in the navigation. */
export function markCurrent(name) {
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.screen === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  element("side").classList.remove("open");
  element("menu").setAttribute("aria-expanded", "false");
}

let screenShortcuts = [];

/** Sets the shortcuts that only the current screen has: [keys, title]. */
export function setScreenShortcuts(shortcuts = []) {
  screenShortcuts = shortcuts;
}

function showShortcuts() {
  const nav = [...document.querySelectorAll("#nav a")];
  const rows = [
    [["/"], t("Find orders")],
    [["n"], t("New order")],
    ...Object.entries(GO_TO).map(([key, name]) => [["g", key], nav.find((link) => link.dataset.screen === name)?.textContent]).filter(([, title]) => title),
    [["?"], t("Keyboard shortcuts")],
    ...screenShortcuts,
  ];
  const dialog = h("dialog", { "aria-labelledby": "shortcuts" },
    h("h2", { id: "shortcuts" }, t("Keyboard shortcuts")),
    h("dl", { class: "shortcuts" }, rows.map(([keys, title]) => [
      h("dt", {}, keys.map((key) => [h("kbd", {}, key), " "])), h("dd", {}, title),
    ])),
    h("form", { method: "dialog", class: "actions end" }, h("button", {}, t("Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** Moves the focus to the search of the screen, or else to that of the frame. */
function focusSearch() {
  const field = element("search") ?? element("find");
  field.focus();
  field.select();
}

let isAfterG = false;

/** Handles the keys that work on every screen, unless a person is typing or a dialog is open. */
function handleKey(event) {
  const { key, target } = event;
  const isTyping = target.closest("input:not([type=checkbox]), select, textarea, dialog, [contenteditable]");
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping || event.defaultPrevented || element("side").hidden || document.querySelector("dialog[open]")) return;
  const name = isAfterG && GO_TO[key];
  isAfterG = false;
  if (name && document.querySelector(`#nav a[data-screen="${name}"]`)) location.hash = `#/${name}`;
  else if (key === "/") focusSearch();
  else if (key === "?") showShortcuts();
  else if (key === "n") location.hash = "#/new";
  else if (key === "g") {
    isAfterG = true;
    setTimeout(() => { isAfterG = false; }, SECOND_KEY_MS);
    return;
  } else return;
  event.preventDefault();
}

document.addEventListener("keydown", handleKey);
document.addEventListener("click", ({ target }) => {
  const menu = document.querySelector(".account-menu");
  if (menu && !menu.contains(target)) menu.open = false;
});
