"""The dbt project on a real warehouse: `make dbt`, with dbt's own program, on months of two fleets."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.local import dbt, dbt_backfill, dbt_manifest
from include.local.errors import CommandError
from include.nyc_taxi import catalogue, settings, warehouse
from include.nyc_taxi.errors import SettingError
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month
from include.tlc_simulator.trips import write_month

pytestmark = pytest.mark.slow

FLEETS, MONTHS, ROWS = ("green", "fhv"), ("2023-01", "2023-02"), 500
MARTS = ("daily_trips", "zone_hourly_demand", "zone_to_zone_flows", "payment_and_tips")
"""Marts in which each trip is counted once."""

Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def installed() -> None:
    try:
        settings.dbt_program()
    except SettingError:
        pytest.skip("dbt is not installed; `make dbt-manifest` installs it")


@contextmanager
def opened(data_dir: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    data_dir.mkdir(exist_ok=True)
    with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
        warehouse.ensure_tables(con)
        yield con


@pytest.fixture
def load(data_dir: Path, tmp_path: Path) -> Callable[..., None]:
    """Load months of fleets: simulated trips."""

    def load(*months: tuple[str, str], rows: int = ROWS) -> None:
        with opened(data_dir) as con:
            for fleet, month in months:
                path = tmp_path / str(rows) / catalogue.file_name(fleet, month)
                path.parent.mkdir(exist_ok=True)
                write_month(path, fleet, month, rows=rows)
                load_month(con, fleet, Month(month), path, "run 1")

    return load


@pytest.fixture
def query(data_dir: Path) -> Query:
    def query(sql: str) -> list[tuple[Any, ...]]:
        with opened(data_dir) as con:
            return con.execute(sql).fetchall()

    return query


@pytest.fixture
def zones(data_dir: Path) -> None:
    """Zones of which one is an airport: to the TLC's ID, the name and borough."""
    with opened(data_dir) as con:
        for zone_id in range(1, catalogue.ZONES + 1):
            name = "JFK Airport" if zone_id == 132 else f"Zone {zone_id}"
            con.execute("INSERT INTO zones VALUES (?, ?, 'Queens', 'Boro Zone', NULL)", [zone_id, name])


@pytest.fixture
def all_months(zones: None, load: Callable[..., None]) -> list[tuple[str, str]]:
    months = [(fleet, month) for fleet in FLEETS for month in MONTHS]
    load(*months)
    return months


def build(*arguments: str, **of_range: str) -> None:
    assert dbt.run(["build", *arguments], **of_range) == 0


def counted(query: Query, mart: str = "daily_trips") -> dict[tuple[str, str], int]:
    """The number of trips of each fleet and month in a mart."""
    sql = f"SELECT fleet, strftime(partition_month, '%Y-%m'), sum(num_trips)::BIGINT FROM marts.{mart} GROUP BY ALL"
    return {(fleet, month): trips for fleet, month, trips in query(sql)}


def built_at(query: Query) -> dict[tuple[str, str, str], Any]:
    """When each mart built each month."""
    sql = "SELECT mart, fleet, strftime(partition_month, '%Y-%m'), built_at FROM marts.built_months"
    return {(mart, fleet, month): at for mart, fleet, month, at in query(sql)}


def test_marts_count_what_direct_queries_count(all_months: list[tuple[str, str]], query: Query) -> None:
    build()
    assert [counted(query, mart) for mart in MARTS] == [dict.fromkeys(all_months, ROWS)] * len(MARTS)
    of_days = (
        "SELECT fleet, partition_month, pickup_datetime::DATE AS day, count(*) AS clean_trips, "
        "round(sum(total_amount) FILTER (WHERE isfinite(total_amount)), 6) FROM trips_clean GROUP BY ALL ORDER BY ALL"
    )
    in_mart = (
        "SELECT fleet, partition_month, day, clean_trips, round(clean_total_amount, 6) FROM marts.daily_trips "
        "WHERE clean_trips > 0 ORDER BY ALL"
    )
    assert query(in_mart) == query(of_days)
    of_airports = "SELECT count(*) FROM trips WHERE pickup_zone_id = 132"
    assert query("SELECT sum(num_trips) FROM marts.airport_trips WHERE direction = 'from'") == query(of_airports)
    tips = "SELECT fleet, 100 * sum(tip_amount) / sum(fare_amount) FROM trips_clean WHERE payment_type = 1 GROUP BY ALL"
    assert query("SELECT DISTINCT fleet FROM marts.payment_and_tips WHERE tip_percent > 0") == [("green",)]
    assert query(tips)[0][1] == pytest.approx(
        query(
            "SELECT 100 * sum(clean_tip_amount) / sum(clean_fare_amount) FROM marts.payment_and_tips "
            "WHERE payment_type = 1"
        )[0][0]
    )


def test_a_run_builds_only_months_that_are_new_late_or_loaded_again(
    all_months: list[tuple[str, str]], query: Query, load: Callable[..., None]
) -> None:
    build("--select", "+daily_trips")
    before = built_at(query)
    load(("green", "2023-02"), rows=ROWS + 100)  # again
    load(("green", "2022-12"))  # late
    build("--select", "daily_trips")
    changed = {("daily_trips", "green", "2022-12"), ("daily_trips", "green", "2023-02")}
    after = built_at(query)
    assert {key for key, at in after.items() if before.get(key) != at} == changed
    assert counted(query) == dict.fromkeys(all_months, ROWS) | {
        ("green", "2022-12"): ROWS,
        ("green", "2023-02"): ROWS + 100,
    }


def test_a_month_that_has_become_empty_or_is_gone_has_no_rows_left(
    all_months: list[tuple[str, str]], query: Query
) -> None:
    build("--select", "+daily_trips")
    for fleet, change in (
        ("green", "UPDATE loads SET rows_loaded = 0, loaded_at = loaded_at + INTERVAL 1 DAY"),
        ("fhv", "DELETE FROM loads"),
    ):
        query(f"DELETE FROM {fleet}_trips WHERE partition_month = '2023-01-01'")
        query(f"{change} WHERE fleet = '{fleet}' AND partition_month = '2023-01-01'")
    build("--select", "daily_trips")
    assert counted(query) == {("green", "2023-02"): ROWS, ("fhv", "2023-02"): ROWS}
    assert {key[1:] for key in built_at(query)} == {("green", "2023-01"), ("green", "2023-02"), ("fhv", "2023-02")}


def test_a_range_is_built_whether_or_not_it_has_changed_and_nothing_else_is(
    all_months: list[tuple[str, str]], query: Query
) -> None:
    build("--select", "+daily_trips", fleet="green", first="2023-02")
    assert counted(query) == {("green", "2023-02"): ROWS}
    before = built_at(query)
    build("--select", "daily_trips", fleet="green", first="2023-02", last="2023-02")
    assert counted(query) == {("green", "2023-02"): ROWS}
    assert built_at(query) != before
    build("--select", "daily_trips")
    assert counted(query) == dict.fromkeys(all_months, ROWS)


def test_a_full_refresh_of_a_range_is_refused_and_keeps_the_other_months(
    all_months: list[tuple[str, str]], query: Query, capfd: pytest.CaptureFixture[str]
) -> None:
    build("--select", "+daily_trips")
    assert dbt.run(["run", "--full-refresh", "--select", "daily_trips"], first="2023-02") == 1
    assert "--full-refresh would leave only the months" in capfd.readouterr().out
    assert counted(query) == dict.fromkeys(all_months, ROWS)
    build("--full-refresh", "--select", "daily_trips")
    assert counted(query) == dict.fromkeys(all_months, ROWS)


def test_a_trip_that_is_lost_fails_the_test_that_counts_them(
    all_months: list[tuple[str, str]], query: Query, capfd: pytest.CaptureFixture[str]
) -> None:
    build("--select", "+daily_trips")
    query("UPDATE marts.daily_trips SET num_trips = num_trips - 1 WHERE fleet = 'green' AND day = '2023-02-03'")
    assert dbt.run(["test", "--select", "daily_trips"]) == 1
    assert "counts_every_trip_daily_trips" in capfd.readouterr().out


def test_a_new_column_is_null_in_old_months_and_filled_in_new_ones(
    all_months: list[tuple[str, str]],
    query: Query,
    load: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build("--select", "+daily_trips")
    copy = shutil.copytree(dbt.PROJECT, tmp_path / "project")
    model, description = copy / "models" / "marts" / "daily_trips.sql", copy / "models" / "marts" / "marts.yml"
    model.write_text(model.read_text().replace("count(*) as num_trips,", "count(*) as num_trips, 7 as lucky,"))
    added = "    columns:\n      - {name: lucky, data_type: integer, description: A number}"
    description.write_text(description.read_text().replace("    columns:\n", f"{added}\n", 1))
    monkeypatch.setattr(dbt, "PROJECT", copy)
    load(("green", "2023-03"))
    build("--select", "daily_trips")
    with_it = query("SELECT DISTINCT strftime(partition_month, '%Y-%m'), lucky FROM marts.daily_trips ORDER BY ALL")
    assert with_it == [("2023-01", None), ("2023-02", None), ("2023-03", 7)]
    assert counted(query) == dict.fromkeys([*all_months, ("green", "2023-03")], ROWS)


def test_a_run_that_cannot_record_its_months_leaves_the_old_rows(
    all_months: list[tuple[str, str]],
    query: Query,
    load: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    build("--select", "+daily_trips")
    before = built_at(query)
    load(("green", "2023-02"), rows=ROWS + 100)
    query("ALTER TABLE marts.built_months RENAME built_at TO renamed")
    assert dbt.run(["run", "--select", "daily_trips"], fleet="green", first="2023-02") == 1
    assert 'does not have a column with name "built_at"' in capfd.readouterr().out
    query("ALTER TABLE marts.built_months RENAME renamed TO built_at")
    assert counted(query) == dict.fromkeys(all_months, ROWS)
    assert built_at(query) == before


def test_the_manifest_is_as_the_project_is() -> None:
    assert dbt_manifest.MANIFEST.read_text() == dbt_manifest.describe(), "run `make dbt-manifest`"


def test_without_a_warehouse_the_error_says_what_to_do() -> None:
    with pytest.raises(CommandError, match=r"no warehouse yet at .*warehouse\.duckdb: run make demo or make backfill"):
        dbt.run(["build"])


def test_every_model_and_column_has_a_description() -> None:
    manifest = json.loads(dbt_manifest.MANIFEST.read_text())
    described = [*manifest["nodes"].values(), *manifest["sources"].values()]
    tables = [node for node in described if node["resource_type"] in ("model", "seed", "source")]
    assert len(tables) > 20
    for node in tables:
        assert node["description"], node["name"]
        assert node["columns"], node["name"]
        assert all(column["description"] for column in node["columns"].values()), node["name"]


def test_a_range_is_built_in_one_process_that_says_how_it_goes(
    all_months: list[tuple[str, str]], query: Query, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dbt_backfill.run("green", *MONTHS) == 0
    printed = capsys.readouterr().out
    assert "daily_trips: built 2 months: green 2023-01 to 2023-02" in printed
    assert printed.endswith("The marts have 2023-01 to 2023-02 of green.\n")
    assert counted(query) == dict.fromkeys([("green", month) for month in MONTHS], ROWS)
