// Column charts by day in SVG. The arrow keys move through the days, and a table has the same numbers.

import { fill, h, s, table } from "./dom.js";
import { language, t } from "./i18n.js";

const HEIGHT = 190, BOTTOM = 22, TOP = 24, LEFT = 58;
/** Width of charts before their first layout, and the last width of one afterwards. */
let lastWidth = 560;
/** Width that the label of a day needs. */
const LABEL_WIDTH = 64;

/** The next number with one significant digit, or 1.5, 2.5 …, at or above `value`. */
function ceiling(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value)) / 2;
  return Math.ceil(value / power) * power;
}

const dayFormat = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", timeZone: "UTC" });
const longDayFormat = new Intl.DateTimeFormat(language, { weekday: "short", day: "numeric", month: "long", timeZone: "UTC" });
const dayLabel = (day) => dayFormat.format(new Date(`${day}T00:00:00Z`));
const longDayLabel = (day) => longDayFormat.format(new Date(`${day}T00:00:00Z`));

/**
 * A chart with columns for each day, and a dashed line for the period before.
 *
 * `series` are one or two columns: { name, values, style }. `before` is { name, values }. `format` turns a value
 * into text, `tick` into the short text of an axis, and `unit` names the unit of the axis.
 */
export function columnChart({ id, title, unit, days, series, before, format, tick }) {
  const plot = h("div", { class: "plot" });
  const tooltip = h("div", { class: "tooltip", hidden: true });
  let width = lastWidth, current = days.length - 1;

  const lines = (index) => [
    ...series.map(({ name, values }) => [name, values[index]]),
    [before.name, before.values[index]],
  ].map(([name, value]) => t("{name}: {value}", { name, value: value === null || value === undefined ? "–" : format(value) }));

  function show(index, column) {
    current = index;
    fill(tooltip, h("b", {}, longDayLabel(days[index])), lines(index).map((line) => h("div", {}, line)));
    tooltip.hidden = false;
    const left = column.getBoundingClientRect().left - plot.getBoundingClientRect().left;
    tooltip.style.left = `${Math.max(0, Math.min(left, plot.clientWidth - tooltip.offsetWidth))}px`;
  }

  function draw() {
    const chart = s("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, class: "chart", role: "group", "aria-label": t("{title}: use the arrow keys to read the days", { title }) });
    const max = ceiling(Math.max(1, ...series.flatMap(({ values }) => values), ...before.values));
    const y = (value) => HEIGHT - BOTTOM - (Math.max(0, value) / max) * (HEIGHT - BOTTOM - TOP);
    chart.append(s("text", { x: 0, y: 11, class: "unit" }, unit));
    for (const value of [0, max / 2, max]) {
      chart.append(s("line", { x1: LEFT, x2: width, y1: y(value), y2: y(value), class: "axis" }),
        s("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value)));
    }
    const step = (width - LEFT) / days.length;
    const labelEvery = Math.ceil(LABEL_WIDTH / step);
    const columnWidth = Math.max(1, (step * 0.8) / series.length);
    days.forEach((day, index) => {
      const x = LEFT + step * index;
      if (index % labelEvery === 0 && x + LABEL_WIDTH / 2 < width) chart.append(s("text", { x: x + step / 2, y: HEIGHT - 6, "text-anchor": "middle" }, dayLabel(day)));
      const column = s("g", {
        id: `${id}-${index}`, role: "img", tabindex: index === current ? 0 : -1, class: "day",
        "aria-label": [longDayLabel(day), ...lines(index)].join(", "),
      }, s("rect", { x, y: TOP, width: step, height: HEIGHT - BOTTOM - TOP, class: "target" }));
      series.forEach(({ values, style }, number) => {
        const value = values[index] ?? 0;
        column.append(s("rect", { x: x + step * 0.1 + columnWidth * number, y: y(value), width: columnWidth, height: y(0) - y(value), class: style }));
      });
      column.addEventListener("pointerenter", () => show(index, column));
      column.addEventListener("focus", () => show(index, column));
      column.addEventListener("blur", () => { tooltip.hidden = true; });
      column.addEventListener("keydown", (event) => move(event, index));
      chart.append(column);
    });
    const points = before.values.map((value, index) => (value === null ? "" : `${LEFT + step * (index + 0.5)},${y(value)}`)).join(" ");
    chart.append(s("polyline", { points, class: "before line" }));
    chart.addEventListener("pointerleave", () => { tooltip.hidden = true; });
    fill(plot, chart, tooltip);
  }

  function move(event, index) {
    const last = days.length - 1;
    const next = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: last, Escape: index }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (event.key === "Escape") {
      tooltip.hidden = true;
      return;
    }
    const column = plot.querySelector(`#${id}-${Math.max(0, Math.min(last, next))}`);
    plot.querySelector("[tabindex='0']")?.setAttribute("tabindex", -1);
    column.setAttribute("tabindex", 0);
    column.focus();
  }

  draw();
  new ResizeObserver(([{ contentRect }]) => {
    const measured = Math.floor(contentRect.width);
    if (measured < 100 || measured === width) return;
    width = lastWidth = measured;
    const focused = plot.contains(document.activeElement) && document.activeElement.id;
    draw();
    if (focused) document.getElementById(focused)?.focus();
  }).observe(plot);
  const legend = h("ul", { class: "legend" }, series.map(({ name, style }) => h("li", { class: style }, name)), h("li", { class: "before" }, before.name));
  return h("figure", {}, legend, plot, numbers(title, id, days, series, before, format));
}

/** The numbers of a chart as a table, which is built when it is opened. */
function numbers(title, id, days, series, before, format) {
  const content = h("div", {});
  const shown = (value) => (value === null || value === undefined ? "–" : format(value));
  const build = () => fill(content, table(title, [
    [t("Day (UTC)"), (index) => longDayLabel(days[index])],
    ...series.map(({ name, values }) => [name, (index) => shown(values[index]), "number"]),
    [before.name, (index) => shown(before.values[index]), "number"],
  ], days.map((_, index) => index)));
  const details = h("details", { class: "numbers", ontoggle: () => details.open && build() },
    h("summary", { id: `${id}-table` }, t("Show as a table")), content);
  return details;
}
