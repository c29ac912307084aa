// The console's start: login state, opening of screens, live events and connection status. shell.js draws the frame.

import { get, listen, session, watch } from "./api.js";
import { fill, h, loading, problem, toast } from "./dom.js";
import { t } from "./i18n.js";
import { loginForm } from "./login.js";
import { drawShell, hideShell, markCurrent, setScreenShortcuts } from "./shell.js";

/**
 * The screens in the order of the navigation. `detail` shows one entry of a list: `#/orders/{id}`. Each module
 * exports `open(root, context)`, which resolves to `{ refresh?, onEvent?, close? }`.
 */
const SCREENS = [
  { name: "dashboard", title: t("Dashboard"), list: () => import("./dashboard.js") },
  { name: "orders", title: t("Orders"), list: () => import("./orders.js"), detail: () => import("./order.js"), detailTitle: t("Order") },
  { name: "returns", title: t("Returns"), list: () => import("./returns.js"), detail: () => import("./return.js"), detailTitle: t("Return") },
  { name: "products", title: t("Products"), list: () => import("./products.js"), detail: () => import("./product.js"), detailTitle: t("Product") },
  { name: "customers", title: t("Customers"), list: () => import("./customers.js"), detail: () => import("./customer.js"), detailTitle: t("Customer") },
  { name: "messages", title: t("Messages"), list: () => import("./message_list.js"), role: "operator" },
  { name: "webhooks", title: t("Webhooks"), list: () => import("./webhooks.js"), detail: () => import("./webhook.js"), detailTitle: t("Webhook endpoint") },
  { name: "keys", title: t("Keys"), list: () => import("./keys.js"), role: "admin" },
  { name: "failures", title: t("Failures"), list: () => import("./failures.js"), role: "operator" },
  { name: "settings", title: t("Settings"), list: () => import("./settings.js"), role: "operator" },
  { name: "new", title: t("New order"), list: () => import("./new_order.js"), isHidden: true },
];
/** Earlier names of screens, for links that were saved. */
const EARLIER_NAMES = { inventory: "products" };
/** Interval between health checks. */
const HEALTH_CHECK_MS = 4000;
/** A health check without a response within this time has failed. */
const HEALTH_CHECK_TIMEOUT_MS = 8000;

const main = document.getElementById("main");
const state = { me: null, screen: null, isLive: false, isDown: false, events: [] };

/** Whether the session has an operator's rights. */
export const isOperator = (me) => me.role !== "storefront";

async function start() {
  try {
    state.me = await session.get();
  } catch (failure) {
    if (failure.status === 401) return showLogin();
    fill(main, problem(failure), h("p", {}, h("button", { onclick: start }, t("Try again"))));
    return;
  }
  enter();
}

function showLogin() {
  state.me = null;
  hideShell();
  fill(main, loginForm((me) => { state.me = me; enter(); }));
}

let stopListening = null;

function enter() {
  const me = state.me;
  const screens = SCREENS.filter(({ role, isHidden }) => !isHidden && (!role || me.role === role || (role === "operator" && isOperator(me))));
  drawShell({ me, screens, onLogOut: async () => {
    await session.close().catch(() => {});
    location.hash = "";
    stopListening?.();
    showLogin();
  } });
  stopListening?.();
  stopListening = listen(handleEvent, (isLive) => { state.isLive = isLive; drawConnection(); });
  show();
}

/** Passes an event to the current screen, which loads its data again instead of applying the event. */
function handleEvent(event) {
  state.events.push(Date.now());
  if (state.screen) state.screen.onEvent?.(event);
  else state.hasMissedEvents = true;
}

/** Number of navigations so far; a screen that loads for an earlier one is dropped. */
let navigation = 0;

async function show() {
  if (!state.me) return;
  const [path, search] = (location.hash.slice(2) || "dashboard").split("?");
  const [name, id] = path.split("/");
  const screen = SCREENS.find((known) => known.name === (EARLIER_NAMES[name] ?? name)) ?? SCREENS[0];
  const isDetail = Boolean(id && screen.detail);
  markCurrent(screen.name);
  const current = ++navigation;
  state.screen?.close?.();
  state.screen = null;
  state.hasMissedEvents = false;
  document.title = `${isDetail ? screen.detailTitle : screen.title} – Orderwright`;
  fill(main, loading());
  try {
    const { open, shortcuts } = await (isDetail ? screen.detail() : screen.list());
    setScreenShortcuts(shortcuts);
    const root = h("div", { class: "screen" });
    const opened = await open(root, {
      me: state.me, id: id && decodeURIComponent(id), parameters: new URLSearchParams(search), events: state.events, isOperator: isOperator(state.me),
    });
    if (current !== navigation) return opened?.close?.();
    state.screen = opened;
    fill(main, root);
    // Events that arrived while the screen loaded may not be in its data.
    if (state.hasMissedEvents) opened.refresh?.();
  } catch (failure) {
    if (current !== navigation) return;
    if (failure.status === 401) return showLogin();
    fill(main, problem(failure), h("p", {}, h("button", { onclick: show }, t("Try again"))));
  }
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Shows the connection status in the header and, during an outage, in a banner. */
function drawConnection() {
  const live = document.getElementById("live");
  if (live) {
    live.classList.toggle("on", state.isLive && !state.isDown);
    live.textContent = state.isLive && !state.isDown ? t("live") : t("disconnected");
  }
  const banner = document.getElementById("connection");
  const text = state.isDown
    ? t("The order system is not responding. Data on this page may be out of date, and changes will fail. Retrying …")
    : state.me && state.wasLive && !state.isLive ? t("Live updates interrupted. Reconnecting …") : "";
  state.wasLive ||= state.isLive;
  banner.className = `connection ${state.isDown ? "down" : text ? "slow" : ""}`;
  if (banner.textContent !== text) banner.textContent = text;
}

watch((status) => {
  if (status === 401 && state.me && !state.me.is_open) {
    toast(t("Your session has expired. Log in again."), "bad");
    showLogin();
  }
});

/** Checks that gateway, worker and database respond. */
async function checkHealth() {
  if (state.me && !document.hidden) {
    const timeout = new Promise((_, reject) => setTimeout(() => reject({ status: 504 }), HEALTH_CHECK_TIMEOUT_MS));
    const wasDown = state.isDown;
    try {
      await Promise.race([get("/v1/events?after=now&limit=1"), timeout]);
      state.isDown = false;
    } catch (failure) {
      state.isDown = failure.status === 0 || failure.status >= 500;
    }
    drawConnection();
    if (wasDown && !state.isDown) {
      toast(t("Connection restored."));
      state.screen?.refresh ? state.screen.refresh() : show();
    }
  }
  setTimeout(checkHealth, state.isDown ? 1000 : HEALTH_CHECK_MS);
}

// The hash selects the screen, so the link cannot use it to jump to the content.
const skipLink = document.querySelector(".skip");
skipLink.textContent = t("Skip to content");
skipLink.addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
addEventListener("online", () => show());
start();
setTimeout(checkHealth, HEALTH_CHECK_MS);
