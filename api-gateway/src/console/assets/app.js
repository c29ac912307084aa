// The console: who is logged in, which screen is shown, and whether the system answers.

import { get, listen, session, watch } from "./api.js";
import { fill, h, loading, problem, toast } from "./dom.js";
import { login } from "./login.js";

const SCREENS = [
  ["orders", "Orders", () => import("./orders.js")],
  ["new", "New order", () => import("./new_order.js")],
  ["inventory", "Inventory", () => import("./inventory.js")],
  ["customers", "Customers", () => import("./customers.js")],
  ["webhooks", "Webhooks", () => import("./webhooks.js")],
  ["stuck", "Stuck", () => import("./stuck.js"), "operator"],
  ["pulse", "Pulse", () => import("./pulse.js")],
];
const ORDER = ["order", "Order", () => import("./order.js")];
/** Between two looks whether the system answers. */
const BEAT_MS = 4000;
/** An answer that takes longer is no answer. */
const PATIENCE_MS = 8000;

const main = document.getElementById("main");
const state = { me: null, screen: null, isLive: false, isDown: false, events: [] };

/** Whether somebody may do what operators do. */
export const operates = (me) => me.role !== "storefront";

async function start() {
  try {
    state.me = await session.get();
  } catch (failure) {
    if (failure.status === 401) return ask();
    fill(main, problem(failure), h("p", {}, h("button", { onclick: start }, "Try again")));
    return;
  }
  begin();
}

function ask() {
  state.me = null;
  document.getElementById("nav").hidden = true;
  fill(document.getElementById("who"));
  fill(main, login((me) => { state.me = me; begin(); }));
}

let stopListening = null;

function begin() {
  const me = state.me;
  const screens = SCREENS.filter(([, , , role]) => !role || operates(me));
  const nav = document.getElementById("nav");
  fill(nav, screens.map(([name, title]) => h("a", { href: `#/${name}`, "data-screen": name }, title)));
  nav.hidden = false;
  const out = me.is_open ? null : h("button", {
    onclick: async () => { await session.close().catch(() => {}); location.hash = ""; stopListening?.(); ask(); },
  }, "Log out");
  fill(document.getElementById("who"), h("span", { id: "live", class: "live" }, "connecting"), h("span", {}, me.actor), out);
  stopListening?.();
  stopListening = listen(take, (isLive) => { state.isLive = isLive; tell(); });
  show();
}

/** An event: what is on the screen is asked for again, not guessed. */
function take(event) {
  state.events.push(Date.now());
  if (state.screen) state.screen.take?.(event);
  else state.missed = true;
}

let shown = 0;

async function show() {
  if (!state.me) return;
  const [path, search] = (location.hash.slice(2) || "orders").split("?");
  const [name, id] = path.split("/");
  const screen = id && name === "orders" ? ORDER : (SCREENS.find(([known]) => known === name) ?? SCREENS[0]);
  for (const link of document.querySelectorAll("#nav a")) {
    link.toggleAttribute("aria-current", link.dataset.screen === name);
    if (link.dataset.screen === name) link.setAttribute("aria-current", "page");
  }
  const turn = ++shown;
  state.screen?.leave?.();
  state.screen = null;
  state.missed = false;
  document.title = `${screen[1]} – Orders`;
  fill(main, loading());
  try {
    const { open } = await screen[2]();
    const root = h("div", { class: "screen" });
    const opened = await open(root, {
      me: state.me, id, parameters: new URLSearchParams(search), events: state.events, operates: operates(state.me),
    });
    if (turn !== shown) return opened?.leave?.();
    state.screen = opened;
    fill(main, root);
    // What happened while it was read may not be in it.
    if (state.missed) opened.refresh?.();
  } catch (failure) {
    if (turn !== shown) return;
    if (failure.status === 401) return ask();
    fill(main, problem(failure), h("p", {}, h("button", { onclick: show }, "Try again")));
  }
  main.focus();
}

/** What is known of the connection, where everybody sees it. */
function tell() {
  const live = document.getElementById("live");
  if (live) {
    live.classList.toggle("on", state.isLive && !state.isDown);
    live.textContent = state.isLive && !state.isDown ? "live" : "not live";
  }
  const banner = document.getElementById("connection");
  const text = state.isDown
    ? "The system does not answer. What you see may be old; nothing that you do now is done. Trying again …"
    : state.me && state.wasLive && !state.isLive ? "Live updates are interrupted. Reconnecting …" : "";
  state.wasLive ||= state.isLive;
  banner.className = `connection ${state.isDown ? "down" : text ? "slow" : ""}`;
  if (banner.textContent !== text) banner.textContent = text;
}

watch((status) => {
  if (status === 401 && state.me && !state.me.is_open) {
    toast("Your session is over.", "bad");
    ask();
  }
});

/** Looks whether the system answers, worker and database included. */
async function beat() {
  if (state.me && !document.hidden) {
    const late = new Promise((_, reject) => setTimeout(() => reject({ status: 504 }), PATIENCE_MS));
    const was = state.isDown;
    try {
      await Promise.race([get("/v1/events?after=now&limit=1"), late]);
      state.isDown = false;
    } catch (failure) {
      state.isDown = failure.status === 0 || failure.status >= 500;
    }
    tell();
    if (was && !state.isDown) {
      toast("The system answers again.");
      state.screen?.refresh ? state.screen.refresh() : show();
    }
  }
  setTimeout(beat, state.isDown ? 1000 : BEAT_MS);
}

// The address names the screen: it is no place on the page.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
addEventListener("online", () => show());
start();
setTimeout(beat, BEAT_MS);
