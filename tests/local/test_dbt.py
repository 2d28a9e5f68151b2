"""The dbt project on a real warehouse: `make dbt`, with dbt's own program, on months of all fleets."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.local import dbt, dbt_backfill, dbt_manifest
from include.local.errors import CommandError
from include.nyc_taxi import settings
from include.orchestration.compat import IS_AIRFLOW_3
from tests.local.marts import (
    PUBLISHED,
    Load,
    Query,
    load_files,
    results,
    simulated,
)
from tests.with_dbt import needs_dbt

pytestmark = [
    pytest.mark.slow,
    needs_dbt,
    pytest.mark.xdist_group("dbt"),  # one warehouse for all tests
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="dbt is the same program on both lines; see test_dbt_lines.py"),
]

MARTS = ("daily_trips", "zone_hourly_demand", "zone_to_zone_flows", "payment_and_tips")
"""Marts in which each trip is counted once."""
KILLS = 4


@pytest.fixture
def query(built: Path) -> Query:
    def query(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(built)) as con:
            return con.execute(sql).fetchall()

    return query


@pytest.fixture
def load(built: Path, tmp_path: Path) -> Load:
    """Load made-up months."""

    def load(*months: tuple[str, str], rows: int = 500) -> None:
        with duckdb.connect(str(built)) as con:
            load_files(con, simulated(tmp_path, months, rows))

    return load


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the dbt project to change."""
    copy = shutil.copytree(dbt.PROJECT, tmp_path / "project")
    monkeypatch.setattr(dbt, "PROJECT", copy)
    return copy


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{file.name} has changed: {old}"
    file.write_text(text.replace(old, new, 1))


def counted(query: Query, mart: str = "daily_trips") -> dict[tuple[str, str], int]:
    """The number of trips of each fleet and month in a mart."""
    sql = f"SELECT fleet, strftime(partition_month, '%Y-%m'), sum(num_trips)::BIGINT FROM marts.{mart} GROUP BY ALL"
    return {(fleet, month): trips for fleet, month, trips in query(sql)}


def loaded(query: Query) -> dict[tuple[str, str], int]:
    """The number of trips of each fleet and month that have been loaded."""
    sql = "SELECT fleet, strftime(partition_month, '%Y-%m'), rows_loaded FROM latest_loads"
    return {(fleet, month): trips for fleet, month, trips in query(sql)}


def built_at(query: Query) -> dict[tuple[str, str, str], Any]:
    """When each mart built each month."""
    sql = "SELECT mart, fleet, strftime(partition_month, '%Y-%m'), built_at FROM marts.built_months"
    return {(mart, fleet, month): at for mart, fleet, month, at in query(sql)}


# What stands in a mart, and the same from the TLC's Parquet files of green taxis: {files} is the list of files.
AS_PUBLISHED = {
    "daily_trips": (
        "partition_month, day, num_trips, round(total_amount, 3)",
        "lpep_pickup_datetime::DATE, count(*), round(sum(total_amount), 3)",
    ),
    "zone_hourly_demand": (
        "partition_month, zone_id, is_weekend, hour, num_trips",
        "PULocationID, dayname(lpep_pickup_datetime) IN ('Saturday', 'Sunday'), hour(lpep_pickup_datetime), count(*)",
    ),
    "zone_to_zone_flows": (
        "partition_month, pickup_zone_id, dropoff_zone_id, num_trips",
        "PULocationID, DOLocationID, count(*)",
    ),
    "payment_and_tips": ("partition_month, payment_type, num_trips", "payment_type, count(*)"),
}
AIRPORTS = """
SELECT month, PULocationID, 'from' AS direction, count(*)
FROM published WHERE PULocationID IN (1, 132, 138) GROUP BY ALL
UNION ALL
SELECT month, DOLocationID, 'to', count(*)
FROM published WHERE DOLocationID IN (1, 132, 138) GROUP BY ALL ORDER BY ALL
"""
# The same of clean trips, from the view that the audit defines: columns of a mart, and of `trips_clean`.
OF_CLEAN_TRIPS = {
    "daily_trips": (
        (
            "partition_month, day, clean_trips, round(clean_total_amount, 3), round(clean_trip_distance, 3), "
            "round(clean_minutes, 6)"
        ),
        (
            "pickup_datetime::DATE AS day, count(*), round(sum(total_amount), 3), round(sum(trip_distance), 3), "
            "round(avg(epoch(dropoff_datetime - pickup_datetime) / 60), 6)"
        ),
    ),
    "payment_and_tips": (
        (
            "partition_month, payment_type, clean_trips, round(clean_fare_amount, 3), round(clean_tip_amount, 3), "
            "round(tip_percent, 6)"
        ),
        (
            "payment_type, count(*), round(sum(fare_amount), 3), round(sum(tip_amount), 3), "
            "round(100 * sum(tip_amount) / sum(fare_amount), 6)"
        ),
    ),
}


def differences(query: Query, files: list[Path]) -> list[str]:
    """The marts that differ from direct queries on the files of green taxis, and on their clean trips."""
    listed = ", ".join(f"'{file}'" for file in files)
    published = (
        "WITH published AS (SELECT *, (regexp_extract(filename, '\\d{4}-\\d{2}') || '-01')::DATE AS month "
        f"FROM read_parquet([{listed}], filename = true, union_by_name = true)) "
    )
    of_fleet = "fleet = 'green' AND partition_month >= '2023-01-01'"
    found = []
    for mart, (columns, direct) in AS_PUBLISHED.items():
        in_mart = query(f"SELECT {columns} FROM marts.{mart} WHERE {of_fleet} ORDER BY ALL")
        in_files = f"{published} SELECT month, {direct} FROM published GROUP BY ALL ORDER BY ALL"
        if not in_mart or in_mart != query(in_files):
            found.append(mart)
    for mart, (columns, direct) in OF_CLEAN_TRIPS.items():
        in_mart = query(f"SELECT {columns} FROM marts.{mart} WHERE {of_fleet} AND clean_trips > 0 ORDER BY ALL")
        clean = f"SELECT partition_month, {direct} FROM trips_clean WHERE {of_fleet} GROUP BY ALL ORDER BY ALL"
        if not in_mart or in_mart != query(clean):
            found.append(f"{mart}, clean trips")
    airports = (
        "SELECT partition_month, airport_zone_id, direction, sum(num_trips)::BIGINT FROM marts.airport_trips "
        f"WHERE {of_fleet} GROUP BY ALL ORDER BY ALL"
    )
    if query(airports) != query(published + AIRPORTS):
        found.append("airport_trips")
    return found


def test_marts_equal_direct_queries_on_the_published_files(query: Query) -> None:
    assert differences(query, [path for (fleet, _), path in PUBLISHED.items() if fleet == "green"]) == []
    assert [counted(query, mart) for mart in MARTS] == [loaded(query)] * len(MARTS)
    query("UPDATE marts.daily_trips SET total_amount = total_amount + 0.01 WHERE day = '2023-02-03'")
    query("UPDATE marts.airport_trips SET num_trips = num_trips + 1 WHERE fleet = 'green'")
    query("DELETE FROM marts.zone_to_zone_flows WHERE fleet = 'green' AND pickup_zone_id = 74")
    assert differences(query, [path for (fleet, _), path in PUBLISHED.items() if fleet == "green"]) == [
        "daily_trips",
        "zone_to_zone_flows",
        "airport_trips",
    ]


def test_real_green_months_in_the_marts_equal_direct_queries_on_the_files(
    real_data: Path, built: Path, query: Query
) -> None:
    months = ("2023-01", "2023-02", "2023-03")
    files = {("green", month): real_data / f"tlc/trip-data/green_tripdata_{month}.parquet" for month in months}
    with duckdb.connect(str(built)) as con:
        load_files(con, files)
    assert dbt.run(["build", "--select", "path:models/marts", "--exclude-resource-type", "unit_test"]) == 0
    assert differences(query, list(files.values())) == []
    assert sum(counted(query)["green", month] for month in months) == 68_211 + 64_809 + 72_044
    assert [counted(query, mart) for mart in MARTS] == [loaded(query)] * len(MARTS)


def test_a_run_builds_only_months_that_are_new_late_loaded_again_empty_or_gone(query: Query, load: Load) -> None:
    before = built_at(query)
    load(("green", "2023-02"), ("green", "2023-03"), ("green", "2022-12"))  # again, new and late
    for fleet, change_of_loads in (
        ("fhv", "UPDATE loads SET rows_loaded = 0, loaded_at = loaded_at + INTERVAL 1 DAY"),
        ("fhvhv", "DELETE FROM loads"),
    ):
        query(f"DELETE FROM {fleet}_trips")
        query(f"{change_of_loads} WHERE fleet = '{fleet}'")
    assert dbt.run(["run", "--select", "daily_trips"]) == 0
    after = built_at(query)
    assert {key[1:] for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == {
        ("green", "2023-02"),
        ("green", "2023-03"),
        ("green", "2022-12"),
        ("fhv", "2020-04"),
        ("fhvhv", "2020-04"),
    }
    assert {key[0] for key in before if before[key] != after.get(key)} == {"daily_trips"}
    assert counted(query) == {month: trips for month, trips in loaded(query).items() if trips}
    assert ("daily_trips", "fhv", "2020-04") in after  # it is built, and has no rows
    assert ("daily_trips", "fhvhv", "2020-04") not in after


def test_a_range_is_built_whether_or_not_it_has_changed_and_nothing_else_is(query: Query, load: Load) -> None:
    before = built_at(query)
    load(("green", "2023-03"))
    query("DELETE FROM marts.daily_trips WHERE fleet = 'green'")
    assert dbt.run(["run", "--select", "daily_trips"], fleet="green", first="2023-02", last="2023-02") == 0
    after = built_at(query)
    assert {key for key in after if before.get(key) != after[key]} == {("daily_trips", "green", "2023-02")}
    assert {month for fleet, month in counted(query) if fleet == "green"} == {"2023-02"}


def test_a_full_refresh_of_a_range_is_refused_and_one_of_everything_builds_everything(
    query: Query, capfd: pytest.CaptureFixture[str]
) -> None:
    query("UPDATE marts.daily_trips SET num_trips = 1")
    damaged = counted(query)
    assert dbt.run(["run", "--full-refresh", "--select", "daily_trips"], first="2023-02") == 1
    assert "--full-refresh would leave only the months" in capfd.readouterr().out
    assert counted(query) == damaged
    assert dbt.run(["run", "--full-refresh", "--select", "daily_trips"]) == 0
    assert counted(query) == loaded(query)


def test_a_run_that_cannot_record_its_months_leaves_the_old_rows(
    query: Query, load: Load, capfd: pytest.CaptureFixture[str]
) -> None:
    before, trips = built_at(query), counted(query)
    load(("green", "2023-02"))
    query("ALTER TABLE marts.built_months RENAME built_at TO renamed")
    assert dbt.run(["run", "--select", "daily_trips"]) == 1
    assert 'does not have a column with name "built_at"' in capfd.readouterr().out
    query("ALTER TABLE marts.built_months RENAME renamed TO built_at")
    assert counted(query) == trips
    assert built_at(query) == before


def test_a_killed_run_leaves_each_mart_as_it_was_or_as_it_should_be_and_the_next_run_completes_them(
    built: Path, query: Query, load: Load
) -> None:
    months = [("green", f"2023-{number:02}") for number in range(1, 13)]
    before = {mart: counted(query, mart) for mart in MARTS}
    load(*months, rows=20_000)
    wanted = loaded(query)
    chance = random.Random()
    code = "import sys; from include.local import dbt; sys.exit(dbt.run(['run', '--select', 'path:models/marts']))"
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", "import airflow; " + code], start_new_session=True)
        log = dbt_log()
        started = time.monotonic()
        while process.poll() is None and "START sql incremental" not in written_since(log):
            time.sleep(0.02)
            assert time.monotonic() - started < 300
        time.sleep(chance.uniform(0, 1.5))  # somewhere in the five marts, or after them
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)  # dbt, and what has started it
        process.wait()
        wait_until_free(built)
        for mart in MARTS:
            assert counted(query, mart) in (before[mart], wanted), mart
            recorded = {(fleet, month) for of, fleet, month in built_at(query) if of == mart}
            assert recorded == set(counted(query, mart)), mart
    assert dbt.run(["run", "--select", "path:models/marts"]) == 0
    assert [counted(query, mart) for mart in MARTS] == [wanted] * len(MARTS)


def dbt_log() -> tuple[Path, int]:
    """dbt's log, and how long it is now."""
    log = dbt.home() / "dbt" / "logs" / "dbt.log"
    return log, log.stat().st_size


def written_since(log: tuple[Path, int]) -> str:
    path, size = log
    with path.open("rb") as file:
        file.seek(size if size <= path.stat().st_size else 0)  # dbt begins a new file when it is large
        return file.read().decode(errors="replace")


def wait_until_free(file: Path) -> None:
    """Wait for the end of a killed process, which the kernel may need a moment for."""
    for _ in range(300):
        with contextlib.suppress(duckdb.IOException), duckdb.connect(str(file)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{file} is still open")


def test_every_data_test_can_fail(query: Query) -> None:
    """Each tested table gets two rows of nulls and two that no test allows, and loses most of its own."""
    manifest = json.loads(dbt_manifest.MANIFEST.read_text())
    data_tests = {name.split(".", 2)[2]: node for name, node in manifest["nodes"].items() if name.startswith("test.")}
    tested = {parent for node in data_tests.values() for parent in node["depends_on"]["nodes"]}
    for parent in sorted(tested):  # a view before its table: model … before source …, latest_loads before loads
        node = manifest["nodes"].get(parent) or manifest["sources"][parent]
        damage(query, node["schema"], node.get("alias") or node["name"])
    assert dbt.run(["test", "--select", "test_type:data"]) == 1
    found = {name: status for name, status in results().items() if "on-run-start" not in name}
    assert len(found) > 60
    assert {name for name, status in found.items() if status != "fail"} == set()
    assert found.keys() == data_tests.keys()


NOT_ALLOWED = {
    "zone_id": "9999",
    "airport_zone_id": "8888",
    "share_percent": "40",
    "borough": "'Atlantis'",
    "direction": "'sideways'",
    "fleet": "'gondolas'",
}


def damage(query: Query, schema: str, name: str) -> None:
    """Put a damaged table in the place of a table or view."""
    table = f"{schema}.{name}"
    columns = [row[0] for row in query(f"DESCRIBE {table}")]
    rest = {"latest_loads": "true", "stg_zones": "true", "zone_to_zone_flows": "pickup_zone_id = 132"}.get(
        name, "false"
    )
    wrong = ", ".join(NOT_ALLOWED.get(column, "1" if column.endswith("_id") else "NULL") for column in columns)
    if name in ("vendors", "rate_codes", "payment_types"):
        wrong = ", ".join("'77'" for _ in columns)
    nulls = ", ".join("NULL" for _ in columns)
    query(
        f"CREATE TABLE {schema}.damaged AS SELECT * FROM {table} WHERE {rest} UNION ALL "
        f"SELECT unnest.* FROM (SELECT {nulls} FROM range(2) UNION ALL SELECT {wrong} FROM range(2)) AS unnest"
    )
    (kind,) = query(
        f"SELECT table_type FROM information_schema.tables WHERE table_schema = '{schema}' AND table_name = '{name}'"
    )[0]
    query(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} {table}")
    query(f"ALTER TABLE {schema}.damaged RENAME TO {name}")


MUTATIONS = {
    "staging/stg_trips.sql": ("/ 60e6 as minutes", "/ 61e6 as minutes", "a_trip_has_its_duration_and_speed"),
    "staging/stg_zones.sql": ("like '%Airport'", "like '%k Airport'", "airports_are_known_by_their_names"),
    "marts/daily_trips.sql": (
        "{{ sum_of('total_amount') }}",
        "sum(total_amount)",
        "a_day_counts_all_trips_and_sums_ignore_what_is_not_a_number",
    ),
    "marts/zone_hourly_demand.sql": (">= 6", ">= 5", "the_weekend_is_saturday_and_sunday"),
    "intermediate/int_trip_ends.sql": ("'to' as", "'from' as", "each_trip_has_two_ends"),
    "marts/airport_trips.sql": (
        "and airport.is",
        "or airport.is",
        "a_trip_between_two_airports_is_from_one_and_to_the_other",
    ),
    "marts/payment_and_tips.sql": (
        "nullif(clean_fare",
        "nullif(2 * clean_fare",
        "tips_are_in_percent_of_the_fares_of_clean_trips",
    ),
    "marts/fleet_market_share.sql": ("by b.partition_month, b", "by b", "the_shares_of_a_zone_add_up_to_a_hundred"),
}


def test_every_unit_test_and_every_contract_can_fail(
    built: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file, (old, new, _) in MUTATIONS.items():
        change(project / "models" / file, old, new)
    change(project / "models/staging/stg_trips.sql", "on t.vendor_id = v.vendor_id", "on t.vendor_id >= v.vendor_id")
    change(project / "models/staging/stg_trips.sql", "left join {{ ref('rate_codes", "inner join {{ ref('rate_codes")
    change(project / "models/marts/zone_to_zone_flows.sql", "count(*) as num_trips", "'many' as num_trips")
    assert dbt.run(["test", "--select", "test_type:unit"]) == 1
    manifest = json.loads(dbt_manifest.MANIFEST.read_text())
    names = {node["name"] for node in manifest["unit_tests"].values()}
    assert {name.rpartition(".")[2] for name, status in results().items() if status == "fail"} == names
    assert names >= {name for _, _, name in MUTATIONS.values()}
    assert dbt.run(["run", "--select", "zone_to_zone_flows"]) == 1
    assert "This model has an enforced contract that failed" in capfd.readouterr().out


def test_sources_become_stale_when_nothing_is_loaded(query: Query) -> None:
    assert dbt.run(["source", "freshness"]) == 0
    query("UPDATE loads SET loaded_at = loaded_at - INTERVAL 101 DAY")
    assert dbt.run(["source", "freshness"]) == 1


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


def test_exposures_name_tables_that_exist_and_the_marts_that_charts_are_drawn_from() -> None:
    manifest = json.loads(dbt_manifest.MANIFEST.read_text())
    for exposure in manifest["exposures"].values():
        assert exposure["depends_on"]["nodes"], exposure["name"]
        assert set(exposure["depends_on"]["nodes"]) <= manifest["sources"].keys() | manifest["nodes"].keys()
    read = {node.rpartition(".")[2] for each in manifest["exposures"].values() for node in each["depends_on"]["nodes"]}
    queries = (settings.PROJECT_ROOT / "include" / "nyc_taxi" / "reports" / "marts.py").read_text()
    drawn = {*re.findall(r"(?:{SCHEMA}|staging)\.(\w+)", queries)}
    assert {"airport_trips", "fleet_market_share"} <= drawn <= read


def test_a_range_is_built_in_one_process_that_says_how_it_goes(
    query: Query, capsys: pytest.CaptureFixture[str]
) -> None:
    months = "SELECT partition_month, sum(num_trips) FROM marts.daily_trips WHERE fleet = 'green' GROUP BY 1 ORDER BY 1"
    before = query(months)
    assert dbt_backfill.run("green", "2023-01", "2023-02") == 0
    printed = capsys.readouterr().out
    assert "daily_trips: built 2 months: green 2023-01 to 2023-02" in printed
    assert printed.endswith("The marts have what is loaded of 2023-01 to 2023-02 of green.\n")
    assert len(before) == 2
    assert query(months) == before
