"""The measurements, each in a process of its own: `python -m tests.bench.measure <name> <arguments>`.

The last line it prints is its result as JSON. A process of its own, because memory that one load has taken would be
there for the next. Clocks start after the imports: those are the same for every task, and a bare script has none.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month, month_range

FLEET, MONTH = "yellow", "2023-01"
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"

Result = dict[str, Any]


def make_file(path: str, rows: str) -> Result:
    """Have the simulator make the month's file."""
    from include.tlc_simulator.trips import write_month

    write_month(Path(path), FLEET, MONTH, rows=int(rows))
    return {}


def bare_load(database: str, path: str, threads: str) -> Result:
    """Insert the file's columns, cast to our types, into an empty table with plain DuckDB; connect to close.

    `threads` is empty for DuckDB's default, as in `our_load`.
    """
    fleet = catalogue.fleet(FLEET)
    in_file = {name.casefold() for name in fleet.layout(MONTH).names}
    columns = [column for column in fleet.columns if column.published_as.casefold() in in_file]
    create = ", ".join(f"{column.name} {column.type}" for column in columns)
    select = ", ".join(f"CAST({column.published_as} AS {column.type})" for column in columns)
    config = {"threads": int(threads)} if threads else {}
    with measured() as result, duckdb.connect(database, config=config) as con:
        result["threads"] = _threads(con)
        con.execute(f"CREATE TABLE trips ({create})")
        con.execute(f"INSERT INTO trips SELECT {select} FROM read_parquet('{path}')")
    return result


def duckdb_settings(database: str) -> Result:
    """What DuckDB may use in a task: its settings `threads` and `memory_limit`."""
    with _hook(database).opened() as con:
        (memory_limit,) = con.execute("SELECT current_setting('memory_limit')").fetchone() or ("",)
        return {"threads": _threads(con), "memory_limit": memory_limit}


def make_tables(database: str) -> Result:
    """Make a warehouse whose tables are there and empty: of a warehouse's life, the first load alone makes them."""
    from include.nyc_taxi import warehouse

    with _hook(database).transaction() as con:
        warehouse.ensure_tables(con)
    return {}


def our_load(database: str, path: str, threads: str) -> Result:
    """Do what the task `load` does; connect to close. `audit_seconds` is the part that checks what was inserted."""
    from include.nyc_taxi.audit import engine, report
    from include.nyc_taxi.trips.load import load_month

    hook = _hook(database, int(threads) if threads else None)
    with (
        _timed(engine, "audit") as audit,
        _timed(report, "record") as record,
        measured() as result,
        hook.opened() as con,
    ):
        result["threads"] = _threads(con)
        load_month(con, FLEET, Month(MONTH), Path(path), "bench")
    return result | {"audit_seconds": sum(audit + record)}


def fill(folder: str, path: str, first_month: str) -> Result:
    """Make a warehouse of the months from `first_month` to `MONTH`, each with the file's trips, moved to it."""
    from include.nyc_taxi.reports.by_zone import aggregate_month
    from include.nyc_taxi.trips import zones
    from include.nyc_taxi.trips.load import load_month
    from include.tlc_simulator.city import write_lookup, write_shapes

    lookup, shapes = Path(folder) / "lookup.csv", Path(folder) / "shapes.zip"
    write_lookup(lookup)
    write_shapes(shapes)
    hook = _hook(_warehouse(folder))
    with hook.opened() as con:
        zones.load_zones(con, zones.read_zones(lookup, shapes))
    for month in month_range(first_month, MONTH):
        file = Path(path) if month == MONTH else _moved(Path(path), Path(folder), month)
        with hook.opened() as con:
            load_month(con, FLEET, Month(month), file, "bench")
        with hook.opened() as con:
            aggregate_month(con, FLEET, Month(month), Path(folder))
    return {}


def _moved(path: Path, folder: Path, month: str) -> Path:
    """A copy of the file with its trips moved to an earlier month; no month is loaded whose trips are another's."""
    back, moved = len(month_range(month, MONTH)) - 1, folder / "moved.parquet"
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT * REPLACE (tpep_pickup_datetime - to_months({back}) AS tpep_pickup_datetime, "
            f"tpep_dropoff_datetime - to_months({back}) AS tpep_dropoff_datetime) FROM read_parquet('{path}')) "
            f"TO '{moved}' (FORMAT parquet)"
        )
    return moved


def aggregate_and_map(first: str, sixtieth: str, rounds: str) -> Result:
    """Do what the tasks `aggregate` and `map` do for `MONTH`, in two warehouses that `fill` made, by turns.

    A round of each that is not timed comes first: it imports what is imported late.
    """
    from include.nyc_taxi.reports.by_zone import aggregate_month
    from include.nyc_taxi.reports.maps import draw_maps

    hooks = {folder: _hook(_warehouse(folder)) for folder in (first, sixtieth)}
    result: Result = {f"{task} {place}": [] for task in ("aggregate", "map") for place in ("first", "sixtieth")}
    for number in range(int(rounds) + 1):
        places = [("first", first), ("sixtieth", sixtieth)]
        for place, folder in places if number % 2 else reversed(places):
            with measured() as aggregating, hooks[folder].opened() as con:
                done = aggregate_month(con, FLEET, Month(MONTH), Path(folder))
            with measured() as drawing:
                draw_maps(MONTH, Path(folder))
            if number:
                result[f"aggregate {place}"].append(aggregating["seconds"])
                result[f"map {place}"].append(drawing["seconds"])
                result[f"trips {place}"] = done.trips
    return result


def aggregate_task(folder: str) -> Result:
    """Do what the task `aggregate` does for `MONTH`, once."""
    from include.nyc_taxi.reports.by_zone import aggregate_month

    with _hook(_warehouse(folder)).opened() as con:
        aggregate_month(con, FLEET, Month(MONTH), Path(folder))
    return {}


def map_task(folder: str) -> Result:
    """Do what the task `map` does for `MONTH`, once."""
    from include.nyc_taxi.reports.maps import draw_maps

    draw_maps(MONTH, Path(folder))
    return {}


def _warehouse(folder: str) -> str:
    return f"{folder}/warehouse.duckdb"


def _hook(database: str, threads: int | None = None) -> Any:
    """The tasks' hook. Whatever it imports, also when it looks up its connection, is imported here."""
    sys.path.insert(0, str(PLUGINS))
    from warehouse_hook import WarehouseHook

    assert WarehouseHook().airflow_connection
    return WarehouseHook(database=database, threads=threads)


@contextmanager
def _timed(module: ModuleType, name: str) -> Iterator[list[float]]:
    """Yields a list that gets the seconds of each call of this function of a module."""
    seconds: list[float] = []
    function = getattr(module, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - started)

    setattr(module, name, timed)
    try:
        yield seconds
    finally:
        setattr(module, name, function)


def _threads(con: duckdb.DuckDBPyConnection) -> int:
    (threads,) = con.execute("SELECT current_setting('threads')").fetchone() or (0,)
    return int(threads)


@contextmanager
def measured() -> Iterator[Result]:
    """Yields a result that has, after the block: seconds, processor seconds, and the process's peak memory in bytes."""
    result: Result = {}
    started, processor_started = time.perf_counter(), time.process_time()
    yield result
    result["seconds"] = time.perf_counter() - started
    result["processor_seconds"] = time.process_time() - processor_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_bytes"] = peak if sys.platform == "darwin" else 1024 * peak


MEASUREMENTS = {
    function.__name__: function
    for function in (
        make_file,
        bare_load,
        duckdb_settings,
        make_tables,
        our_load,
        fill,
        aggregate_and_map,
        aggregate_task,
        map_task,
    )
}

if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](*sys.argv[2:])))
