// The zones of a month as SVG, drawn from its GeoJSON: names and values on hover and by keyboard, zoom, no tiles and no network.

import { h } from "./dom.js";
import { number, plural } from "./format.js";

const HEIGHT = 900, FARTHEST = 12;

/** The map of a FeatureCollection whose zones have the properties zone_id, zone and num_trips. */
export function zoneMap(collection, title) {
  const rings = ({ type, coordinates }) => (type === "Polygon" ? coordinates : coordinates.flat());
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { geometry } of collection.features) for (const ring of rings(geometry)) grow(box, ring);
  const [west, south, east, north] = box;
  const scale = HEIGHT / (north - south);
  const across = scale * Math.cos((((north + south) / 2) * Math.PI) / 180); // a degree of longitude is shorter
  const width = (east - west) * across;
  const most = Math.max(1, ...collection.features.map(({ properties }) => properties.num_trips));
  const ranked = [...collection.features].sort((one, other) => other.properties.num_trips - one.properties.num_trips);

  const reading = h("output", { class: "reading", "aria-live": "off" }, "Point at a zone, or move from zone to zone with the arrow keys.");
  const outline = h("path", { class: "outline" });
  const zones = ranked.map(({ properties, geometry }, rank) => {
    const points = rings(geometry).map((ring) => ring.map(([x, y]) => [(x - west) * across, (north - y) * scale]));
    const edge = [Infinity, Infinity, -Infinity, -Infinity];
    points.forEach((ring) => grow(edge, ring));
    const share = Math.sqrt(properties.num_trips / most);
    const text = `${properties.zone}: ${plural(properties.num_trips, "pickup")}`;
    const path = h("path", { d: points.map((ring) => `M${ring.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`).join(""), "fill-rule": "evenodd",
      role: "img", "aria-label": text, tabindex: rank ? "-1" : "0", style: { "--share": `${Math.round(100 * share)}%` } });
    const label = h("text", { x: (edge[0] + edge[2]) / 2, y: (edge[1] + edge[3]) / 2, class: share > 0.55 ? "on-dark" : null, "aria-hidden": "true" }, properties.zone);
    return { id: properties.zone_id, name: properties.zone, text: `${text}, ${ordinal(rank + 1)} of ${ranked.length}`, path, label, x: (edge[0] + edge[2]) / 2, y: (edge[1] + edge[3]) / 2, width: edge[2] - edge[0] };
  });
  const of = new Map(zones.map((zone) => [zone.path, zone]));

  const svg = h("svg", { class: "map", role: "group", "aria-label": title }, zones.map(({ path }) => path), outline, zones.map(({ label }) => label));
  let view = [0, 0, width, HEIGHT];
  const show = () => {
    svg.setAttribute("viewBox", view.map((value) => value.toFixed(1)).join(" "));
    const size = view[3] / 42; // of letters, the same on the screen at any zoom
    for (const zone of zones) {
      zone.label.style.fontSize = `${size}px`;
      zone.label.style.display = zone.width > zone.name.length * size * 0.55 ? "" : "none";
    }
  };
  const zoom = (factor, [x, y] = [view[0] + view[2] / 2, view[1] + view[3] / 2]) => {
    const height = Math.min(HEIGHT, Math.max(HEIGHT / FARTHEST, view[3] / factor));
    const by = height / view[3];
    view = [x - (x - view[0]) * by, y - (y - view[1]) * by, view[2] * by, height];
    keepInside();
  };
  const keepInside = () => {
    view[0] = Math.min(Math.max(view[0], 0), width - view[2]);
    view[1] = Math.min(Math.max(view[1], 0), HEIGHT - view[3]);
    show();
  };
  const tell = (zone) => {
    reading.textContent = zone.text;
    outline.setAttribute("d", zone.path.getAttribute("d"));
  };
  const place = (event) => {
    const matrix = svg.getScreenCTM().inverse();
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    return [point.x, point.y];
  };

  svg.addEventListener("pointerover", (event) => of.has(event.target) && tell(of.get(event.target)));
  svg.addEventListener("focusin", (event) => of.has(event.target) && tell(of.get(event.target)));
  svg.addEventListener("dblclick", (event) => zoom(2, place(event)));
  // Without Ctrl the wheel scrolls the page, as it does beside the map.
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1 / 1.25 : 1.25, place(event));
  }, { passive: false });
  let from = null;
  svg.addEventListener("pointerdown", (event) => { from = event.button ? null : place(event); });
  svg.addEventListener("pointerleave", () => { from = null; });
  svg.addEventListener("pointerup", () => { from = null; });
  svg.addEventListener("pointermove", (event) => {
    if (!from || view[3] >= HEIGHT) return;
    const to = place(event);
    view[0] += from[0] - to[0];
    view[1] += from[1] - to[1];
    keepInside();
  });
  svg.addEventListener("keydown", (event) => {
    const zone = of.get(event.target);
    if (event.key === "+" || event.key === "=") zoom(1.5, zone && [zone.x, zone.y]);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") zoom(1 / FARTHEST);
    else if (zone && event.key.startsWith("Arrow")) {
      const next = nearest(zones, zone, event.key);
      if (next) {
        zone.path.setAttribute("tabindex", "-1");
        next.path.setAttribute("tabindex", "0");
        next.path.focus({ preventScroll: true });
      }
    } else return;
    event.preventDefault();
  });
  show();

  const button = (label, text, factor) => h("button", { class: "quiet", "aria-label": label, title: label, onclick: () => zoom(factor) }, text);
  const node = h("figure", { class: "zones" }, h("div", { class: "stage" }, svg,
    h("div", { class: "zoom" }, button("Zoom in", "+", 1.5), button("Zoom out", "−", 1 / 1.5), button("Show the whole map", "⤢", 1 / FARTHEST))),
    reading, h("div", { class: "scale" }, h("span", null, "0"), h("i"), h("span", null, plural(most, "pickup"))),
    h("figcaption", { class: "hint" }, [title, collection.source].filter(Boolean).join("; "), ". Double-click or Ctrl and the wheel zoom; drag moves."));
  return { node, point: (id) => { const zone = zones.find((each) => each.id === id); if (zone) tell(zone); } };
}

function grow(box, points) {
  for (const [x, y] of points) {
    box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
  }
}

/** The next zone in the direction of an arrow key: near, and not too far to the side. */
function nearest(zones, from, key) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  let best = null, least = Infinity;
  for (const zone of zones) {
    const ahead = (zone.x - from.x) * dx + (zone.y - from.y) * dy;
    const aside = Math.abs((zone.x - from.x) * dy) + Math.abs((zone.y - from.y) * dx);
    if (ahead > 0.5 && ahead + 2 * aside < least) [best, least] = [zone, ahead + 2 * aside];
  }
  return best;
}

function ordinal(count) {
  const teen = count % 100 > 10 && count % 100 < 14;
  return `${number(count)}${(!teen && { 1: "st", 2: "nd", 3: "rd" }[count % 10]) || "th"}`;
}
