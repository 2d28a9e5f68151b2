// The outputs of a folder: a year of a fleet's, or the results of requests. Pictures are thumbnails, which load when they are seen.

import { h, keeper, table } from "./dom.js";
import { bytes, monthName, number, time } from "./format.js";

const address = (...names) => `#/outputs/${names.map(encodeURIComponent).join("/")}`;

export class Outputs {
  /** `all` is the address of the list of all outputs; `link` makes a link to a page of Airflow. */
  constructor({ link, all }) {
    Object.assign(this, { link, all });
    this.node = h("section", { "aria-label": "Outputs" });
    this.#show = keeper(this.node);
  }

  #show;

  update(data) {
    const { folders, folder, page, pages, whole, more, months, requests, dbt_docs: tables } = data;
    if (!folder) {
      this.#show([{ name: "none", make: () => h("p", null, "There are no outputs yet. Run a DAG, and its outputs will be shown here.") }]);
      return;
    }
    const about = pages.find(({ name }) => name === page)?.title;
    this.#show([
      { name: "folders", data: [folders, folder], make: () => tabs("Folders", folders.map(({ name, title }) => ({ title, href: address(name), here: name === folder }))) },
      { name: "head", data: [folder, about], make: () => h("h2", { tabindex: "-1" }, data.title, about && `, ${about}`) },
      pages.length && { name: "pages", data: [folder, pages, page], make: () => tabs(requests ? "Pages" : "Years", pages.map(({ name, title }) => ({ title, href: address(folder, name), here: name === page }))) },
      requests && { name: "ask", data: [requests.may, requests.why_not, requests.dag_url], make: () => this.#ask(requests) },
      requests?.unfinished.length && { name: "unfinished", data: requests.unfinished, make: () => this.#unfinished(requests.unfinished) },
      requests && { name: "results", data: requests.results, make: () => this.#results(requests.results) },
      months.length && { name: "months", data: months, make: () => h("section", null, h("h3", null, "By month"), cards(months.flatMap(({ month, outputs }) => outputs.map((output) => this.#ofMonth(folder, month, output))))) },
      whole.length && { name: "whole", data: [whole, more], make: () => this.#whole(whole, more) },
      { name: "all", data: tables, make: () => h("p", { class: "hint" }, h("a", { href: this.all }, "A list of all outputs, without pictures"), tables && [", ", h("a", { href: tables }, "dbt's description of all tables and columns")]) },
    ].filter(Boolean));
  }

  /** After another folder or year was chosen, the keyboard and a screen reader go on at its heading. */
  focus() {
    this.node.querySelector("h2")?.focus({ preventScroll: true });
  }

  #ofMonth(folder, month, output) {
    return card(output, h("a", { href: `#/${folder}/${month}`, "aria-label": `The month ${monthName(month)}` }, "The month"));
  }

  #whole(whole, more) {
    return h("section", null, h("h3", null, "Of all months"), cards(whole.map((output) => card(output))), more ? h("p", { class: "hint" }, `${number(more)} older ones are in the list.`) : null);
  }

  #ask({ may, why_not: reason, dag_url: url }) {
    if (!url) return h("p", { class: "hint" }, "You may see these results, but not the DAG that makes them.");
    return h("p", { class: "hint" }, may ? ["Ask for a report: ", this.link(url, "adhoc_request"), ", ", h("i", null, "Trigger"), "."] : ["These reports are made by ", this.link(url, "adhoc_request"), ". ", reason]);
  }

  #unfinished(unfinished) {
    return h("section", null, h("h3", null, "Without a result"), table("Requests that have no result, newest first", [{ title: "Name" }, { title: "State" }, { title: "Asked for" }, { title: "Asked" }, { title: "Run" }],
      unfinished.map((each) => [each.name, h("span", { class: each.state === "failed" ? "bad" : null }, each.state), each.request && wish(each.request), when(each), this.link(each.url, each.run_id)])));
  }

  #results(results) {
    if (!results.length) return h("p", null, "No request has a result yet.");
    return h("section", null, h("h3", null, "Results"), cards(results.map((result) => card(result,
      result.request && h("span", null, wish(result.request)),
      result.run && h("span", { class: "hint" }, "Asked ", when(result.run), ", ", this.link(result.run.url, "run"))))));
  }
}

const when = ({ asked_at: at, by }) => `${time(at)}${by ? ` by ${by}` : ""}`;

/** "Queens, green, 2023-01-01 to 2023-01-31" */
const wish = ({ borough, fleet, start_date: first, end_date: last }) => `${borough}, ${fleet}, ${first === last ? first : `${first} to ${last}`}`;

const tabs = (label, links) => h("nav", { "aria-label": label, class: "choice" }, links.map(({ title, href, here }) => h("a", { href, "aria-current": here ? "page" : null }, title)));

const cards = (made) => h("ul", { class: "thumbs" }, made);

function card(output, ...more) {
  const picture = output.thumbnail
    ? h("img", { src: output.thumbnail, loading: "lazy", decoding: "async", alt: "", width: "180", height: "210" })
    : h("span", { class: "no-picture", "aria-hidden": "true" }, "▦");
  const download = ({ url, name, label, bytes: size }) => [" ", h("a", { href: url, download: name, title: `${name}, ${bytes(size)}`, "aria-label": `${label}: download ${name}, ${bytes(size)}` }, label)];
  return h("li", { class: "thumb", title: `Made ${time(output.made_at)}` }, h("a", { href: output.url }, picture, h("span", null, output.title)), h("span", null, output.files.map(download)), ...more.filter(Boolean));
}
