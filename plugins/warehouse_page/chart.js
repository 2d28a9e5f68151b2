// Small bar charts of a month and those before it.

import { h } from "./dom.js";
import { monthName } from "./format.js";

const WIDTH = 320, HEIGHT = 64;

/**
 * A bar a month. `bars` are {month, parts: [{name, value}]}; several parts are stacked.
 * `current` is the month that is emphasized, `format` writes a value, `open` is called with the month that was clicked.
 */
export function bars(title, data, { current, format, open }) {
  const total = (bar) => bar.parts.reduce((sum, { value }) => sum + (value ?? 0), 0);
  const known = data.filter((bar) => bar.parts.some(({ value }) => value != null));
  if (!known.length) return null;
  const most = Math.max(...known.map(total));
  const step = WIDTH / Math.max(data.length, 12);
  const reading = h("output", { class: "hint" });
  const tell = (bar) => {
    const parts = bar.parts.length > 1 ? ` (${bar.parts.filter(({ value }) => value != null).map(({ name, value }) => `${name} ${format(value)}`).join(", ")})` : "";
    reading.textContent = known.includes(bar) ? `${monthName(bar.month)}: ${format(total(bar))}${parts}` : `${monthName(bar.month)}: nothing`;
  };
  const here = data.find(({ month }) => month === current) ?? known.at(-1);
  const groups = data.map((bar, at) => {
    let top = HEIGHT;
    const rects = bar.parts.map(({ value }, part) => {
      const height = most ? (HEIGHT * (value ?? 0)) / most : 0;
      top -= height;
      return h("rect", { class: `part-${part}`, x: at * step + 0.5, y: top, width: Math.max(step - 1.5, 1), height });
    });
    const area = h("rect", { class: "area", x: at * step, y: 0, width: step, height: HEIGHT });
    return h("g", { class: bar.month === current ? "current" : null, onpointerenter: () => tell(bar), onclick: () => open?.(bar.month) }, area, rects);
  });
  tell(here);
  const summary = `${title}: ${reading.textContent}; at most ${format(most)} from ${monthName(data[0].month)} to ${monthName(data.at(-1).month)}`;
  const svg = h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": summary, onpointerleave: () => tell(here) },
    h("line", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), groups);
  return h("figure", { class: "chart" }, h("figcaption", null, h("b", null, title), reading), svg,
    h("div", { class: "axis", "aria-hidden": "true" }, h("span", null, data[0].month), h("span", null, `max ${format(most)}`), h("span", null, data.at(-1).month)));
}
