// The warehouse and the TLC's site as resources: where they are, who uses them, and what that costs.

import { facts, h, keeper, table } from "./dom.js";
import { ago, bytes, number, plural, seconds, time } from "./format.js";

export class Resource {
  constructor({ link }) {
    this.link = link;
    this.node = h("section", { class: "month", "aria-label": "Resource" });
    this.show = keeper(this.node);
  }

  update({ warehouse, tlc, hint }, now) {
    const parts = ["kind", "place", "bytes", "advice", "duckdb", "open_now", "open_now_note", "waiting"].map((name) => warehouse[name]);
    this.show([
      hint && { name: "hint", data: hint, make: () => h("p", { class: "note" }, hint) },
      { name: "warehouse", data: parts, make: () => this.#warehouse(warehouse, now) },
      { name: "settings", data: warehouse.settings, make: () => this.#settings(warehouse) },
      warehouse.growth.length && { name: "growth", data: warehouse.growth, make: () => this.#growth(warehouse) },
      { name: "uses", data: warehouse.uses, make: () => this.#uses(warehouse) },
      tlc && { name: "tlc", data: tlc, make: () => this.#tlc(tlc) },
    ].filter(Boolean));
  }

  #task(task) {
    return task ? this.link(task.url, `${task.dag_id}.${task.task_id}, run ${task.run_id}`) : null;
  }

  #warehouse({ kind, place, bytes: size, advice, duckdb, open_now: holders, open_now_note: note, waiting }, now) {
    const list = (items) => h("ul", null, items.map((item) => h("li", null, item)));
    return h("section", { class: "card" }, h("h3", null, "The warehouse"), facts([["Type", kind === "lake" ? "DuckLake" : "DuckDB file"], ["Where", h("code", null, place)], ["Size", bytes(size)], ["DuckDB", duckdb],
      ["Open now", holders.length ? list(holders.map(({ pid, mode, task, since }) => [this.#task(task) ?? (pid == null ? "a process in another container or on another machine" : `process ${pid}, which is no task that you may see`), `${mode ? `, to ${mode}` : ""}${since ? `, ${ago(since, now)}` : ""}`])) : "by nobody"],
      ["Waiting", waiting.length ? list(waiting.map(({ task, since }) => [this.#task(task), since ? `, ${ago(since, now)}` : ""])) : "no task"]]), note && h("p", { class: "hint" }, note),
      advice && h("p", { class: "hint" }, advice));
  }

  #settings({ settings }) {
    return h("section", { class: "card" }, h("h3", null, "Settings"), table("Settings, and where each comes from", [{ title: "Setting" }, { title: "Value" }, { title: "From" }], settings.map(({ name, value, from }) => [h("code", null, name), String(value ?? "–"), from])));
  }

  #growth({ growth }) {
    const unit = growth.some(({ bytes: size }) => size != null) ? "bytes" : "rows";
    const format = unit === "bytes" ? bytes : number;
    const most = Math.max(1, ...growth.map((each) => each[unit] ?? 0));
    return h("section", { class: "card wide" }, h("h3", null, "Growth"), h("p", { class: "hint" }, "What each calendar month has loaded, as far as it is still in use. The warehouse stores the same trips in another size."),
      table(`${unit === "bytes" ? "Size of the TLC's files" : "Trips"} by the month in which they were loaded`, [{ title: "Month" }, { title: unit === "bytes" ? "The TLC's files" : "Trips", number: true }, { title: "" }],
      [...growth].reverse().map((each) => [each.month, format(each[unit]), h("span", { class: "meter", style: { width: `${(100 * (each[unit] ?? 0)) / most}%` } })])));
  }

  #uses({ uses }) {
    const mean = (last, key) => { const known = last.map((each) => each[key]).filter((value) => value != null); return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null; };
    const most = (last, key) => last.reduce((top, each) => (each[key] != null && (top == null || each[key] > top) ? each[key] : top), null);
    const sorted = [...uses].sort((one, other) => (mean(other.last, "hold_seconds") ?? -1) - (mean(one.last, "hold_seconds") ?? -1));
    const runs = ({ last }) => last.length ? h("details", null, h("summary", null, plural(last.length, "run")), h("ul", null, last.map((each) =>
      h("li", null, `${time(each.at)}: waited ${seconds(each.wait_seconds)}, held ${seconds(each.hold_seconds)}${each.rows == null ? "" : `, ${plural(each.rows, "row")}`} (${each.run_id})`)))) : "none recorded";
    return h("section", { class: "card wide" }, h("h3", null, "Uses"), h("p", { class: "hint" }, "Every task that opens the warehouse, as the DAGs say, and how long it waited for it and held it in its last runs. The longest holders come first."),
      table("Tasks that open the warehouse", [{ title: "Task" }, { title: "Mode" }, { title: "Waited, mean", number: true }, { title: "longest", number: true }, { title: "Held, mean", number: true }, { title: "longest", number: true }, { title: "Last runs" }],
        sorted.map((use) => [this.link(use.url, `${use.dag_id}.${use.task_id}`), `${use.mode}${use.program ? `, by ${use.program}` : ""}`, seconds(mean(use.last, "wait_seconds")), seconds(most(use.last, "wait_seconds")), seconds(mean(use.last, "hold_seconds")), seconds(most(use.last, "hold_seconds")), runs(use)])));
  }

  #tlc({ place, uses, last }) {
    return h("section", { class: "card wide" }, h("h3", null, "The TLC's site"), facts([["Where", h("code", null, place)], ["Used by", h("ul", null, uses.map((use) => h("li", null, this.link(use.url, `${use.dag_id}.${use.task_id}`))))]]),
      last.length ? table("Last requests", [{ title: "When" }, { title: "Task" }, { title: "Requests", number: true }, { title: "Bytes", number: true }, { title: "Refused (403)", number: true }, { title: "Retries", number: true }],
        last.map((each) => [time(each.at), `${each.dag_id}.${each.task_id}`, number(each.requests), bytes(each.bytes), number(each.refused), number(each.retries)])) : h("p", null, "No request is on record."));
  }
}
