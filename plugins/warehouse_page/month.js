// A month: its edition, its figures beside those of the months before, audit, map, runs, and what can be done.

import { bars } from "./chart.js";
import { facts, h, keeper, table } from "./dom.js";
import { bytes, number, plural, seconds, time } from "./format.js";
import { zoneMap } from "./map.js";

const STEPS = ["download", "load", "aggregate", "map"];

export class Month {
  constructor({ api, actions, open, close, link }) {
    Object.assign(this, { api, actions, open, close, link });
    this.head = h("header", { class: "month-head" });
    this.body = h("div", { class: "month" });
    this.node = h("section", { "aria-label": "Month", onkeydown: (event) => { if (event.key === "Escape") this.close(); } }, this.head, this.body);
    this.#show = keeper(this.body);
    this.#showHead = keeper(this.head);
  }

  #show;
  #showHead;

  /** `states` are those of the grid, `dagId` is the fleet's DAG, `now` the server's time. */
  update(data, { states, dagId }) {
    const state = states.find(({ name }) => name === data.state);
    this.#showHead([{ name: "head", data: [data.title, data.month, data.state, state, data.previous, data.next], make: () => this.#head(data, state) }]);
    this.#show([
      { name: "edition", data: [data.load, data.refusal, data.note], make: () => this.#edition(data) },
      { name: "actions", data: [data.actions, data.runs, data.refusal, data.commands, dagId], make: () => this.#actions(data, dagId) },
      { name: "runs", data: data.runs, make: () => this.#runs(data) },
      (data.stats_url || data.map_url) && { name: "map", data: [data.stats_url, data.map_url, data.load?.loaded_at], make: () => this.#map(data) },
      data.top_zones.length && { name: "zones", data: data.top_zones, make: () => this.#zones(data) },
      { name: "lineage", data: [data.inputs, data.outputs, data.weeks], make: () => this.#lineage(data) },
      data.history.length && { name: "history", data: data.history, make: () => this.#history(data) },
      (data.checks.length || data.refusal) && { name: "checks", data: [data.checks, data.refusal], make: () => this.#checks(data) },
    ].filter(Boolean));
  }

  #head(data, state) {
    const to = (month, text) => month && h("button", { class: "quiet", "data-key": text, onclick: () => this.open(data.fleet, month) }, text);
    return h("div", { class: "bar" }, h("button", { class: "quiet", "data-key": "close", onclick: () => this.close() }, "← All months"),
      h("h2", { tabindex: "-1" }, data.title), h("span", { class: "state" }, h("span", { class: `cell swatch s-${data.state}`, "aria-hidden": "true" }, h("span", { class: "mark" }, state?.mark ?? "")), state?.label ?? data.state),
      h("span", { class: "space" }), to(data.previous, `← ${data.previous}`), to(data.next, `${data.next} →`));
  }

  #edition({ load, refusal, note }) {
    const changes = load?.changes && h("ul", null, Object.entries(load.changes).map(([name, [before, after]]) => h("li", null, `${name}: ${number(before)} → ${number(after)}`)));
    return h("section", { class: "card" }, h("h3", null, "Edition"),
      refusal && h("p", { class: "note bad" }, `The audit refused a newer edition on ${time(refusal.at)}: ${refusal.rules.map(({ rule }) => rule).join(", ")}. ${load ? "What is loaded was kept." : "Nothing is loaded."}`),
      note && !refusal && h("p", { class: "hint" }, note),
      load ? facts([["Trips", number(load.rows)], ["File", bytes(load.bytes)], ["Published", load.last_modified], ["ETag", load.etag && h("code", null, load.etag)], ["Source", load.source_url],
        ["Loaded", time(load.loaded_at)], ["By run", load.run_id && h("code", null, load.run_id)], ["Changed", changes || null], ["Unknown columns", load.unknown_columns.join(", ") || null],
        ["Simulated", load.simulated ? "yes: these are not the TLC's trips" : null]]) : h("p", null, "Nothing of this month is loaded."));
  }

  #actions(data, dagId) {
    const commands = [["Run again", data.commands.again], ["Run what failed", data.commands.failed], ["Backfill this month", data.commands.backfill], ["Accept this edition", data.commands.accept]].filter(([, command]) => command);
    return h("section", { class: "card" }, h("h3", null, "What you can do"), this.actions.buttons(dagId, data), dagId && h("p", { class: "hint" }, "DAG ", this.link(`/dags/${encodeURIComponent(dagId)}`, dagId)),
      h("details", null, h("summary", null, "The same on the command line"), commands.map(([name, command]) => [h("p", { class: "hint" }, name), h("pre", { tabindex: "0" }, command)])));
  }

  #map(data) {
    const place = h("div", null, data.stats_url ? h("p", { class: "hint" }, "Loading the zones …") : null);
    const card = h("section", { class: "card wide" }, h("h3", null, "Map"), h("div", { class: "maps" }, place,
      data.map_url && h("figure", null, h("a", { href: data.map_url }, h("img", { src: data.map_url, loading: "lazy", alt: `Map of ${data.title}, as the run drew it` })), h("figcaption", { class: "hint" }, "As the run drew it"))));
    if (data.stats_url) this.#zonesOf(data, place);
    return card;
  }

  async #zonesOf(data, place) {
    try {
      this.map = zoneMap(await this.api.json(data.stats_url), `Pickups by zone, ${data.title}`);
      place.replaceChildren(this.map.node);
    } catch (error) {
      place.replaceChildren(h("p", { class: "note bad" }, `The zones could not be read: ${error.message}`));
    }
  }

  #zones({ top_zones: zones, load }) {
    const made = table("Top zones", [{ title: "Zone" }, { title: "Pickups", number: true }, ...(load?.rows ? [{ title: "Share", number: true }] : [])],
      zones.map(({ zone, trips }) => [zone, number(trips), ...(load?.rows ? [`${((100 * trips) / load.rows).toFixed(1)} %`] : [])]));
    made.querySelectorAll("tbody tr").forEach((row, at) => row.addEventListener("pointerenter", () => this.map?.point(zones[at].zone_id)));
    return h("section", { class: "card" }, made);
  }

  #lineage({ inputs, outputs, weeks }) {
    const counted = weeks.map(({ monday, trips, url }) => ({ label: `Week of ${monday}: ${trips == null ? "not counted" : plural(trips, "trip")}`, url }));
    const list = (title, links) => links.length > 0 && [h("h3", null, title), h("ul", null, links.map(({ label, url }) => h("li", null, url ? this.link(url, label) : label)))];
    return h("section", { class: "card lineage" }, list("Made from", inputs), list("Outputs", outputs), list("Weeks", counted));
  }

  #history(data) {
    const known = { current: data.month, open: (month) => this.open(data.fleet, month) };
    const one = (name) => data.history.map((each) => ({ month: each.month, parts: [{ name, value: each[name] }] }));
    const steps = data.history.map((each) => ({ month: each.month, parts: STEPS.map((name) => ({ name, value: each.seconds?.[name] ?? null })) }));
    return h("section", { class: "card wide" }, h("h3", null, "This month and those before it"),
      h("div", { class: "charts" }, bars("Trips", one("rows"), { ...known, format: number }), bars("Bytes", one("bytes"), { ...known, format: bytes }), bars("Seconds", steps, { ...known, format: seconds }), bars("Warnings", one("warnings"), { ...known, format: number })),
      h("p", { class: "hint key" }, "Seconds are those of ", STEPS.map((name, at) => [h("i", { class: `part-${at}` }), `${name} `])),
      h("details", null, h("summary", null, "As a table"), table("Figures by month", [{ title: "Month" }, ...["Trips", "File", ...STEPS, "Warnings"].map((title) => ({ title, number: true }))],
        [...data.history].reverse().map((each) => [each.month, number(each.rows), bytes(each.bytes), ...STEPS.map((name) => seconds(each.seconds?.[name])), number(each.warnings)]))));
  }

  #checks({ checks, refusal }) {
    const result = (check) => check.passed ? h("span", { class: "good" }, "✓ passed") : check.accepted ? "accepted" : h("span", { class: check.severity === "error" ? "bad" : "warn" }, check.severity === "error" ? "✕ broken" : "! warning");
    const isShare = ({ unit }) => unit.startsWith("share of ");
    const figure = (check, value) => (value != null && isShare(check) ? `${number(100 * value)} %` : number(value));
    const unit = (check) => (isShare(check) ? check.unit.replace("share ", "") : check.unit);
    const broken = checks.filter(({ passed }) => !passed).length;
    const sorted = [...checks].sort((one, other) => one.passed - other.passed);
    const list = (caption, rules) => table(caption, [{ title: "Rule" }, { title: "Result" }, { title: "Value", number: true }, { title: "Limit", number: true }, { title: "Unit" }, { title: "What was found, and why the rule is there" }],
      rules.map((check) => [h("code", null, check.rule), result(check), figure(check, check.value), figure(check, check.limit), unit(check), [check.detail && h("p", null, h("b", null, check.detail)), check.reason]]));
    return h("section", { class: "card wide" }, h("h3", null, "Audit"),
      refusal && list("Rules that the refused edition breaks", refusal.rules),
      checks.length > 0 && [h("p", { class: "hint" }, broken ? `The loaded edition breaks ${plural(broken, "rule")} of ${number(checks.length)}` : `The loaded edition passes all ${number(checks.length)} rules`),
        list("Audit rules, broken ones first", sorted)]);
  }

  #runs({ runs }) {
    if (!runs.length) return h("section", { class: "card wide" }, h("h3", null, "Runs"), h("p", null, "No run of this month is on record."));
    const failed = (run) => run.failed.length ? h("ul", null, run.failed.map((task) => h("li", null, task.try ? this.link(task.log_url, `${task.task_id}, try ${task.try}: log`) : `${task.task_id}, not started`))) : "–";
    return h("section", { class: "card wide" }, h("h3", null, "Runs"), table("Runs of this month, newest first", [{ title: "Run" }, { title: "State" }, { title: "Started" }, { title: "Ended" }, { title: "Failed tasks" }],
      runs.map((run) => [this.link(run.url, run.run_id), h("span", { class: run.state === "failed" ? "bad" : null }, run.state), time(run.started), time(run.ended), failed(run)])));
  }
}
