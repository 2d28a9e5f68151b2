// The page "Taxi warehouse". It stands in a shadow root, so that no style comes in and none goes out. Nothing is built.

import { Actions, obstacle, PAUSED, progressBars } from "./actions.js";
import { Api } from "./api.js";
import { h, keeper } from "./dom.js";
import { ago, plural, spanNames, time } from "./format.js";
import { Grid } from "./grid.js";
import { Month } from "./month.js";
import { Outputs } from "./outputs.js";
import { Resource } from "./resource.js";

const BUSY = 5_000, QUIET = 60_000;
const VIEWS = [["", "Months"], ["resource", "Resource"], ["outputs", "Outputs"]];

/**
 * Show the page in an element. Returns a function that ends it.
 * `env` is {base, airflow: 3 or 2, airflowBase, navigate: a function of a path, or null, csrf: a token, or null}.
 */
export function mount(element, env) {
  const page = new Page(element, env);
  page.start();
  return () => page.end();
}

class Page {
  constructor(element, env) {
    this.env = env;
    this.api = new Api(env);
    this.stop = new AbortController();
    this.data = null;
    this.part = { key: null, data: null };
    this.wasBusy = false; // at the refresh before, or something has just been started
    this.underWay = []; // the titles of the backfills that were shown last
    this.shadow = element.shadowRoot ?? element.attachShadow({ mode: "open" });
    const link = (url, ...text) => this.#link(url, text);
    this.trouble = h("div", { role: "alert" });
    this.live = h("p", { class: "said", role: "status" });
    this.notes = h("div");
    this.progress = h("section", { "aria-label": "Backfills under way", hidden: true });
    this.selection = h("section", { class: "selection", "aria-label": "Selection", hidden: true });
    this.tabs = h("nav", { "aria-label": "Taxi warehouse" }, VIEWS.map(([view, title]) => h("a", { href: `#/${view}`, "data-view": view }, title)));
    this.asOf = h("p", { class: "hint" });
    this.main = h("div");
    this.root = h("div", { class: "page" }, h("header", null, h("h1", null, "Taxi warehouse"), this.tabs, h("span", { class: "space" }), this.asOf, !env.navigate && h("a", { href: `${env.airflowBase}/` }, "Airflow")), this.trouble, this.notes, this.live, this.progress, this.main);
    this.actions = new Actions(this.api, env, { root: this.root, started: () => this.grid.clear(), done: () => { this.wasBusy = true; return this.refresh(); }, say: (text, isBad) => this.say(text, isBad) });
    const open = (fleet, month) => { location.hash = `#/${fleet}/${month}`; };
    this.grid = new Grid({ open, select: () => this.#drawSelection(), say: (text) => this.say(text), link });
    this.month = new Month({ api: this.api, actions: this.actions, open, close: () => { location.hash = "#/"; }, link });
    this.resource = new Resource({ link });
    this.outputs = new Outputs({ link, all: `${this.api.outputsBase}/outputs` });
    this.showNotes = keeper(this.notes);
  }

  async start() {
    const style = h("link", { rel: "stylesheet", href: `${this.env.base}/static/style.css` });
    const loaded = new Promise((resolve) => { style.onload = style.onerror = resolve; });
    this.shadow.replaceChildren(style);
    await loaded; // so that nothing is seen without its style
    if (this.stop.signal.aborted) return;
    this.shadow.append(this.root);
    const on = { signal: this.stop.signal };
    addEventListener("hashchange", () => this.#route(), on);
    document.addEventListener("visibilitychange", () => { clearTimeout(this.timer); if (!document.hidden) this.refresh(); }, on);
    await this.#route();
  }

  end() {
    this.stop.abort();
    this.grid.stop.abort();
    clearTimeout(this.timer);
    this.shadow.replaceChildren();
  }

  say(text, isBad = false) {
    this.live.textContent = text;
    this.live.classList.toggle("bad", isBad);
  }

  /** The address: "#/", "#/resource", "#/outputs/green/2023" (or a part of it) or "#/green/2023-01". */
  #where() {
    const [first = "", second = "", third = ""] = location.hash.replace(/^#\/?/, "").split("/");
    if (first === "outputs") return { view: first, folder: decoded(second), page: decoded(third) };
    return /^\d{4}-\d{2}$/.test(second) ? { view: "month", fleet: first, month: second } : { view: VIEWS.some(([view]) => view === first) ? first : "" };
  }

  async #route() {
    const before = this.at;
    this.at = this.#where();
    for (const tab of this.tabs.children) {
      const isHere = tab.dataset.view === (this.at.view === "month" ? "" : this.at.view);
      if (isHere) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    this.part = { key: null, data: null };
    this.main.replaceChildren(h("p", { class: "hint" }, "Loading …"));
    if (this.at.view === "" && this.data) this.#draw(); // at once; then its newest state
    if (before) this.say("");
    if (before?.view === "month" && this.at.view === "") this.grid.focus(before.fleet, before.month);
    await this.refresh();
    if (before && this.at.view === "month") this.month.head.querySelector("h2")?.focus();
    if (before?.view === "outputs" && this.at.view === "outputs") this.outputs.focus();
  }

  /** Read everything that is shown, and plan the next time. What was read last stays when a request fails. */
  async refresh() {
    clearTimeout(this.timer);
    const at = this.at;
    const turn = (this.turn = {});
    const current = () => turn === this.turn && !this.stop.signal.aborted; // no later refresh has begun
    const key = JSON.stringify(at);
    const [grid, part] = await Promise.allSettled([this.api.grid(), this.#read(at)]);
    if (!current()) return;
    if (grid.value) [this.data, this.readAt] = [grid.value, grid.value.now];
    if (at.view && part.value) this.part = { key, data: part.value };
    const error = grid.reason ?? part.reason;
    const kept = this.data && (!at.view || this.part.key === key) ? ` What is shown is from ${time(this.readAt)}.` : "";
    this.#complain(error ? `The page's data could not be read: ${error.message}.${kept} ` : "");
    if (!this.data || at.view && this.part.key !== key) this.main.replaceChildren(...(at.view ? [h("p", null, h("a", { href: "#/" }, "← All months"))] : []));
    if (this.data) {
      this.#draw();
      if (grid.value) await this.#drawProgress(current);
    }
    if (document.hidden || !current()) return;
    // Once more soon after the end: what was asked at the same moment may still have been as before.
    const isBusy = Boolean(this.data?.is_busy);
    this.timer = setTimeout(() => this.refresh(), isBusy || this.wasBusy ? BUSY : QUIET);
    this.wasBusy = isBusy;
  }

  /** Say what is wrong; only once, because each change is read aloud and takes the focus from the button. */
  #complain(text) {
    if (this.trouble.shown === text) return;
    this.trouble.shown = text;
    this.trouble.replaceChildren(...(text ? [h("p", { class: "note bad" }, text, h("button", { onclick: () => this.refresh() }, "Try again"))] : []));
  }

  #read(at) {
    if (at.view === "month") return this.api.month(at.fleet, at.month);
    if (at.view === "resource") return this.api.resource();
    return at.view === "outputs" ? this.api.outputs(at.folder, at.page) : null;
  }

  #draw() {
    const { data, at, part } = this;
    this.asOf.replaceChildren(data.snapshot ? `As of ${ago(data.snapshot.written_at, data.now)}` : "", data.is_busy ? " · running" : "");
    this.asOf.title = data.snapshot ? `${data.snapshot.kind === "lake" ? "Lake" : "File"} ${data.snapshot.place}, ${time(data.snapshot.written_at)}` : "";
    this.showNotes([!data.snapshot && { name: "snapshot", data: data.hint, make: () => h("p", { class: "note" }, data.hint ?? "Nothing is known of what is loaded: no task has written the warehouse's snapshot yet.") }].filter(Boolean));
    if (at.view === "") {
      this.grid.update(data);
      this.#show(this.selection, this.grid.node);
      this.#drawSelection();
    } else if (part.key === JSON.stringify(at)) {
      if (at.view === "month") {
        this.month.update(part.data, { states: data.states, dagId: data.fleets.find(({ name }) => name === at.fleet)?.dag_id });
        this.#show(this.month.node);
      } else if (at.view === "resource") {
        this.resource.update(part.data, data.now);
        this.#show(this.resource.node);
      } else {
        this.outputs.update(part.data);
        this.#show(this.outputs.node);
      }
    }
  }


  #show(...nodes) {
    const wanted = nodes.filter(Boolean);
    if (wanted.length !== this.main.children.length || wanted.some((node, at) => this.main.children[at] !== node)) this.main.replaceChildren(...wanted);
  }

  #drawSelection() {
    const { fleet, months } = this.grid.months();
    this.selection.hidden = !months.length;
    if (!months.length) return;
    const names = months.map(({ month }) => month);
    const reason = obstacle({ may: fleet.may_trigger, why_not: fleet.why_not, is_paused: fleet.is_paused });
    const signature = JSON.stringify([fleet.name, months, reason]);
    if (this.selection.shown === signature) return;
    this.selection.shown = signature;
    const focused = this.shadow.activeElement?.dataset?.key;
    this.selection.replaceChildren(h("b", null, `${fleet.title}: ${plural(months.length, "month")} selected`), h("span", null, spanNames(names)),
      reason ? h("span", { class: "hint", "data-test": "why-not" }, reason) : h("button", { class: "main", "data-key": "backfill", onclick: () => this.actions.backfill(fleet, months) }, "Backfill the selection …"),
      h("button", { class: "quiet", "data-key": "none", onclick: () => this.grid.clear() }, "Select none"));
    if (focused) this.selection.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  /** Backfills are asked for only where something is under way, and only for those who may also end them. */
  async #drawProgress(current) {
    const fleets = this.data.fleets.filter((fleet) => fleet.may_trigger && (fleet.has_backfill || fleet.months.some(({ state }) => ["queued", "running"].includes(state))));
    let list = [];
    try {
      list = (await Promise.all(fleets.map((fleet) => this.actions.progress(fleet)))).flat();
    } catch (error) {
      if (current()) this.say(`How far the backfills are is not known: ${error.message}.`, true);
      return;
    }
    if (!current()) return;
    const signature = JSON.stringify(list);
    if (this.progress.shown === signature) return;
    this.progress.shown = signature;
    const ended = this.underWay.filter((title) => !list.some((each) => each.title === title));
    if (ended.length) this.say(`${ended.join(", ")}: ended.`);
    this.underWay = list.map(({ title }) => title);
    this.progress.hidden = !list.length;
    const focused = this.progress.contains(this.shadow.activeElement) && this.shadow.activeElement.dataset.key;
    this.progress.replaceChildren(...(list.length ? [h("h2", null, "Backfills under way"), fleets.some(({ is_paused: paused }) => paused) && h("p", { class: "note" }, PAUSED), progressBars(list)].filter(Boolean) : []));
    if (focused) this.progress.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  /** A link that Airflow 3 follows without loading its whole UI again. */
  #link(url, text) {
    if (!url) return h("span", null, ...text);
    if (url.startsWith("#")) return h("a", { href: url }, ...text);
    const { airflowBase, navigate } = this.env;
    const outside = /^[a-z]+:/i.test(url);
    const href = outside || (airflowBase && url.startsWith(`${airflowBase}/`)) ? url : airflowBase + url;
    const inside = href.slice(airflowBase.length);
    if (outside && !/^https?:/i.test(url)) return h("span", null, ...text);
    const follow = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      navigate(inside);
    };
    return h("a", { href, onclick: navigate && inside.startsWith("/dags/") ? follow : null }, ...text);
  }
}

/** A part of the address as text; one that is not well encoded stays as it is. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
