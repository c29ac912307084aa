// Pictures of numbers, each with its numbers in words for who does not see it.

import { h, s } from "./dom.js";

const WIDTH = 600, HEIGHT = 160, BOTTOM = 18, LEFT = 40;

function frame(title, most, labels) {
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": title });
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - 12);
  for (const value of [0, most / 2, most]) {
    picture.append(s("line", { x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value), class: "axis" }),
      s("text", { x: LEFT - 5, y: y(value) + 3, "text-anchor": "end" }, compact(value)));
  }
  const step = (WIDTH - LEFT) / Math.max(1, labels.length);
  labels.forEach((label, index) => {
    const isShown = labels.length <= 10 || index % Math.ceil(labels.length / 8) === 0;
    if (isShown) picture.append(s("text", { x: LEFT + step * (index + 0.5), y: HEIGHT - 4, "text-anchor": "middle" }, label));
  });
  return { picture, y, x: (index) => LEFT + step * index, step };
}

const compact = (value) => new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 }).format(value);

/** A round number at or above. */
function ceiling(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return Math.ceil(value / power) * power;
}

/** Two bars a label: how many of one, and of the other. */
export function bars(title, labels, ones, twos, [nameOne, nameTwo]) {
  const { picture, y, x, step } = frame(title, ceiling(Math.max(1, ...ones, ...twos)), labels);
  const width = Math.max(1, step * 0.38);
  labels.forEach((label, index) => {
    const bar = (value, offset, kind, name) => picture.append(s("rect", {
      x: x(index) + offset, y: y(value), width, height: Math.max(0, y(0) - y(value)), class: kind,
    }, s("title", {}, `${label}: ${value} ${name}`)));
    bar(ones[index], step * 0.1, "one", nameOne);
    bar(twos[index], step * 0.52, "two", nameTwo);
  });
  return h("figure", {}, picture, h("figcaption", { class: "help" },
    `${nameOne}: ${sum(ones)}, ${nameTwo}: ${sum(twos)}, over ${labels.length} days`));
}

/** A line over labels. */
export function line(title, labels, values, caption) {
  const { picture, y, x, step } = frame(title, ceiling(Math.max(1, ...values)), labels);
  const points = values.map((value, index) => `${x(index) + step / 2},${y(Math.max(0, value))}`).join(" ");
  picture.append(s("polyline", { points, class: "one line" }));
  return h("figure", {}, picture, h("figcaption", { class: "help" }, caption));
}

const sum = (values) => values.reduce((all, value) => all + value, 0);
