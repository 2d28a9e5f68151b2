// Makes elements. Text is always text and never markup, so no value of the data can become an element or a script.

const SVG = new Set(["svg", "g", "path", "rect", "text", "line"]);

/** An element, such as h("a", {href, class: "x", onclick}, "text", child). Children that are null or false are left out. */
export function h(tag, attributes, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) set(node, name, value);
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

function set(node, name, value) {
  if (value == null || value === false) return;
  if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (name === "style") Object.entries(value).forEach(([key, text]) => node.style.setProperty(key, text));
  // "#/…" alone would lead to the address in Airflow 3's <base>, which is not this page's.
  else if (name === "href" && value.startsWith("#")) node.setAttribute(name, `${location.pathname}${location.search}${value}`);
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** A table with a caption. Columns are {title, number} and rows are lists of texts or nodes; the first cell heads its row. */
export function table(caption, columns, rows, attributes) {
  const side = (column) => (column.number ? "number" : null);
  const head = h("tr", null, columns.map((column) => h("th", { scope: "col", class: side(column) }, column.title)));
  const body = rows.map((cells) =>
    h("tr", null, cells.map((cell, at) => h(at ? "td" : "th", { scope: at ? null : "row", class: side(columns[at]) }, cell ?? "–"))),
  );
  const made = h("table", attributes, h("caption", null, caption), h("thead", null, head), h("tbody", null, body));
  // It scrolls by itself in a narrow window, and with the keyboard, too.
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

/** Terms and their descriptions; a pair whose description is null is left out. */
export function facts(pairs) {
  return h("dl", null, pairs.filter(([, value]) => value != null).map(([term, value]) => [h("dt", null, term), h("dd", null, value)]));
}

/** A function that shows parts in a place, and makes a part again only if its data has changed: focus and zoom stay. */
export function keeper(place) {
  const shown = new Map();
  return (parts) => {
    const nodes = [];
    const names = new Set(parts.map(({ name }) => name));
    for (const name of [...shown.keys()]) if (!names.has(name)) shown.delete(name);
    for (const { name, data, make } of parts) {
      const signature = JSON.stringify(data) ?? "";
      const before = shown.get(name);
      if (before?.signature === signature) {
        nodes.push(before.node);
        continue;
      }
      const focused = before && focusKey(before.node);
      const node = make();
      shown.set(name, { signature, node, focused });
      nodes.push(node);
    }
    if (nodes.length !== place.children.length || nodes.some((node, at) => place.children[at] !== node)) place.replaceChildren(...nodes);
    for (const part of shown.values()) {
      if (part.focused) part.node.querySelector(`[data-key="${CSS.escape(part.focused)}"]`)?.focus({ preventScroll: true });
      part.focused = null;
    }
  };
}

function focusKey(node) {
  const active = node.getRootNode().activeElement;
  return active && node.contains(active) ? active.dataset.key : null;
}
