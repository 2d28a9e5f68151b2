// The outputs as thumbnails, newest first; each leads to its own page.

import { h } from "./dom.js";
import { plural } from "./format.js";

const AT_FIRST = 12;

/** Folders as `Api.outputs` returns them. */
export function outputs(folders, all) {
  if (!folders.length) return h("p", null, "There are no outputs yet. Run a DAG, and its outputs will be listed here.");
  const files = (output) => h("span", null, output.files.map((file) => [" ", h("a", { href: file.url, download: file.name, "aria-label": `Download ${file.name}` }, file.kind)]));
  return h("section", { "aria-label": "Outputs" }, h("p", { class: "hint" }, h("a", { href: all }, "The same as a list")), folders.map((folder) => {
    const newest = [...folder.outputs].reverse();
    const cards = newest.map((output, at) => h("li", { class: "thumb", hidden: at >= AT_FIRST },
      h("a", { href: output.page }, output.picture ? h("img", { src: output.picture, loading: "lazy", alt: "", width: "180", height: "140" }) : h("span", { class: "no-picture", "aria-hidden": "true" }, "▦"), h("span", null, output.title)), files(output)));
    const more = newest.length > AT_FIRST && h("button", { onclick: () => { cards.forEach((card) => { card.hidden = false; }); more.remove(); } }, `Show all ${plural(newest.length, "output")}`);
    return h("section", null, h("h3", null, folder.title), h("ul", { class: "thumbs" }, cards), more);
  }));
}
