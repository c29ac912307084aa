// Bar and line charts in SVG, each with a caption that gives its numbers as text.

import { h, s } from "./dom.js";

const WIDTH = 600, HEIGHT = 160, BOTTOM = 18, LEFT = 40;

/** The axes and labels of a chart with values from 0 to `max`. */
function frame(title, max, labels) {
  const chart = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": title });
  const y = (value) => HEIGHT - BOTTOM - (value / max) * (HEIGHT - BOTTOM - 12);
  for (const value of [0, max / 2, max]) {
    chart.append(s("line", { x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value), class: "axis" }),
      s("text", { x: LEFT - 5, y: y(value) + 3, "text-anchor": "end" }, compact(value)));
  }
  const step = (WIDTH - LEFT) / Math.max(1, labels.length);
  labels.forEach((label, index) => {
    const isShown = labels.length <= 10 || index % Math.ceil(labels.length / 8) === 0;
    if (isShown) chart.append(s("text", { x: LEFT + step * (index + 0.5), y: HEIGHT - 4, "text-anchor": "middle" }, label));
  });
  return { chart, y, x: (index) => LEFT + step * index, step };
}

const compact = (value) => new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 }).format(value);

/** The next round number at or above `value`. */
function ceiling(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return Math.ceil(value / power) * power;
}

/** A bar chart with two bars for each label. */
export function barChart(title, labels, first, second, [firstName, secondName]) {
  const { chart, y, x, step } = frame(title, ceiling(Math.max(1, ...first, ...second)), labels);
  const width = Math.max(1, step * 0.38);
  labels.forEach((label, index) => {
    const bar = (value, offset, kind, name) => chart.append(s("rect", {
      x: x(index) + offset, y: y(value), width, height: Math.max(0, y(0) - y(value)), class: kind,
    }, s("title", {}, `${label}: ${value} ${name}`)));
    bar(first[index], step * 0.1, "one", firstName);
    bar(second[index], step * 0.52, "two", secondName);
  });
  return h("figure", {}, chart, h("figcaption", { class: "help" },
    `${firstName}: ${sum(first)}, ${secondName}: ${sum(second)}, over ${labels.length} days`));
}

/** A line chart. */
export function lineChart(title, labels, values, caption) {
  const { chart, y, x, step } = frame(title, ceiling(Math.max(1, ...values)), labels);
  const points = values.map((value, index) => `${x(index) + step / 2},${y(Math.max(0, value))}`).join(" ");
  chart.append(s("polyline", { points, class: "one line" }));
  return h("figure", {}, chart, h("figcaption", { class: "help" }, caption));
}

const sum = (values) => values.reduce((all, value) => all + value, 0);
