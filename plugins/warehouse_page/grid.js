// The calendars: a table a fleet, with years as rows and months as columns. A month is a cell, which can be opened and selected.

import { h } from "./dom.js";
import { later, monthName, number, plural, shortMonths, spanNames, time } from "./format.js";

const WEEKS = { counted: "counted", "not counted": "not counted", running: "running", failed: "failed" };

export class Grid {
  #cells = new Map(); // by fleet: Map of month to its cell
  #shape = ""; // what the tables were built for
  #active = new Map(); // by fleet: the month that Tab leads to
  #data = null;
  #anchor = null;
  #drag = null;
  #hidden = new Set(); // fleets that the user has left out
  #chosen = new Set(); // states that the user looks for; all if empty
  #weeks = false;

  /** `open(fleet, month)` shows a month, `select()` is called when the selection has changed, `say(text)` speaks it. */
  constructor({ open, select, say, link }) {
    Object.assign(this, { open, select, say, link });
    this.selected = { fleet: null, months: new Set() };
    this.controls = h("div", { class: "controls" });
    this.fleets = h("div", { class: "fleets" });
    this.node = h("section", { "aria-label": "Months of all fleets" }, this.controls, h("p", { class: "hint", id: "keys" },
      "Click a month to open it. To select several, drag across them, or use Shift and Ctrl (⌘). With the keyboard: arrows move, Shift and arrows select, Space selects one more, Enter opens, Esc selects none."), this.fleets);
    this.stop = new AbortController();
    addEventListener("pointerup", () => { this.#drag = null; }, { signal: this.stop.signal });
  }

  update(data) {
    this.#data = data;
    const shape = JSON.stringify(data.fleets.map((fleet) => [fleet.name, fleet.title, fleet.months.at(0)?.month, fleet.months.at(-1)?.month]));
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#build();
    }
    this.#draw();
  }

  /** Put the focus on a month's cell. */
  focus(fleet, month) {
    this.#activate(fleet, month);
    this.#cells.get(fleet)?.get(month)?.focus();
  }

  /** The months that are selected, in order, as the grid's data has them. */
  months() {
    const fleet = this.#data?.fleets.find(({ name }) => name === this.selected.fleet);
    return { fleet, months: fleet?.months.filter(({ month }) => this.selected.months.has(month)) ?? [] };
  }

  clear() {
    this.#choose(null, []);
  }

  // -- Drawing --

  #build() {
    this.#cells.clear();
    this.sections = this.#data.fleets.map((fleet) => this.#fleet(fleet));
    const none = h("p", { class: "note" }, "There is no fleet here whose DAG you may read.");
    this.fleets.replaceChildren(...(this.sections.length ? this.sections.map(({ node }) => node) : [none]));
  }

  #fleet(fleet) {
    const cells = new Map();
    this.#cells.set(fleet.name, cells);
    const first = fleet.months.at(0)?.month ?? fleet.first_month;
    const last = fleet.months.at(-1)?.month ?? first;
    const rows = [];
    for (let year = Number(last.slice(0, 4)); year >= Number(first.slice(0, 4)); year--) {
      const row = h("tr", null, h("th", { scope: "row" }, String(year)));
      for (let number = 1; number <= 12; number++) {
        const month = `${year}-${String(number).padStart(2, "0")}`;
        if (month < first || month > last) {
          row.append(h("td", { class: "outside", "aria-hidden": "true" }));
          continue;
        }
        const cell = h("td", { role: "gridcell", tabindex: "-1", "aria-selected": "false", "data-month": month },
          h("span", { class: "mark", "aria-hidden": "true" }), h("span", { class: "ticks", "aria-hidden": "true" }));
        cells.set(month, cell);
        row.append(cell);
      }
      rows.push(row);
    }
    const counts = h("span", { class: "hint" });
    const found = h("p", { class: "found" });
    const paused = h("span", { class: "paused" });
    const table = h("table", { role: "grid", class: "calendar", "aria-multiselectable": "true", "aria-describedby": "keys",
      onkeydown: (event) => this.#key(event, fleet.name), onpointerdown: (event) => this.#press(event, fleet.name),
      onpointerover: (event) => this.#over(event, fleet.name), onclick: (event) => this.#click(event, fleet.name),
      onfocusin: (event) => this.#activate(fleet.name, event.target.closest("[data-month]")?.dataset.month) },
      h("caption", null, h("strong", null, fleet.title), " ", counts, " ", paused),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, h("span", { class: "unseen" }, "Year")),
        shortMonths.map((name) => h("th", { scope: "col" }, h("abbr", { title: name, "aria-label": name }, name[0]))))),
      h("tbody", null, rows));
    const head = this.link(`/dags/${encodeURIComponent(fleet.dag_id)}`, fleet.dag_id);
    const select = h("button", { class: "quiet", onclick: () => this.#selectShown(fleet.name) }, "Select them");
    const node = h("article", { class: "fleet", "aria-label": fleet.title }, table, h("p", { class: "hint" }, "DAG ", head), found);
    if (!this.#active.has(fleet.name)) this.#active.set(fleet.name, last);
    return { name: fleet.name, node, counts, found, select, paused };
  }

  #draw() {
    const states = new Map(this.#data.states.map((state) => [state.name, state]));
    this.#drawControls(states);
    this.fleets.classList.toggle("with-weeks", this.#weeks);
    for (const fleet of this.#data.fleets) {
      const section = this.sections.find(({ name }) => name === fleet.name);
      section.node.hidden = this.#hidden.has(fleet.name);
      const weeks = weeksByMonth(fleet.weeks);
      for (const month of fleet.months) this.#drawCell(fleet, month, states.get(month.state), weeks.get(month.month) ?? []);
      const loaded = fleet.months.filter(({ loaded_at: at, rows }) => at || rows != null).length;
      section.counts.textContent = `${number(loaded)} of ${plural(fleet.months.length, "month")} loaded`;
      section.paused.textContent = fleet.is_paused ? "paused" : "";
      section.paused.title = fleet.is_paused ? "The DAG is paused: its runs would wait. Unpausing it starts the catch-up." : "";
      const shown = this.#shown(fleet);
      section.found.hidden = !this.#chosen.size;
      if (this.#chosen.size) section.found.replaceChildren(`${plural(shown.length, "month")}${shown.length ? `: ${spanNames(shown)} ` : ""}`, ...(shown.length ? [section.select] : []));
    }
  }

  #drawCell(fleet, month, state, weeks) {
    const cell = this.#cells.get(fleet.name).get(month.month);
    const selected = this.selected.fleet === fleet.name && this.selected.months.has(month.month);
    const label = describe(month, state) + (weeks.length && this.#weeks ? `; weeks: ${weeks.map((week) => `${week.monday.slice(8)} ${WEEKS[week.state] ?? week.state}`).join(", ")}` : "");
    const others = this.#chosen.size && !this.#chosen.has(month.state);
    const signature = JSON.stringify([label, month.state, state?.mark, selected, others, this.#weeks && weeks]);
    if (cell.shown !== signature) {
      cell.shown = signature;
      cell.className = `cell s-${month.state}${others ? " dim" : ""}`;
      cell.setAttribute("aria-label", label);
      cell.setAttribute("aria-selected", String(selected));
      cell.title = label;
      cell.firstChild.textContent = state?.mark ?? "?";
      cell.lastChild.replaceChildren(...(this.#weeks ? weeks.map((week) => h("i", { class: `w-${week.state.replace(" ", "-")}` })) : []));
    }
    cell.tabIndex = this.#active.get(fleet.name) === month.month ? 0 : -1;
  }

  #drawControls(states) {
    const counts = new Map();
    for (const fleet of this.#data.fleets)
      if (!this.#hidden.has(fleet.name)) for (const { state } of fleet.months) counts.set(state, (counts.get(state) ?? 0) + 1);
    const signature = JSON.stringify([[...counts], [...states], [...this.#chosen], [...this.#hidden], this.#weeks, this.#shape]);
    if (this.controls.shown === signature) return;
    this.controls.shown = signature;
    const focused = this.controls.getRootNode().activeElement?.dataset?.key;
    const button = (key, pressed, act, ...content) => h("button", { class: "chip", "data-key": key, "aria-pressed": String(pressed), onclick: () => { act(); this.#draw(); } }, ...content);
    this.controls.replaceChildren(
      h("div", { class: "legend", role: "group", "aria-label": "Show only months in these states" },
        [...states.values()].filter(({ name }) => counts.get(name) || this.#chosen.has(name)).map((state) => {
          const chip = button(`state ${state.name}`, this.#chosen.has(state.name), () => { toggle(this.#chosen, state.name); this.#sayShown(); },
            h("span", { class: `cell swatch s-${state.name}`, "aria-hidden": "true" }, h("span", { class: "mark" }, state.mark)), `${state.label} `, h("b", null, number(counts.get(state.name) ?? 0)));
          chip.title = state.meaning;
          return chip;
        }),
        this.#chosen.size > 0 && h("button", { class: "quiet", "data-key": "all states", onclick: () => { this.#chosen.clear(); this.#draw(); this.say("All states are shown."); } }, "Show all states")),
      h("div", { class: "legend", role: "group", "aria-label": "Fleets and layers" },
        this.#data.fleets.length > 1 && this.#data.fleets.map((fleet) => button(`fleet ${fleet.name}`, !this.#hidden.has(fleet.name), () => toggle(this.#hidden, fleet.name), fleet.title)),
        button("weeks", this.#weeks, () => { this.#weeks = !this.#weeks; }, "Weeks"),
        this.#weeks && h("span", { class: "ticks key" }, Object.entries(WEEKS).map(([name, label]) => [h("i", { class: `w-${name.replace(" ", "-")}` }), `${label} `]))),
      h("details", { class: "meanings" }, h("summary", null, "What the states mean"),
        h("dl", null, [...states.values()].map((state) => [h("dt", null, h("span", { class: `cell swatch s-${state.name}`, "aria-hidden": "true" }, h("span", { class: "mark" }, state.mark)), state.label), h("dd", null, state.meaning)]))));
    if (focused) this.controls.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #shown(fleet) {
    return fleet.months.filter(({ state }) => this.#chosen.has(state)).map(({ month }) => month);
  }

  #sayShown() {
    if (!this.#chosen.size) return this.say("All states are shown.");
    const count = this.#data.fleets.filter(({ name }) => !this.#hidden.has(name)).reduce((sum, fleet) => sum + this.#shown(fleet).length, 0);
    return this.say(`${plural(count, "month")} in the chosen states.`);
  }

  // -- Selecting --

  #selectShown(fleet) {
    const months = this.#shown(this.#data.fleets.find(({ name }) => name === fleet));
    this.#anchor = { fleet, month: months[0] };
    this.#choose(fleet, months);
  }

  #choose(fleet, months) {
    this.selected = { fleet: months.length ? fleet : null, months: new Set(months) };
    if (!months.length) this.#anchor = null;
    this.#draw();
    this.say(months.length ? `${plural(months.length, "month")} selected: ${spanNames(months)}.` : "No month is selected.");
    this.select();
  }

  #range(fleet, month) {
    if (this.#anchor?.fleet !== fleet) this.#anchor = { fleet, month };
    const [from, to] = [this.#anchor.month, month].sort();
    this.#choose(fleet, [...this.#cells.get(fleet).keys()].filter((each) => each >= from && each <= to));
  }

  #toggle(fleet, month) {
    const months = new Set(this.selected.fleet === fleet ? this.selected.months : []);
    toggle(months, month);
    this.#anchor = { fleet, month };
    this.#choose(fleet, [...months]);
  }

  #activate(fleet, month) {
    const cells = this.#cells.get(fleet);
    if (!month || !cells?.has(month)) return;
    const before = cells.get(this.#active.get(fleet));
    if (before) before.tabIndex = -1;
    this.#active.set(fleet, month);
    cells.get(month).tabIndex = 0;
  }

  // -- Keyboard and pointer --

  #key(event, fleet) {
    const month = event.target.closest("[data-month]")?.dataset.month;
    if (!month) return;
    const cells = this.#cells.get(fleet);
    const months = [...cells.keys()].sort();
    const several = event.ctrlKey || event.metaKey;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 12, ArrowDown: -12 }; // the newest year is on top
    let to = null;
    if (event.key in steps) to = later(month, steps[event.key]);
    else if (event.key === "Home") to = several ? months[0] : months.find((each) => each.startsWith(month.slice(0, 4)));
    else if (event.key === "End") to = several ? months.at(-1) : months.findLast((each) => each.startsWith(month.slice(0, 4)));
    else if (event.key === "Enter") this.open(fleet, month);
    else if (event.key === " ") this.#toggle(fleet, month);
    else if (event.key === "Escape" && this.selected.months.size) this.clear();
    else if (event.key === "a" && several) this.#choose(fleet, months);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (!to || !cells.has(to)) return;
    if (event.shiftKey) {
      if (this.#anchor?.fleet !== fleet) this.#anchor = { fleet, month };
      this.#range(fleet, to);
    }
    this.focus(fleet, to);
  }

  #press(event, fleet) {
    const month = event.target.closest("[data-month]")?.dataset.month;
    if (!month || event.button || event.shiftKey || event.ctrlKey || event.metaKey || event.pointerType === "touch") return;
    this.#drag = { fleet, month, moved: false };
  }

  #over(event, fleet) {
    const month = event.target.closest("[data-month]")?.dataset.month;
    if (!month || this.#drag?.fleet !== fleet || (month === this.#drag.month && !this.#drag.moved)) return;
    this.#drag.moved = true;
    this.#anchor = { fleet, month: this.#drag.month };
    this.#range(fleet, month);
  }

  #click(event, fleet) {
    const month = event.target.closest("[data-month]")?.dataset.month;
    if (!month) return; // also the end of a drag across cells: the click is then the row's
    this.#activate(fleet, month);
    if (event.shiftKey) this.#range(fleet, month);
    else if (event.ctrlKey || event.metaKey) this.#toggle(fleet, month);
    else this.open(fleet, month);
  }
}

function toggle(set, value) {
  if (!set.delete(value)) set.add(value);
}

/** "January 2023, loaded, 68,211 trips, …" */
function describe(month, state) {
  const parts = [monthName(month.month), state?.label ?? month.state];
  if (month.rows != null) parts.push(plural(month.rows, "trip"));
  if (month.warnings) parts.push(plural(month.warnings, "warning"));
  if (month.failed?.length) parts.push(`failed: ${month.failed.join(", ")}`);
  if (month.loaded_at) parts.push(`loaded ${time(month.loaded_at)}`);
  if (month.note) parts.push(month.note);
  return parts.join(", ");
}

/** The weeks by the month that contains their Monday. */
function weeksByMonth(weeks) {
  const found = new Map();
  for (const week of weeks ?? []) {
    const month = week.monday.slice(0, 7);
    found.set(month, [...(found.get(month) ?? []), week]);
  }
  return found;
}
