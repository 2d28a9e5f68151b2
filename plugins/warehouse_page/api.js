// Requests: the page's own data, which is only read, and Airflow's REST API, with the session of the user who looks.

const ENDED = "your session has ended; load this page again to sign in";

/** A request that failed, with a message for people. */
export class RequestError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Api {
  /** `env` as in `mount`. */
  constructor(env) {
    this.env = env;
    this.rest = `${env.airflowBase}/api/v${env.airflow === 3 ? 2 : 1}`;
    this.outputsBase = env.base.replace(/\/warehouse$/, "");
  }

  grid = () => this.#ask(`${this.env.base}/data/grid`);
  month = (fleet, month) => this.#ask(`${this.env.base}/data/month/${encodeURIComponent(fleet)}/${encodeURIComponent(month)}`);
  resource = () => this.#ask(`${this.env.base}/data/resource`);
  outputs = (folder, page) => this.#ask(`${this.env.base}/data/outputs?${new URLSearchParams({ folder, page })}`);
  json = (url) => this.#ask(url);

  /** Run a whole run again, whatever its tasks' states are. */
  clearRun = (dagId, runId) => this.#send("POST", `${this.#run(dagId, runId)}/clear`, { dry_run: false });

  /** Run those tasks of a run again that failed, or that could not start because of them. */
  clearFailed = (dagId, runId) =>
    this.#send("POST", `${this.#dag(dagId)}/clearTaskInstances`, { dry_run: false, dag_run_id: runId, only_failed: true, reset_dag_runs: true });

  /** Start a run with `conf`. Airflow 3 wants to be told that it has no logical date. */
  trigger(dagId, conf, runId) {
    const line = this.env.airflow === 3 ? { logical_date: null } : {};
    return this.#send("POST", `${this.#dag(dagId)}/dagRuns`, { conf, note: "From the page Taxi warehouse", ...(runId ? { dag_run_id: runId } : {}), ...line });
  }

  run = (dagId, runId) => this.#ask(this.#run(dagId, runId));
  failRun = (dagId, runId) => this.#send("PATCH", this.#run(dagId, runId), { state: "failed" });

  /** All runs that fit the filters. */
  async runs(dagId, filters) {
    const found = [];
    for (;;) {
      const query = new URLSearchParams({ limit: "100", offset: String(found.length), ...filters });
      const page = await this.#ask(`${this.#dag(dagId)}/dagRuns?${query}`);
      found.push(...page.dag_runs);
      if (!page.dag_runs.length || found.length >= page.total_entries) return found;
    }
  }

  /** How many runs fit the filters: for that, Airflow need not send hundreds of them every few seconds. */
  count = async (dagId, filters) => (await this.#ask(`${this.#dag(dagId)}/dagRuns?${new URLSearchParams({ limit: "1", ...filters })}`)).total_entries;

  // Backfills are a part of the REST API since Airflow 3.
  backfills = async (dagId, limit = 5) => (await this.#ask(`${this.rest}/backfills?${new URLSearchParams({ dag_id: dagId, order_by: "-id", limit: String(limit) })}`)).backfills;
  createBackfill = (wish) => this.#send("POST", `${this.rest}/backfills`, backfill(wish));
  cancelBackfill = (id) => this.#send("PUT", `${this.rest}/backfills/${id}/cancel`);

  /** The months that such a backfill would run, as Airflow itself says. */
  async dryRun(wish) {
    const answer = await this.#send("POST", `${this.rest}/backfills/dry_run`, backfill(wish));
    return answer.backfills.map((each) => each.logical_date.slice(0, 7));
  }

  #dag = (dagId) => `${this.rest}/dags/${encodeURIComponent(dagId)}`;
  #run = (dagId, runId) => `${this.#dag(dagId)}/dagRuns/${encodeURIComponent(runId)}`;

  #send(method, url, body) {
    const headers = { "Content-Type": "application/json", ...(this.env.csrf ? { "X-CSRFToken": this.env.csrf } : {}) };
    return this.#ask(url, { method, headers, body: body && JSON.stringify(body) });
  }

  async #ask(url, options) {
    const answer = await this.#fetch(url, options);
    const text = await answer.text();
    try {
      return text ? JSON.parse(text) : null;
    } catch {
      throw new RequestError("the answer was not JSON", answer.status);
    }
  }

  async #fetch(url, options) {
    let answer;
    try {
      answer = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
    } catch {
      throw new RequestError("the web server did not answer", 0);
    }
    // 2.11 sends strangers to its login page, which is an answer with status 200.
    if (answer.status === 401 || (answer.redirected && /\/login/.test(answer.url))) throw new RequestError(ENDED, 401);
    if (!answer.ok) throw new RequestError(await reason(answer), answer.status);
    return answer;
  }
}

const backfill = ({ dagId, from, to, again, parallel }) => ({
  dag_id: dagId,
  from_date: `${from}-01T00:00:00Z`,
  to_date: `${to}-01T00:00:00Z`,
  reprocess_behavior: again ? "completed" : "failed",
  dag_run_conf: {}, // else a run would keep the month that another run has been given
  ...(parallel ? { max_active_runs: parallel } : {}),
});

/** What an answer says about why it refuses: Airflow puts it in `detail`, as text or as a list of errors. */
async function reason(answer) {
  const text = await answer.text();
  let detail = "";
  try {
    const found = JSON.parse(text).detail;
    detail = Array.isArray(found) ? found.map((each) => each.msg ?? String(each)).join("; ") : found?.reason ?? found?.message ?? found;
  } catch {
    // Not JSON: its status is all there is to say.
  }
  // A token that was issued before Airflow 3 was started again with another secret is no longer valid.
  if (answer.status === 403) return detail === "Invalid JWT token" ? ENDED : "you may not do this (403)";
  return `${typeof detail === "string" && detail ? detail : answer.statusText || "an error"} (${answer.status})`;
}
