// DOM elements, tables, dialogs and formats. Content is always inserted as text, never as markup.

import { exactTime, locale, name, number, relativeTime, t } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

/** Creates an HTML element: h("a", {href: "#/x", class: "y", onclick: f}, "text", child, [more]). */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (["value", "checked", "disabled", "hidden", "indeterminate"].includes(key)) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

/** Creates an SVG element. */
export function s(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces the children of `element`; restores the focus to the element with the same id. */
export function fill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren();
  append(element, children);
  if (focused) document.getElementById(focused)?.focus();
}

/** Currencies whose number of decimals is not 2, by ISO 4217. Intl shows some others without decimals, such as HUF and IDR. */
const DECIMALS = Object.fromEntries([
  [0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"], [3, "BHD IQD JOD KWD LYD OMR TND"], [4, "CLF UYW"],
].flatMap(([decimals, currencies]) => currencies.split(" ").map((currency) => [currency, decimals])));

/** Number of decimals of a currency: the API counts amounts in minor units. */
export const decimals = (currency) => DECIMALS[currency] ?? 2;

/** An amount in minor units, as people write it. */
export function money(amount, currency) {
  const digits = decimals(currency);
  try {
    return number(amount / 10 ** digits, { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits });
  } catch {
    return `${amount} ${currency}`;
  }
}

/** The amount in minor units that a person has entered, 9.99 for example. */
export function minorUnits(text, currency, label) {
  const amount = Number(text) * 10 ** decimals(currency);
  // 9.99 * 100 is not a whole number in binary floating point, but close to one.
  if (Math.abs(amount - Math.round(amount)) > 1e-6) {
    throw { title: t("Too many decimals"), message: t("{label} is {text}, but {currency} has {decimals} decimals.", { label, text, currency, decimals: decimals(currency) }) };
  }
  return Math.round(amount);
}

/** A time in the viewer's zone. The exact time with its zone is shown while the pointer is on it. */
export function time(text) {
  if (!text) return "–";
  const date = new Date(text);
  const isToday = date.toDateString() === new Date().toDateString();
  const shown = isToday
    ? date.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" })
    : date.toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
  return h("time", { datetime: text, title: exactTime(text) }, shown);
}

/** A time relative to now. The exact time with its zone is shown while the pointer is on it. */
export function relative(text) {
  return text ? h("time", { datetime: text, title: exactTime(text) }, relativeTime(text)) : "–";
}

/** Colour class of each status of an order, a payment, a shipment, a return, a delivery or a message. */
const STATUS_COLORS = {
  pending: "warn", processing: "info", shipped: "info", delivered: "good", cancelled: "bad",
  authorized: "info", captured: "good", voided: "", partially_refunded: "warn", refunded: "warn", failed: "bad",
  label_created: "", in_transit: "info", out_for_delivery: "info", returned: "bad",
  succeeded: "good", requested: "warn", approved: "info", received: "good", rejected: "bad",
  sent: "good", bounced: "bad", not_sent: "",
};

/** A status as a coloured label. */
export function badge(status, color = STATUS_COLORS[status] ?? "") {
  return h("span", { class: `badge ${color}` }, name(status));
}

/** A table; columns are [title, (row) => cell, class?]. The first cell is the row header. */
export function table(caption, columns, rows, { key, selected } = {}) {
  const head = columns.map(([title, , style]) => h("th", { scope: "col", class: style }, title));
  const body = rows.map((row) => {
    const cells = columns.map(([title, cell, style], index) =>
      index === 0
        ? h("th", { scope: "row", class: style }, cell(row))
        : h("td", { class: style, "data-label": typeof title === "string" ? title : undefined }, cell(row)),
    );
    return h("tr", { "data-key": key?.(row), "aria-selected": selected?.(row) }, cells);
  });
  return scrolling(h("table", { class: "stack" }, h("caption", {}, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

/** Lets an element that is wider than its place scroll in it. */
export function scrolling(element) {
  const scroll = h("div", { class: "scroll" }, element);
  scrollable.observe(scroll);
  return scroll;
}

/** Makes an element that is wider than its place reachable for the keyboard, which then scrolls it. */
const scrollable = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

export function empty(text, ...more) {
  return h("p", { class: "empty" }, text, more);
}

export function loading() {
  return h("p", { class: "loading" }, t("Loading …"));
}

/** An error message with its details and the request ID. */
export function problem(failure) {
  const errors = failure.errors?.map((error) => h("li", {}, h("span", { class: "mono" }, error.pointer), " ", error.detail));
  return h("div", { class: "notice bad", role: "alert" },
    h("b", {}, failure.title), h("div", {}, failure.message), errors && h("ul", {}, errors),
    failure.requestId && h("div", { class: "help" }, t("Request ID"), " ", h("span", { class: "mono" }, failure.requestId)));
}

export function toast(text, color = "") {
  const element = h("div", { class: `toast ${color}` }, text);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), color === "bad" ? 9000 : 4000);
}

let dialogs = 0;

/**
 * Shows a dialog with a form. Resolves to the form's values, or to null if it is closed. `act`, if given, runs
 * with the values first: if it fails, the dialog stays open and shows the error.
 */
export function showDialog({ title, text, fields = [], submitLabel = t("OK"), isDanger = false, act }) {
  return new Promise((resolve) => {
    const inputs = fields.map((field) => [field, input(field)]);
    const error = h("div", {});
    const submit = h("button", { class: `main ${isDanger ? "danger" : ""}` }, submitLabel);
    const close = (value) => { dialog.close(); dialog.remove(); resolve(value); };
    const heading = `dialog-${++dialogs}`;
    const dialog = h("dialog", { "aria-labelledby": heading },
      h("form", {
        method: "dialog",
        onsubmit: async (event) => {
          event.preventDefault();
          submit.disabled = true;
          try {
            const values = readAll(inputs);
            close(act ? ((await act(values)) ?? true) : values);
          } catch (failure) {
            fill(error, problem(failure));
            submit.disabled = false;
          }
        },
      },
      h("h2", { id: heading }, title), text && h("div", {}, text),
      inputs.map(([field, element]) => labelled(field, element)), error,
      h("div", { class: "actions end" }, h("button", { type: "button", onclick: () => close(null) }, t("Back")), submit)));
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(null); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function input(field) {
  const common = { name: field.name, required: field.required, value: field.value ?? "" };
  if (field.options) {
    const options = field.options.map(([value, text]) => h("option", { value }, text));
    const select = h("select", { name: field.name, required: field.required }, options);
    select.value = field.value ?? field.options[0]?.[0] ?? "";
    return select;
  }
  if (field.type === "area") return h("textarea", { ...common, rows: field.rows ?? 3 });
  if (field.type === "check") return h("input", { type: "checkbox", name: field.name, checked: field.value });
  if (field.type === "money") {
    const decimal = (amount) => amount === undefined || amount === "" ? undefined : (amount / 10 ** decimals(field.currency)).toFixed(decimals(field.currency));
    return h("input", {
      ...common, type: "number", value: decimal(field.value) ?? "", min: decimal(field.min ?? 0), max: decimal(field.max),
      step: field.currencyField ? "any" : 10 ** -decimals(field.currency), inputmode: "decimal", autocomplete: "off",
    });
  }
  return h("input", {
    ...common, type: field.type ?? "text", min: field.min, max: field.max, step: field.step,
    autocomplete: field.autocomplete ?? "off", placeholder: field.placeholder,
  });
}

export function labelled(field, element) {
  const help = field.help && h("span", { class: "help" }, field.help);
  return field.type === "check"
    ? h("label", { class: "check" }, element, h("span", {}, field.label, help))
    : h("label", {}, field.label, element, help);
}

/** The values of a form's fields, by name. Amounts of money are in minor units of the field's currency, or of that in another field. */
export function readAll(inputs) {
  const values = Object.fromEntries(inputs.map(([field, element]) => [field.name, read(field, element)]));
  for (const [field] of inputs.filter(([{ type }]) => type === "money")) {
    const text = values[field.name];
    const currency = field.currencyField ? values[field.currencyField] : field.currency;
    values[field.name] = text === undefined ? undefined : minorUnits(text, currency, field.label);
  }
  return values;
}

function read(field, element) {
  if (field.type === "check") return element.checked;
  if (field.type === "number") return element.value === "" ? undefined : Number(element.value);
  return element.value.trim() === "" ? undefined : element.value;
}
