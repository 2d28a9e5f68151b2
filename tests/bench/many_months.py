"""The measurements of `partitions`, each in a process of its own: `python -m tests.bench.many_months <name> <json>`.

The last line it prints is its result as JSON. A world is a data directory and an Airflow of its own, in which so many
months of so many fleets have been loaded: the rows that those loads and runs would have left are inserted in bulk into
the warehouse's and Airflow's real tables, one trip a month. Its fleets are copies of the green one, in the catalogue
of this process alone.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from include.local import component
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.months import Month
from tests.bench.measure import PLUGINS, Result, measured

FIRST = Month("2000-02")
TODAY = datetime(2041, 10, 15, tzinfo=UTC)
"""In all worlds: 500 months have ended."""
TLC_FLEETS = dict(catalogue.FLEETS)
ZONES_OF_A_MONTH = 262
MARTS = 6
TASKS = ("wait_for_file", "download", "load", "aggregate", "map")
MODIFIED = "Wed, 01 Aug 2040 00:00:00 GMT"
FAILED_EVERY = 50
"""Of so many months, one has had a run that failed before the one that loaded it."""


class _Today(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return TODAY if tz else TODAY.replace(tzinfo=None)


def names_of(fleets: int) -> list[str]:
    """The names of a world's fleets."""
    return [f"fleet{number:03}" for number in range(fleets)]


def months_of(months: int) -> list[Month]:
    """A world's months, the first of them in 2000."""
    found = [FIRST]
    while len(found) < months:
        found.append(found[-1].next)
    return found


def put_into_catalogue(fleets: int) -> None:
    """Replace the catalogue's fleets, in this process, by so many copies of the green one."""
    green = catalogue.fleet("green")
    layout = replace(green.layouts[-1], first_month=FIRST)
    catalogue.FLEETS.clear()
    for name in names_of(fleets):
        catalogue.FLEETS[name] = replace(green, name=name, title=name.capitalize(), layouts=(layout,))


@contextlib.contextmanager
def _catalogue_of_the_tlc() -> Iterator[None]:
    """The simulator knows no other fleets."""
    copies = dict(catalogue.FLEETS)
    catalogue.FLEETS.clear()
    catalogue.FLEETS.update(TLC_FLEETS)
    try:
        yield
    finally:
        catalogue.FLEETS.clear()
        catalogue.FLEETS.update(copies)


# -- Making a world --


def make_warehouse(fleets: int, months: int, rows_of: str = "duckdb") -> Result:
    """Insert what the loads of all months, and the tasks after them, have left in the warehouse; `rows_of` its kind."""
    hook = _hook()
    from include.nyc_taxi import warehouse
    from include.nyc_taxi.audit import rules
    from include.nyc_taxi.trips import zones
    from include.tlc_simulator.city import write_lookup, write_shapes

    folder = settings.data_dir()
    write_lookup(folder / "lookup.csv")
    write_shapes(folder / "shapes.zip")
    with contextlib.closing(hook.get_conn()) as con:
        zones.load_zones(con, zones.read_zones(folder / "lookup.csv", folder / "shapes.zip"))
        con.execute("CREATE TEMP TABLE all_rules (rule VARCHAR, severity VARCHAR, at_most DOUBLE)")
        of_fleet = rules.rules_of(next(iter(catalogue.FLEETS.values())))
        all_rules = [(rule.name, rule.severity.value, rule.limit) for rule in rules.MONTH_RULES]
        all_rules += [(rule.name, "warn", rule.limit) for rule in of_fleet]
        con.executemany("INSERT INTO all_rules VALUES (?, ?, ?)", all_rules)
        con.execute(
            "CREATE TEMP TABLE all_months AS SELECT fleet, (? + to_months(n::INTEGER))::DATE AS partition_month, "
            "TIMESTAMP '2041-09-01' - to_days((? - n)::INTEGER) AS moment "
            "FROM (SELECT unnest(?) AS fleet), (SELECT unnest(range(?)) AS n) ORDER BY ALL",
            [FIRST.first_day, months, names_of(fleets), months],
        )
        with warehouse.transaction(con):
            _insert_rows(con)
        for name in catalogue.FLEETS:
            con.execute(
                f"INSERT INTO {name}_trips (partition_month, pickup_datetime, dropoff_datetime, pickup_zone_id, "
                "dropoff_zone_id, trip_distance, total_amount, fare_amount) SELECT partition_month, "
                "partition_month + INTERVAL 9 HOUR, partition_month + INTERVAL 10 HOUR, 74, 75, 1.5, 12, 10 "
                "FROM all_months WHERE fleet = ?",
                [name],
            )
    return {}


def _insert_rows(con: Any) -> None:
    month = "strftime(partition_month, '%Y-%m')"
    con.execute(
        "INSERT INTO loads (fleet, partition_month, source_url, etag, last_modified, bytes, rows_in_file, rows_loaded, "
        "quality, loaded_at, run_id, unknown_columns, simulated) SELECT fleet, partition_month, "
        f"'https://tlc.example/trip-data/' || fleet || '_tripdata_' || {month} || '.parquet', "
        f"'\"' || md5(fleet || {month}) || '\"', 'Wed, 01 Aug 2040 00:00:00 GMT', 1300000, 1, 1, '{{}}', moment, "
        f"'scheduled__' || {month}, '[]', true FROM all_months"
    )
    con.execute(
        "INSERT INTO quality_checks SELECT fleet, partition_month, rule, severity, at_most, 0.0, "
        "true, '0 of 1 trips ' || rule, true, moment, "
        f"'scheduled__' || {month} FROM all_months, all_rules"
    )
    con.execute(
        "INSERT INTO trips_by_zone SELECT fleet, partition_month, zone, 1 + (zone * 7919) % 40000 "
        "FROM all_months, (SELECT unnest(range(1, ? + 1)) AS zone)",
        [ZONES_OF_A_MONTH],
    )
    con.execute(
        "INSERT INTO trips_by_week (fleet, period, num_trips) SELECT fleet, monday, 7 FROM "
        "(SELECT fleet, min(partition_month) AS first, max(partition_month) AS last FROM all_months GROUP BY fleet), "
        "LATERAL (SELECT unnest(generate_series(date_trunc('week', first), last, INTERVAL 7 DAY))::DATE AS monday)"
    )
    con.execute("CREATE SCHEMA marts")
    con.execute(
        "CREATE TABLE marts.built_months AS SELECT 'mart' || n AS mart, fleet, partition_month, moment AS loaded_at, "
        "moment AS built_at FROM all_months, (SELECT unnest(range(?)) AS n)",
        [MARTS],
    )


def make_files(fleets: int, months: int) -> Result:
    """Make what the months have left in raw/ and outputs/: small files, but as many as there would be."""
    raw, ledger = settings.raw_dir(), {}
    raw.mkdir(parents=True, exist_ok=True)
    for name in names_of(fleets):
        outputs = settings.outputs_dir(name)
        outputs.mkdir(parents=True, exist_ok=True)
        for month in months_of(months):
            file = f"{name}_tripdata_{month}.parquet"
            url = f"https://tlc.example/trip-data/{file}"
            etag = f'"{hashlib.md5(f"{name}{month}".encode()).hexdigest()}"'
            edition = {"url": url, "etag": etag, "last_modified": MODIFIED, "bytes": 1_300_000}
            (raw / file).write_bytes(b"x")
            (raw / f"{file}.edition.json").write_text(json.dumps(edition, indent=1) + "\n")
            for output in ("manhattan_stats_{}.geojson", "manhattan_map_{}.png", "manhattan_map_density_{}.png"):
                (outputs / output.format(month)).write_bytes(b"x")
            ledger[url] = {
                "answered_at": "2041-09-20T00:00:00.000000+00:00",
                "published": True,
                "etag": etag,
                "last_modified": MODIFIED,
                "reported_by": None,
            }
    (raw / ".editions.json").write_text(json.dumps(ledger, indent=1) + "\n")
    return {}


def make_runs(fleets: int, months: int) -> Result:
    """Insert the DAGs, runs, tasks and asset events of all months and weeks into Airflow's database (SQLite)."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import insert

    from include.orchestration import compat
    from include.orchestration.page import STEPS

    event, asset, _ = compat.asset_models()
    file = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    moment = datetime(2041, 9, 1, tzinfo=UTC)
    date_column = compat.logical_date().key
    of_asset = "asset_id" if compat.IS_AIRFLOW_3 else "dataset_id"
    templates: dict[Any, dict[str, Any]] = {
        DagModel: {"dag_id": "t", "is_paused": False, "max_active_tasks": 16}
        | (
            {
                "bundle_name": "nyc_taxi",
                "max_consecutive_failed_dag_runs": 0,
                "has_task_concurrency_limits": False,
            }
            if compat.IS_AIRFLOW_3
            else {"has_task_concurrency_limits": False}
        ),
        DagRun: {
            "dag_id": "t",
            "run_id": "t",
            "run_type": "scheduled",
            "state": "success",
            "start_date": moment,
            "end_date": moment,
            date_column: moment,
            **({"run_after": moment} if compat.IS_AIRFLOW_3 else {}),
        },
        TaskInstance: {
            "dag_id": "t",
            "run_id": "t",
            "task_id": "t",
            "state": "success",
            "pool": "default_pool",
            "start_date": moment,
            "try_number": 1,
            "max_tries": 3,
            "map_index": -1,
        },
        asset: {"uri": "t", "extra": {}} | ({"name": "t"} if compat.IS_AIRFLOW_3 else {}),
        event: {of_asset: 1, "extra": {}},
    }
    with compat.create_session() as session:
        if compat.IS_AIRFLOW_3:
            from airflow.models.dagbundle import DagBundleModel

            session.execute(insert(DagBundleModel.__table__).values(name="nyc_taxi", active=True))
        for model, values in templates.items():
            session.execute(insert(model.__table__).values(**values))
    with contextlib.closing(sqlite3.connect(file)) as con:
        con.executescript("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL")
        con.execute("CREATE TEMP TABLE fleets (name)")
        con.executemany("INSERT INTO fleets VALUES (?)", [(name,) for name in names_of(fleets)])
        con.execute("CREATE TEMP TABLE dags (dag_id, fleet, is_month)")
        con.execute("INSERT INTO dags SELECT 'taxi_trips_' || name, name, 1 FROM fleets")
        con.execute("INSERT INTO dags SELECT 'trips_by_week_' || name, name, 0 FROM fleets")
        con.execute("CREATE TEMP TABLE days (is_month, day, started, failed)")
        con.executemany("INSERT INTO days VALUES (?, ?, ?, ?)", _days(months))
        con.execute("CREATE TEMP TABLE tasks (is_month, task_id)")
        con.executemany("INSERT INTO tasks VALUES (1, ?)", [(task,) for task in TASKS])
        con.executemany("INSERT INTO tasks VALUES (0, ?)", [("wait_for_months",), ("aggregate",)])
        con.execute("CREATE TEMP TABLE steps (task_id, prefix)")
        known = next(iter(catalogue.FLEETS))
        con.executemany(
            "INSERT INTO steps VALUES (?, ?)", [(n, of(known).uri[: -len(known)]) for n, of in STEPS.items()]
        )
        into = _Into(con)
        into.insert(DagModel, "FROM dags", dag_id="dags.dag_id")
        into.insert(
            DagRun,
            "FROM dags JOIN days USING (is_month)",
            dag_id="dag_id",
            run_id="'scheduled__' || day",
            start_date="started",
            end_date="started",
            **{date_column: "day || ' 00:00:00.000000'"},
        )
        into.insert(
            DagRun,
            "FROM dags JOIN days USING (is_month) WHERE failed",
            dag_id="dag_id",
            run_id="'manual__' || day",
            run_type="'manual'",
            state="'failed'",
            start_date="datetime(started, '-1 day')",
            end_date="started",
            conf="NULL",
            **{date_column: "day || ' 00:00:01.000000'"},
        )
        into.insert(
            TaskInstance,
            "FROM dags JOIN days USING (is_month) JOIN tasks USING (is_month)",
            dag_id="dag_id",
            run_id="'scheduled__' || day",
            task_id="tasks.task_id",
            **({"id": "lower(hex(randomblob(16)))"} if compat.IS_AIRFLOW_3 else {}),
        )
        into.insert(
            TaskInstance,
            "FROM dags JOIN days USING (is_month) JOIN tasks USING (is_month) WHERE failed",
            dag_id="dag_id",
            run_id="'manual__' || day",
            task_id="tasks.task_id",
            state="CASE tasks.task_id WHEN 'download' THEN 'failed' ELSE 'upstream_failed' END",
            **({"id": "lower(hex(randomblob(16)))"} if compat.IS_AIRFLOW_3 else {}),
        )
        of_name = {"name": "prefix || name"} if compat.IS_AIRFLOW_3 else {}
        into.insert(asset, "FROM fleets, steps", uri="prefix || name", **of_name)
        table = asset.__table__.name
        into.insert(
            event,
            f"FROM dags JOIN days USING (is_month), steps JOIN {table} AS a ON a.uri = prefix || fleet "
            "WHERE is_month ORDER BY started",
            **{of_asset: "a.id", "timestamp": "started", "source_dag_id": "dag_id", "source_task_id": "steps.task_id"},
            source_run_id="'scheduled__' || day",
            extra="json_object('month', substr(day, 1, 7), 'seconds', 1.5, 'rows', 1, 'path', day)",
        )
        for table in (model.__table__.name for model in (event, asset, TaskInstance, DagRun, DagModel)):
            key = "uri = 't'" if table == asset.__table__.name else None
            key = key or (
                f"{of_asset} = 1 AND source_dag_id IS NULL" if table == event.__table__.name else "dag_id = 't'"
            )
            con.execute(f"DELETE FROM {table} WHERE {key}")
        con.execute("INSERT INTO dag_tag (name, dag_id) SELECT 'nyc_taxi', dag_id FROM dags")
        con.commit()
        con.execute("PRAGMA optimize")
        return {
            model.__table__.name: con.execute(f"SELECT count(*) FROM {model.__table__.name}").fetchone()[0]
            for model in (DagRun, TaskInstance, event)
        }


def _days(months: int) -> Iterator[tuple[int, str, str, int]]:
    """Of each run: whether it is a month's, its date, when it began, and whether one before it has failed."""
    all_months = months_of(months)
    last = TODAY.replace(tzinfo=None) - timedelta(days=60)
    for number, month in enumerate(all_months):
        started = last - timedelta(days=months - number)
        yield 1, str(month.first_day), f"{started:%Y-%m-%d %H:%M:%S}.000000", int(number % FAILED_EVERY == 7)
    monday, number = date(2000, 1, 31), 0
    while monday < all_months[-1].end:
        yield 0, str(monday), f"{last - timedelta(hours=20000 - number):%Y-%m-%d %H:%M:%S}.000000", 0
        monday, number = monday + timedelta(days=7), number + 1


class _Into:
    """Inserts rows that are like a table's only row, but for some columns."""

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con

    def insert(self, model: Any, source: str, **varying: str) -> None:
        """Insert a row for each row of `source`, with these expressions in place of the template's values."""
        table = model.__table__.name
        names = [column.name for column in model.__table__.columns]
        names = [name for name in names if name != "id" or "id" in varying]
        quoted = [f'"{name}"' for name in names]
        template = self._con.execute(f"SELECT {', '.join(quoted)} FROM {table} ORDER BY rowid LIMIT 1").fetchone()
        values = [value for name, value in zip(names, template, strict=True) if name not in varying]
        selected = ", ".join(varying.get(name, "?") for name in names)
        self._con.execute(f"INSERT INTO {table} ({', '.join(quoted)}) SELECT {selected} {source}", values)


# -- What is measured --


def snapshot_from_nothing() -> Result:
    """Write the snapshot of a warehouse of which there is none."""
    hook = _hook()
    from include.nyc_taxi.web import snapshot

    snapshot.path().unlink(missing_ok=True)
    with measured() as result, hook.opened():
        pass
    return result | {"bytes": _bytes_in(snapshot.status_dir())}


def visit() -> Result:
    """Open the warehouse, read nothing and change nothing, as `load` does if nothing is new."""
    hook = _hook()
    with measured() as result, hook.opened():
        pass
    return result


def next_month(fleet: str, month: str) -> Result:
    """What the tasks `load` and `aggregate` do, for a month after all others."""
    hook = _hook()
    from include.nyc_taxi.reports.by_zone import aggregate_month
    from include.nyc_taxi.trips.load import load_month
    from include.tlc_simulator.trips import write_month

    file = settings.data_dir() / f"{fleet}-{month}.parquet"
    with _catalogue_of_the_tlc():
        write_month(file, "green", month, rows=100)
    with measured() as loading, hook.opened() as con:
        load_month(con, fleet, Month(month), file, "bench")
    with measured() as aggregating, hook.opened() as con:
        aggregate_month(con, fleet, Month(month), settings.outputs_dir(fleet))
    with contextlib.closing(hook.get_conn()) as con:
        for table in ("loads", "quality_checks", "trips_by_zone"):
            con.execute(f"DELETE FROM {table} WHERE fleet = ? AND partition_month = ?", [fleet, Month(month).first_day])
        con.execute(f"DELETE FROM {fleet}_trips WHERE partition_month = ?", [Month(month).first_day])
    return {"load": loading, "aggregate": aggregating}


def page() -> Result:
    """What the page asks for: its first look, and one a moment later; a month's panel, and the shared resources."""
    _hook()
    asked = _page()
    from include.orchestration.compat import create_session

    module, fleet = asked, next(iter(catalogue.FLEETS))
    ids = frozenset(module.dag_ids())
    rights = module.Rights(ids, ids)
    found: Result = {}

    def measure(name: str, question: Callable[[Any], Any]) -> None:
        gc.collect()
        with measured() as result, create_session() as session:
            answer = json.dumps(question(session), separators=(",", ":"), allow_nan=False)
        found[name] = result | {"answer_bytes": len(answer)}

    with create_session() as session:
        module.grid_data(session, module.Rights(frozenset(), frozenset()))  # imports what is imported late
    measure("grid, first", lambda session: module.grid_data(session, rights))
    measure("grid, again", lambda session: module.grid_data(session, rights))
    last = max(module.snapshot.read().months[fleet])
    measure("month", lambda session: module.month_data(session, rights, fleet, last))
    measure("month, again", lambda session: module.month_data(session, rights, fleet, last))
    measure("resource", lambda session: module.resource_data(session, rights))
    return found


def outputs() -> Result:
    """The page's outputs of a fleet, of its newest year."""
    _hook()
    _page()
    from include.nyc_taxi.web.outputs import dag_ids
    from include.orchestration.compat import create_session
    from include.orchestration.outputs import outputs_data
    from include.orchestration.page import Rights

    ids = frozenset(dag_ids())
    with create_session() as session:
        for _ in range(2):  # the first one imports what is imported late
            with measured() as result:
                outputs_data(session, Rights(ids, ids), next(iter(catalogue.FLEETS)), "")
    return result


def status(count: int) -> Result:
    """`make status` of the first `count` fleets. The site is not asked: it does not exist."""
    hook = _hook()
    from include.orchestration import status as module

    module.datetime = _Today  # type: ignore[misc]
    module._ask = lambda wanted: ({}, None)
    module.report(hook, [])  # imports what is imported late
    with measured() as result:
        text = module.report(hook, [*catalogue.FLEETS][:count])
    return result | {"lines": text.count("\n")}


def quality(fleet: str, month: str) -> Result:
    """`make quality` of a month."""
    hook = _hook()
    from include.nyc_taxi.audit import report

    with measured() as result, contextlib.closing(hook.get_conn()) as con:
        report.report(con, fleet, Month(month))
    return result


def editions() -> Result:
    """The daily check of all months, of which the site has changed none; the site's answers cost nothing here."""
    hook = _hook()
    from include.nyc_taxi.source.site import Answer
    from include.nyc_taxi.status import editions as module
    from include.nyc_taxi.trips.loaded import months_by_fleet

    def ask_site(head: Any, questions: Any, **limits: Any) -> Any:
        return {url: Answer(True, asked.etag, asked.last_modified) for url, asked in questions.items()}, {}

    module.ask_site = ask_site  # type: ignore[assignment]
    module.datetime = _Today  # type: ignore[misc]
    with contextlib.closing(hook.get_conn()) as con, measured() as result:
        check = module.begin("https://tlc.example", months_by_fleet(con, [*catalogue.FLEETS]))
        module.ask(None, check)  # type: ignore[arg-type]
        module.republished(check)
        module.withdrawn(check, "bench")
    return result | {"months": len(check.months)}


def marts_due() -> Result:
    """Which months a mart lacks: the question that dbt's models begin with."""
    hook = _hook()
    with contextlib.closing(hook.get_conn()) as con, measured() as result:
        con.execute(
            "SELECT fleet, partition_month FROM latest_loads AS l FULL JOIN "
            "(SELECT * FROM marts.built_months WHERE mart = 'mart1') AS b USING (fleet, partition_month) "
            "WHERE l.loaded_at IS DISTINCT FROM b.loaded_at"
        ).fetchall()
    return result


def dag_file_in_a_task() -> Result:
    """Read dags/taxi_trips.py as a task does, for which Airflow says which DAG it needs."""
    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = f"taxi_trips_{next(iter(catalogue.FLEETS))}"
    return dag_files()


def dag_files() -> Result:
    """Read dags/taxi_trips.py, as the DAG processor does, when what it imports has been imported."""
    _hook()
    fleets = dict(catalogue.FLEETS)
    first = next(iter(fleets))
    for name in [*catalogue.FLEETS][1:]:
        del catalogue.FLEETS[name]
    module = importlib.import_module("dags.taxi_trips")
    catalogue.FLEETS |= fleets
    with measured() as result:
        importlib.reload(module)
    assert hasattr(module, f"taxi_trips_{first}")
    return result


def _hook() -> Any:
    """The tasks' hook, with its connection looked up, and what opening a warehouse imports."""
    from include.nyc_taxi.web import visit as _  # noqa: F401
    from warehouse_hook import WarehouseHook

    assert WarehouseHook().get_database()
    return WarehouseHook()


def _page() -> Any:
    from include.orchestration import page as module

    module.datetime = _Today  # type: ignore[misc]
    return module


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


MEASUREMENTS: dict[str, Callable[..., Result]] = {
    function.__name__: function
    for function in (
        make_warehouse,
        make_files,
        make_runs,
        snapshot_from_nothing,
        visit,
        next_month,
        page,
        outputs,
        status,
        quality,
        editions,
        marts_due,
        dag_files,
        dag_file_in_a_task,
    )
}

if __name__ == "__main__":
    component.collect_seldom()  # as Airflow's components and our commands do
    sys.path.insert(0, str(PLUGINS))
    given = json.load(sys.stdin)
    put_into_catalogue(given.pop("catalogue"))
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**given)))
