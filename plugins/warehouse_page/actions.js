// What a user can do: run months again, backfill, accept an edition; and how far a backfill is. Airflow itself does it, through its REST API.

import { h } from "./dom.js";
import { number, plural, spanNames, spans, time } from "./format.js";

const PREFIX = "taxi_warehouse_page";
const LOADED = (month) => month.rows != null || Boolean(month.loaded_at);
const UNDER_WAY = ({ state }) => ["queued", "running"].includes(state);
export const PAUSED = "The DAG is paused. Its runs would wait, and unpausing it starts the catch-up of all months since NYC_TAXI_FIRST_MONTH. So nothing is started from here.";

/** The states of runs. */
const STATES = ["success", "failed", "running", "queued"];

/** The command that does what the page does when it starts a run. */
const triggering = (dagId, conf) => `airflow dags trigger ${dagId} --conf '${JSON.stringify(conf)}'`;

/** Why nothing can be started, or null. */
export const obstacle = ({ may, why_not: why, is_paused: paused }) => (!may ? why || "You may look at this DAG, but not run it." : paused ? PAUSED : null);

export class Actions {
  /** `started()` is called after a backfill has been started, `done()` after each action; `say(text, isBad)` reports it. */
  constructor(api, env, { root, started, done, say }) {
    Object.assign(this, { api, env, root, started, done, say });
  }

  /** The buttons of a month, or why there are none. */
  buttons(dagId, month) {
    const reason = obstacle(month.actions);
    if (reason) return [h("p", { class: "note", "data-test": "why-not" }, reason)];
    const run = month.runs[0];
    const busy = Boolean(run) && UNDER_WAY(run);
    const failed = month.runs.find((each) => each.failed.length);
    const button = (key, text, act, attributes) => h("button", { "data-key": key, onclick: act, ...attributes }, text);
    return [
      h("div", { class: "bar" },
        button("again", run ? "Run again" : "Run", () => this.again(dagId, month), { disabled: busy }),
        failed && run === failed && month.commands.failed && button("failed", "Run what failed", () => this.failed(dagId, month, failed), { class: "main", disabled: busy }),
        month.refusal && month.commands.accept && button("accept", "Accept this edition", () => this.accept(dagId, month), { disabled: busy })),
      busy && h("p", { class: "hint" }, `Run ${run.run_id} is ${run.state}.`),
      month.refusal && !month.commands.accept && h("p", { class: "hint" }, "The refused edition cannot be accepted: it breaks a rule that has no exceptions."),
    ];
  }

  /** Why Airflow would not start this run after it is cleared; null if it would. */
  async #cannotBeCleared(dagId, month, { run_id: runId }) {
    try {
      // A backfill that repeats a run of the schedule leaves it its name.
      const { run_type: kind } = await this.api.run(dagId, runId);
      if (kind !== "backfill" && !runId.startsWith("backfill__")) return null;
      if (this.env.airflow === 2) return "because on 2.11 a run of a backfill command cannot be cleared";
      // A backfill that was cancelled stays paused for ever, and Airflow starts no run of it.
      const isOver = ({ completed_at: ended, is_paused: paused, from_date: from, to_date: to }) => ended && paused && from.slice(0, 7) <= month && month <= to.slice(0, 7);
      return (await this.api.backfills(dagId, 100)).some(isOver) ? "because Airflow starts no run of a backfill that was cancelled" : null;
    } catch {
      return null; // what is wrong, the action itself will say
    }
  }

  /** Clear a run by `clear`, unless it has been started again since the page was read: in another tab, or by somebody else. */
  async #cleared(dagId, { run_id: runId }, clear) {
    const now = await this.api.run(dagId, runId);
    if (UNDER_WAY(now)) throw new Error(`the run ${runId} is ${now.state}`);
    return clear(dagId, runId);
  }

  async again(dagId, month) {
    const run = month.runs[0];
    const reason = run?.accepts ? "because its newest run would accept any edition" : run && await this.#cannotBeCleared(dagId, month.month, run);
    const fresh = !run || Boolean(reason);
    const wish = { month: month.month, again: true };
    const what = fresh ? `A new run loads ${month.month}${reason ? ` again, ${reason}` : ""}.`
      : `The run ${run.run_id} is cleared. All its tasks run again, and ${month.month} is replaced once its new rows have passed the audit.`;
    return this.#confirm(`Run ${month.title} again?`, [what], fresh ? triggering(dagId, wish) : month.commands.again, "Run again", () => (fresh ? this.api.trigger(dagId, wish) : this.#cleared(dagId, run, this.api.clearRun)));
  }

  async failed(dagId, month, run) {
    const reason = await this.#cannotBeCleared(dagId, month.month, run);
    const tasks = run.failed.map((task) => task.task_id).join(", ");
    const what = reason ? `A new run loads ${month.month}, ${reason}.` : `In the run ${run.run_id}, these tasks run again, and those that could not start because of them: ${tasks}.`;
    return this.#confirm(`Run what failed in ${month.title}?`, [what], reason ? triggering(dagId, { month: month.month }) : month.commands.failed, "Run what failed", () => (reason ? this.api.trigger(dagId, { month: month.month }) : this.#cleared(dagId, run, this.api.clearFailed)));
  }

  accept(dagId, month) {
    const list = h("ul", null, month.refusal.rules.map(({ rule, detail, reason }) => h("li", null, h("code", null, rule), `: ${detail ?? reason}`)));
    return this.#confirm(`Accept this edition of ${month.title}?`, ["The audit refused it because it breaks these rules:", list, `A new run loads it in spite of them, and replaces what is loaded. Look at the file first.`],
      month.commands.accept, "Accept and load", () => this.api.trigger(dagId, { month: month.month, accept: true }));
  }

  /** Say what a backfill of the selected months would run, and start it. */
  async backfill(fleet, months) {
    const names = months.map(({ month }) => month);
    const gaps = spans(names).length > 1;
    const isBackfill = this.env.airflow === 3 && !gaps; // Airflow has one backfill a DAG at a time, and it has no gaps
    const wish = { dagId: fleet.dag_id, from: names[0], to: names.at(-1), again: months.every(LOADED) };
    const will = h("p", { "data-test": "will-run" }, "Asking Airflow …");
    const start = h("button", { class: "main", value: "go", disabled: true }, "Start");
    let runs = [];
    const plan = async () => {
      start.disabled = true;
      let text;
      try {
        if (isBackfill) runs = await this.api.dryRun(wish);
        else runs = wish.again ? names : months.filter((month) => !LOADED(month) && !UNDER_WAY(month)).map(({ month }) => month);
        text = runs.length ? `${plural(runs.length, "month")} will run: ${spanNames(runs)}.` : "Nothing would run.";
      } catch (error) {
        runs = [];
        text = `Airflow could not say what would run: ${error.message}`;
      }
      will.textContent = text;
      start.disabled = !runs.length;
    };
    const choice = (again, text) => h("label", null, h("input", { type: "radio", name: "again", checked: wish.again === again, onchange: () => { wish.again = again; plan(); } }), ` ${text}`);
    const loaded = months.filter(LOADED).length;
    const dialog = this.#dialog(`Backfill ${plural(names.length, "month")} of ${fleet.title}`, [
      h("dl", null, h("dt", null, "Months"), h("dd", null, spanNames(names)), h("dt", null, "DAG"), h("dd", null, h("code", null, fleet.dag_id), fleet.is_paused ? " (paused)" : " (not paused)"),
        h("dt", null, "Loaded already"), h("dd", null, `${number(loaded)} of ${number(names.length)}`)),
      h("fieldset", null, h("legend", null, "Run"), choice(false, isBackfill ? "months that have no run yet, and those whose run failed" : "months that are neither loaded nor under way"), choice(true, "all of them again")),
      will,
      !isBackfill && h("p", { class: "hint" }, gaps && this.env.airflow === 3 ? "The selection has gaps, and a backfill of Airflow has none: each month becomes a run of its own." : "On this Airflow, each month becomes a run of its own."),
    ], [start]);
    plan();
    if ((await dialog) !== "go") return;
    await this.#act(`Backfill of ${plural(runs.length, "month")} of ${fleet.title}`, async () => {
      if (!(isBackfill && await this.#created(wish))) await this.#each(fleet, runs, wish.again);
      this.started();
    });
  }

  /** Start a run for each month. If one cannot be started, the error says how many were: these run. */
  async #each(fleet, months, again) {
    const stamp = new Date().toISOString();
    for (const [at, month] of months.entries()) {
      try {
        await this.api.trigger(fleet.dag_id, { month, ...(again ? { again: true } : {}) }, `${PREFIX}__${stamp}__${month}`);
      } catch (error) {
        throw at ? new Error(`only ${number(at)} of ${plural(months.length, "run")} could be started. The run of ${month} could not, because ${error.message}`) : error;
      }
    }
  }

  /** Create a backfill; false if Airflow cannot now: on SQLite it answers 503 as soon as somebody else writes. Then runs do as well. */
  async #created(wish) {
    try {
      await this.api.createBackfill(wish);
      return true;
    } catch (error) {
      if (error.status === 503) return false;
      throw error;
    }
  }

  /** The backfills of a DAG that are not done: [{title, counts, total, cancel, note}]. */
  async progress(fleet) {
    if (this.env.airflow === 3) {
      const open = (await this.api.backfills(fleet.dag_id)).filter((backfill) => !backfill.completed_at);
      const counts = async ({ from_date: first, to_date: last }) => Object.fromEntries(await Promise.all(STATES.map(async (state) =>
        [state, await this.api.count(fleet.dag_id, { run_type: "backfill", logical_date_gte: first, logical_date_lte: last, state })])));
      const made = open.map(async (backfill) => this.#counted(fleet, `Backfill ${backfill.from_date.slice(0, 7)} to ${backfill.to_date.slice(0, 7)}`, await counts(backfill), () => this.api.cancelBackfill(backfill.id), `since ${time(backfill.created_at)}`));
      return (await Promise.all(made)).concat(await this.#ownRuns(fleet));
    }
    return this.#ownRuns(fleet);
  }

  /** The runs that `backfill` started one by one: their names begin with the time of the click. */
  async #ownRuns(fleet) {
    const open = (await Promise.all(["queued", "running"].map((state) => this.api.runs(fleet.dag_id, { state })))).flat();
    const stamps = [...new Set(open.map((run) => run.dag_run_id.split("__")).filter(([prefix, stamp]) => prefix === PREFIX && !Number.isNaN(Date.parse(stamp))).map(([, stamp]) => stamp))];
    const after = this.env.airflow === 3 ? "run_after_gte" : "execution_date_gte";
    return Promise.all(stamps.map(async (stamp) => {
      // The names have the browser's time, and the dates the server's. A day is more than their clocks differ.
      const since = new Date(Date.parse(stamp) - 86_400_000).toISOString();
      const ours = async (filters) => (await this.api.runs(fleet.dag_id, filters)).filter((run) => run.dag_run_id.startsWith(`${PREFIX}__${stamp}__`));
      const runs = await ours({ [after]: since });
      // Which runs are queued is asked again: one that has begun since must go on.
      const cancel = async () => Promise.all((await ours({ state: "queued" })).map((run) => this.api.failRun(fleet.dag_id, run.dag_run_id)));
      const counts = Object.fromEntries(STATES.map((state) => [state, runs.filter((run) => run.state === state).length]));
      return this.#counted(fleet, `${plural(runs.length, "month")} from this page`, counts, cancel, `since ${time(stamp)}`);
    }));
  }

  #counted(fleet, what, counts, cancel, note) {
    const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    return { title: `${fleet.title}: ${what}`, counts, total, note, cancel: () => this.#confirm(`Cancel the backfill?`, [`${fleet.title}: ${what}. Queued runs are marked as failed. Running ones go on to their end.`], null, "Cancel the backfill", cancel) };
  }

  // -- Dialogs --

  async #confirm(title, content, command, yes, act) {
    const shown = command ? [h("p", { class: "hint" }, "On the command line: "), h("pre", { tabindex: "0" }, command)] : [];
    if ((await this.#dialog(title, [...content.map((each) => (each instanceof Node ? each : h("p", null, each))), ...shown], [h("button", { class: "main", value: "go" }, yes)])) !== "go") return;
    await this.#act(yes, act);
  }

  async #act(what, work) {
    this.say(`${what} …`);
    try {
      await work();
      this.say(`${what}: started.`);
    } catch (error) {
      this.say(`${what}: not done, because ${error.message}.`, true);
    }
    await this.done();
  }

  /** Show a dialog and wait for its end: "go", or "" if the user has left it. */
  #dialog(title, content, buttons) {
    const dialog = h("dialog", { "aria-label": title }, h("form", { method: "dialog" }, h("h3", null, title), ...content, h("div", { class: "bar" }, buttons, h("button", { value: "" }, "Back"))));
    dialog.addEventListener("keydown", (event) => event.stopPropagation()); // Esc is the dialog's alone
    this.root.append(dialog);
    dialog.showModal();
    return new Promise((resolve) => dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); }));
  }
}

/** Backfills that are under way, with a bar and counts each. */
export function progressBars(list) {
  return h("ul", { class: "progress" }, list.map(({ title, counts, total, note, cancel }) => {
    const done = counts.success + counts.failed;
    return h("li", null, h("b", null, title), " ", h("progress", { max: Math.max(total, 1), value: done, "aria-label": title }),
      ` ${number(done)} of ${number(total)} ended: ${number(counts.success)} succeeded, ${number(counts.failed)} failed; ${number(counts.running)} running, ${number(counts.queued)} queued; ${note} `,
      h("button", { class: "quiet", "data-key": title, onclick: cancel }, "Cancel"));
  }));
}
