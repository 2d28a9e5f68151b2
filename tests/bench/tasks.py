"""Measurements that run the DAG's own tasks, each in a process of its own: `python -m tests.bench.tasks <name> <json>`.

The last line it prints is its result as JSON. What they need is in the environment: see `archive.Archive`.
"""

import contextlib
import importlib
import inspect
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.months import Month
from tests.bench.measure import PLUGINS, Result, measured

TASKS = ("download", "load", "aggregate", "draw")


class Tasks:
    """The python callables of `dags/taxi_trips.py`, called as Airflow does: with what of a run's context they ask for.

    All in one process that has imported everything, one after another, each with a hook, a connection and a
    transaction of its own as ever. Airflow starts a process for each task, whose start and imports cost the same in
    the archive's first month as in its last, and more than most tasks: they would only hide what is looked for here.
    """

    def __init__(self) -> None:
        sys.path.insert(0, str(PLUGINS))
        self._dag_file = importlib.import_module("dags.taxi_trips")

    def run(self, task: str, fleet: str, month: str, **context: Any) -> Any:
        function = getattr(self._dag_file, task)
        context |= {
            "fleet": fleet,
            "month": month,
            "run_id": "bench",
            "dag_run": SimpleNamespace(run_id="bench", run_type="manual"),
            "task": SimpleNamespace(retries=0, outlets=[]),
            "ti": SimpleNamespace(max_tries=0),
            "params": {},
            "outlet_events": defaultdict(lambda: SimpleNamespace(extra={})),
        }
        parameters = inspect.signature(function).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        return function(**context if takes_all else {name: context[name] for name in parameters})

    def run_month(self, fleet: str, month: str) -> dict[str, float]:
        """Run all tasks of a month; returns the seconds of each."""
        seconds, downloaded = {}, None
        for task in TASKS:
            started = time.perf_counter()
            done = self.run(task, fleet, month, downloaded=downloaded)
            seconds[task] = time.perf_counter() - started
            downloaded = done if task == "download" else downloaded
        return seconds


def make_file(path: str, fleet: str, month: str, rows: int) -> Result:
    """Have the simulator make a month's file, if it is not there."""
    from include.tlc_simulator.trips import write_month

    if not Path(path).exists():
        write_month(Path(path), fleet, month, rows=rows)
    return {}


def make_site(site: str, months: list[tuple[str, str, int]]) -> Result:
    """Have the simulator make the files of a site that are not there yet: zones, and (fleet, month, rows) each."""
    from include.tlc_simulator.city import write_lookup, write_shapes

    for path, write in ((catalogue.ZONE_LOOKUP_PATH, write_lookup), (catalogue.ZONE_SHAPES_PATH, write_shapes)):
        if not Path(site + path).exists():
            write(Path(site + path))
    for fleet, month, rows in months:
        make_file(site + catalogue.file_path(fleet, month), fleet, month, rows)
    return {}


def run_archive(data_dir: str, months: list[tuple[str, str, int]]) -> Result:
    """Run all tasks of (fleet, month, rows) after (fleet, month, rows), in a new warehouse.

    Returns:
        `months`: for each fleet, month, rows, seconds by task, processor seconds of all tasks; `bytes`: of each fleet's
        table; `file_bytes`.
    """
    tasks = Tasks()
    _rehearse(tasks, data_dir, *months[0][:2])
    done: list[Result] = []
    took = 0.0
    for fleet, month, rows in months:
        started = time.process_time()
        seconds = tasks.run_month(fleet, month)
        processor = time.process_time() - started
        done.append({"fleet": fleet, "month": month, "rows": rows, "seconds": seconds, "processor_seconds": processor})
        took += sum(seconds.values())
        if len(done) % 50 == 0:
            lately, took = took / 50, 0.0
            print(f"  {month}: {len(done)} files, the last 50 at {lately:.2f} s", file=sys.stderr, flush=True)
    return {"months": done, "bytes": _table_bytes(), "file_bytes": Path(_database(data_dir)).stat().st_size}


def next_month(full: str, empty: str, fleet: str, month: str, rounds: int) -> Result:
    """Run a month's tasks in the data directory that has all, and in one that has none, by turns.

    Returns:
        `full` and `empty`: for each task the seconds of all rounds. The first round is the month's first load.
    """
    tasks = Tasks()
    found: dict[str, dict[str, list[float]]] = {place: {task: [] for task in TASKS} for place in ("full", "empty")}
    _rehearse(tasks, empty, fleet, month)
    for number in range(rounds):
        places = [("full", full), ("empty", empty)]
        for place, data_dir in places if number % 2 else reversed(places):
            with _in(data_dir):
                # As if it were there for the first time: else nothing would be new, and all be skipped.
                for file in (Path(data_dir) / "raw").glob(f"{fleet}_tripdata_{month}.*"):
                    file.unlink()
                for task, seconds in tasks.run_month(fleet, month).items():
                    found[place][task].append(seconds)
    return dict(found)


def ask(data_dir: str, rounds: int) -> Result:
    """Ask the warehouse what people and `make status` ask it, each in a new connection.

    Returns:
        Seconds of all rounds by question, and of `connect`, which is from opening the file to having it open.
    """
    sys.path.insert(0, str(PLUGINS))
    from include.nyc_taxi.audit import report
    from include.nyc_taxi.trips.loaded import months_by_fleet
    from warehouse_hook import WarehouseHook

    with contextlib.closing(WarehouseHook().get_conn()) as con:
        fleet, first, last = con.execute(
            "SELECT fleet, min(partition_month), max(partition_month) FROM loads GROUP BY ALL ORDER BY count(*) DESC"
        ).fetchone() or ("", None, None)
    questions: dict[str, Callable[[Any], object]] = {
        "loads": lambda con: con.execute("FROM loads ORDER BY loaded_at").fetchall(),
        "trips_by_zone, a month": lambda con: con.execute(
            "SELECT zone_id, num_trips FROM trips_by_zone WHERE fleet = ? AND partition_month = ? ORDER BY num_trips",
            [fleet, last],
        ).fetchall(),
        "trips_by_zone, Manhattan over all months": lambda con: con.execute(
            warehouse.sql("manhattan_stats"), {"fleet": fleet, "first": first, "last": last}
        ).fetchall(),
        "make status, all fleets": lambda con: months_by_fleet(con, [*catalogue.FLEETS]),
        "make quality, a month": lambda con: report.report(con, fleet, Month.of(last)),
    }
    found: Result = {name: [] for name in ("connect", *questions)}
    for _ in range(rounds):
        for name, question in questions.items():
            started = time.perf_counter()
            with contextlib.closing(WarehouseHook().get_conn()) as con:
                connected = time.perf_counter()
                assert question(con)
                found[name].append(time.perf_counter() - connected)
            found["connect"].append(connected - started)
    return found


def load_zones(data_dir: str) -> Result:
    """Make a warehouse with zones. A process of its own: what reads shapes takes memory that no load does."""
    sys.path.insert(0, str(PLUGINS))
    from include.orchestration import zones
    from tlc_hook import TlcHook
    from warehouse_hook import WarehouseHook

    events: Any = defaultdict(lambda: SimpleNamespace(extra={}))
    zones.download_zones(TlcHook(), events)
    zones.load_zones(WarehouseHook(), events)
    return {"data_dir": data_dir}


def load(data_dir: str, fleet: str, month: str) -> Result:
    """Run the task `load` of a month whose file is in raw/; as `measured`, and more.

    Returns:
        Besides: `rows` loaded; `bytes` of the fleet's table, `file_bytes` of all of the warehouse.
    """
    tasks = Tasks()
    from warehouse_hook import WarehouseHook

    assert WarehouseHook().airflow_connection
    with measured() as result:
        tasks.run("load", fleet, month, downloaded=None)
    with contextlib.closing(WarehouseHook().get_conn()) as con:
        (result["rows"],) = con.execute(
            f"SELECT count(*) FROM {catalogue.fleet(fleet).table} WHERE partition_month = ?", [Month(month).first_day]
        ).fetchone() or (0,)
    if WarehouseHook().is_lake:
        sizes = {path: path.stat().st_size for path in (Path(data_dir) / "lake").rglob("*.parquet")}
        of_table = sum(size for path, size in sizes.items() if catalogue.fleet(fleet).table in path.parts)
        return result | {"bytes": of_table, "file_bytes": sum(sizes.values())}
    return result | {"bytes": _table_bytes()[fleet], "file_bytes": Path(_database(data_dir)).stat().st_size}


def commit(zone: int, count: int) -> Result:
    """Commit so many small transactions, of rows that no other process writes; returns when it began and ended."""
    sys.path.insert(0, str(PLUGINS))
    from warehouse_hook import WarehouseHook

    with WarehouseHook().opened() as con:
        started = time.time()
        for number in range(count):
            values = ["yellow", Month(f"20{10 + number // 12}-{1 + number % 12:02}").first_day, zone + 1, number]
            warehouse.write(
                con, lambda values=values: con.execute("INSERT INTO trips_by_zone VALUES (?, ?, ?, ?)", values)
            )
        return {"started": started, "ended": time.time()}


def _rehearse(tasks: Tasks, data_dir: str, fleet: str, month: str) -> None:
    """Run a month elsewhere: what is imported late is imported now."""
    with _in(f"{data_dir}-rehearsal-{datetime.now(UTC):%H%M%S}"):
        tasks.run_month(fleet, month)


@contextlib.contextmanager
def _in(data_dir: str) -> Iterator[None]:
    """Have the tasks work in another data directory."""
    names = ("NYC_TAXI_DATA_DIR", "AIRFLOW_CONN_WAREHOUSE")
    before = {name: os.environ[name] for name in names}
    os.environ |= dict(zip(names, (data_dir, connection(data_dir)), strict=True))
    try:
        yield
    finally:
        os.environ |= before


def connection(data_dir: str) -> str:
    """The value of `AIRFLOW_CONN_WAREHOUSE` for the warehouse in a data directory; without one Airflow would look
    for the connection in a metadata database, which there is none of here."""
    return json.dumps({"conn_type": "duckdb", "host": _database(data_dir)})


def lake_connection(data_dir: str) -> str:
    """The same for a lake there, whose catalog is a file: what a load costs hardly depends on where that is."""
    extra = {"data_path": f"{data_dir}/lake/"}
    return json.dumps({"conn_type": "duckdb", "host": f"ducklake:{data_dir}/catalog.ducklake", "extra": extra})


def _database(data_dir: str) -> str:
    return f"{data_dir}/warehouse.duckdb"


def _table_bytes() -> dict[str, float]:
    """What each fleet's table takes of the warehouse's file; of a block that several share, each has its part."""
    from warehouse_hook import WarehouseHook

    tables = " UNION ALL ".join(
        f"SELECT '{name}' AS fleet, block_id, additional_block_ids FROM pragma_storage_info('{fleet.table}')"
        for name, fleet in catalogue.FLEETS.items()
    )
    with contextlib.closing(WarehouseHook().get_conn()) as con:
        found = con.execute(
            f"""
            WITH segments AS ({tables}),
            blocks AS (
                SELECT fleet, block_id FROM segments UNION SELECT fleet, unnest(additional_block_ids) FROM segments
            ),
            parts AS (SELECT fleet, 1 / count(*) OVER (PARTITION BY block_id) AS part FROM blocks WHERE block_id >= 0)
            SELECT fleet, sum(part) * (SELECT any_value(block_size) FROM pragma_database_size()) FROM parts GROUP BY ALL
            """
        )
        return dict.fromkeys(catalogue.FLEETS, 0.0) | dict(found.fetchall())


MEASUREMENTS = {
    function.__name__: function
    for function in (make_file, make_site, run_archive, next_month, ask, load_zones, load, commit)
}

if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.stdin.read()))))
