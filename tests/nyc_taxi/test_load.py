"""A month is loaded completely, or not at all."""

import dataclasses
import errno
import json
import os
import subprocess
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.audit import engine, report
from include.nyc_taxi.audit.engine import QualityError
from include.nyc_taxi.errors import DamagedFileError, LayoutError, LoadError, UnloadableFileError
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import by_week
from include.nyc_taxi.source.download import Edition, read_edition
from include.nyc_taxi.trips import row_mapping
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.trips.loaded import LoadedMonth, loaded_months
from include.tlc_simulator.trips import write_month


@pytest.fixture
def load(con):
    """Load a file as the task does."""

    def load_file(fleet, month, path, run_id="run 1"):
        return load_month(con, fleet, Month(month), path, run_id)

    return load_file


def publish(path, etag="one", last_modified="Mon, 20 Mar 2023 14:30:00 GMT"):
    """Record an edition beside a file, as `download` does."""
    edition = Edition(f"http://tlc.test/{path.name}", etag, last_modified, path.stat().st_size)
    path.with_name(f"{path.name}.edition.json").write_text(json.dumps(dataclasses.asdict(edition)))
    return edition


def test_every_row_arrives_with_the_month_of_its_file(con, load, write_trips):
    done = load("green", "2023-02", write_trips("green", "2023-02", rows=7))
    assert (done.rows_in_file, done.rows_loaded, done.unknown_columns) == (7, 7, ())
    assert con.execute("SELECT partition_month, count(*) FROM green_trips GROUP BY 1").fetchall() == [
        (date(2023, 2, 1), 7)
    ]


@pytest.mark.parametrize("month", ["2023-01", "2023-02", "2025-01"])
@pytest.mark.parametrize("fleet", sorted(catalogue.FLEETS))
def test_a_month_of_every_layout_loads(con, load, write_trips, fleet, month):
    load(fleet, month, write_trips(fleet, month, rows=5))
    column = "count(cbd_congestion_fee)"
    with_fee = 5 if month == "2025-01" else 0
    if "cbd_congestion_fee" not in catalogue.fleet(fleet).column_names:
        column, with_fee = "0", 0
    assert con.execute(f"SELECT count(*), {column} FROM {fleet}_trips").fetchone() == (5, with_fee)


def test_columns_have_the_catalogues_types_whatever_types_the_file_has(con, load, write_trips):
    odd = {"passenger_count": "CAST(2 AS DOUBLE)", "PULocationID": "'7'", "fare_amount": "CAST(9.5 AS DECIMAL(9, 2))"}
    load("green", "2023-02", write_trips("green", "2023-02", columns=odd))
    described = [(name, kind) for name, kind, *_ in con.execute("DESCRIBE green_trips").fetchall()]
    added = [("partition_month", "DATE"), ("is_reversed", "BOOLEAN")]
    assert described == [(c.name, c.type) for c in catalogue.fleet("green").columns] + added
    found = con.execute("SELECT DISTINCT passenger_count, pickup_zone_id, fare_amount FROM green_trips").fetchall()
    assert found == [(2, 7, 9.5)]


def test_the_order_of_the_files_columns_is_irrelevant(con, load, write_trips, contents, tmp_path):
    path = write_trips("green", "2023-02")
    load("green", "2023-02", path)
    before = contents("partition_month = '2023-02-01'")["green_trips"]
    names = ", ".join(f'"{name}"' for name in reversed(catalogue.fleet("green").layout("2023-02").names))
    con.execute(f"COPY (SELECT {names} FROM '{path}') TO '{tmp_path}/turned.parquet'")
    load("green", "2023-02", tmp_path / "turned.parquet")
    assert contents("partition_month = '2023-02-01'")["green_trips"] == before


def test_loading_a_month_twice_leaves_the_same_rows(load, write_trips, contents):
    path = write_trips("green", "2023-02")
    load("green", "2023-02", path)
    before = contents()
    load("green", "2023-02", path)
    after = contents()
    assert after["green_trips"] == before["green_trips"]
    assert after["loads"][0] == before["loads"][0] == 1


def test_loading_a_month_changes_neither_other_months_nor_other_fleets(load, write_trips, contents):
    for fleet, month in (("green", "2023-01"), ("green", "2023-03"), ("yellow", "2023-02")):
        load(fleet, month, write_trips(fleet, month, rows=4))
    others = "partition_month <> '2023-02-01'"
    before = contents(others), contents()["yellow_trips"]
    # A trip of January in February's file belongs to the partition of February.
    january = {"lpep_pickup_datetime": "TIMESTAMP '2023-01-31 23:59:59' + i * INTERVAL 1 MINUTE"}
    for rows in (90, 70):
        load("green", "2023-02", write_trips("green", "2023-02", rows=rows, columns=january))
        assert (contents(others), contents()["yellow_trips"]) == before


def test_rows_outside_the_month_are_kept_and_counted(con, load, write_trips):
    column = {"lpep_pickup_datetime": "CASE i WHEN 0 THEN TIMESTAMP '2009-01-01' ELSE TIMESTAMP '2023-02-05' END"}
    done = load("green", "2023-02", write_trips("green", "2023-02", rows=20, columns=column))
    assert done.quality["pickup_outside_month"] == 1
    found = con.execute("SELECT count(*), min(pickup_datetime)::DATE FROM green_trips").fetchone()
    assert found == (20, date(2009, 1, 1))
    (recorded,) = con.execute("SELECT quality FROM loads").fetchone()
    assert json.loads(recorded) == done.quality


@pytest.mark.parametrize("zone", [266, 0, -1])
def test_an_id_that_is_not_a_zone_is_kept_counted_and_reported(con, load, write_trips, caplog, zone):
    odd = {
        side: f"CAST(if(i = {row}, {zone}, 7) AS INTEGER)" for row, side in enumerate(("PULocationID", "DOLocationID"))
    }
    done = load("green", "2023-02", write_trips("green", "2023-02", rows=20, columns=odd))
    assert done.quality["unknown_zone"] == 2
    found = con.execute("SELECT pickup_zone_id, dropoff_zone_id, count(*) FROM green_trips GROUP BY ALL ORDER BY 3")
    assert sorted(found.fetchall()) == sorted([(7, 7, 18), (zone, 7, 1), (7, zone, 1)])
    assert "2 of 20 trips have a zone ID outside 1 to 265 (unknown_zone: at most 0, found 0.1)" in caplog.text


@pytest.mark.parametrize(
    ("published", "values", "ours"),
    [
        ("fare_amount", "if(i = 2, 'a lot', '5')", "fare_amount"),
        ("PULocationID", "if(i = 2, 40000, 7)", "pickup_zone_id"),
        ("lpep_dropoff_datetime", "if(i = 2, 'yesterday', '2023-02-05 10:00:00')", "dropoff_datetime"),
        ("trip_type", "if(i = 2, 'inf'::DOUBLE, 1)", "trip_type"),
    ],
)
def test_a_single_value_that_does_not_fit_becomes_null_and_is_counted_and_shown(
    con, load, write_trips, caplog, published, values, ours
):
    done = load("green", "2023-02", write_trips("green", "2023-02", rows=20, columns={published: values}))
    assert done.quality[f"unreadable_{ours}"] == done.quality[f"null_{ours}"] == 1
    assert con.execute(f"SELECT count(*) - count({ours}) FROM green_trips").fetchone() == (1,)
    assert f"1 values of {ours} do not fit its type and became null, for example " in caplog.text


def test_nan_as_pandas_writes_it_counts_as_null_and_not_as_unreadable(con, load, write_trips):
    odd = {"passenger_count": "if(i = 2, 'nan'::DOUBLE, 1)"}
    done = load("green", "2023-02", write_trips("green", "2023-02", rows=20, columns=odd))
    assert (done.quality["unreadable_passenger_count"], done.quality["null_passenger_count"]) == (0, 1)


@pytest.mark.parametrize("fleet", ["yellow", "green"])
def test_a_file_of_june_2026_is_loaded_with_its_request_sources(con, load, write_trips, fleet):
    path = write_trips(fleet, "2026-06", columns={"request_source": "['HV0003', 'HV0005', 'A'][i + 1]"})
    assert load(fleet, "2026-06", path).unknown_columns == ()
    found = con.execute(f"SELECT request_source FROM {fleet}_trips ORDER BY pickup_datetime").fetchall()
    assert found == [("HV0003",), ("HV0005",), ("A",)]


def test_simulated_trips_are_marked_as_such(con, load, write_trips, tmp_path):
    load("green", "2023-01", write_trips("green", "2023-01"))
    write_month(tmp_path / "green_tripdata_2023-02.parquet", "green", "2023-02", rows=30)
    done = load("green", "2023-02", tmp_path / "green_tripdata_2023-02.parquet")
    assert done.simulated
    assert con.execute("SELECT simulated FROM loads ORDER BY partition_month").fetchall() == [(False,), (True,)]


class TestReversals:
    """Reversed charges and their reversals are marked in pairs."""

    COLUMNS = "vendor_id, pickup_datetime, dropoff_datetime, pickup_zone_id, dropoff_zone_id, total_amount, is_reversed"

    @pytest.fixture
    def marked(self, con, load, write_trips):
        """Load rows of one trip with these amounts, varied by `columns`; return (amount, marked) pairs."""

        def load_amounts(*amounts, **columns):
            same = {
                "lpep_pickup_datetime": "TIMESTAMP '2023-02-05 10:00:00'",
                "lpep_dropoff_datetime": "TIMESTAMP '2023-02-05 10:10:00'",
                "PULocationID": "7",
                "DOLocationID": "7",
                "total_amount": f"[{', '.join(map(str, amounts))}][i + 1]::DOUBLE",
                "trip_distance": "1.5 + i",  # so that no two rows are identical
            }
            path = write_trips("green", "2023-02", rows=len(amounts), columns=same | columns)
            load_month(con, "green", Month("2023-02"), path, "run 1", accept=True)
            return con.execute("SELECT total_amount, is_reversed FROM green_trips ORDER BY trip_distance").fetchall()

        return load_amounts

    @pytest.mark.parametrize(
        ("amounts", "reversed_ones"),
        [
            ([9.5, -9.5], [0, 1]),
            ([-9.5, 9.5], [0, 1]),
            ([9.5, 12.0, -9.5], [0, 2]),
            ([9.5, -9.5, 9.5], [0, 1]),  # charged, reversed and charged again: one trip was paid
            ([9.5, -9.5, -9.5, 9.5], [0, 1, 2, 3]),
            ([9.5, -9.5, -9.5], [0, 1]),  # the additional reversal has no twin
            ([9.5, 9.5], []),
            ([9.5, -9.4], []),
            ([0.0, -0.0], []),
            (["NULL", -9.5, 9.5], [1, 2]),
            (["'nan'::DOUBLE", -9.5], []),
            (["'inf'::DOUBLE", "'-inf'::DOUBLE"], []),
        ],
    )
    def test_pairs_are_found_by_their_amounts(self, marked, amounts, reversed_ones):
        assert [number for number, (_, mark) in enumerate(marked(*amounts)) if mark] == reversed_ones

    @pytest.mark.parametrize(
        "other",
        [
            {"lpep_pickup_datetime": "TIMESTAMP '2023-02-05' + i * INTERVAL 1 SECOND"},
            {"lpep_dropoff_datetime": "TIMESTAMP '2023-02-05 12:00:00' + i * INTERVAL 1 SECOND"},
            {"PULocationID": "7 + i"},
            {"DOLocationID": "7 + i"},
            {"VendorID": "1 + i"},
        ],
    )
    def test_reversals_of_another_trip_are_not_marked(self, marked, other):
        assert marked(9.5, -9.5, **other) == [(9.5, False), (-9.5, False)]

    def test_nulls_are_equal(self, marked):
        assert marked(9.5, -9.5, DOLocationID="NULL::INTEGER") == [(9.5, True), (-9.5, True)]

    @pytest.mark.parametrize("month", ["2009-01", "2010-01", "2011-01", "2026-06"])
    def test_pairs_are_found_in_every_layout_of_yellow(self, con, zones, write_trips, month):
        amount = "Total_Amt" if month == "2009-01" else "total_amount"
        path = write_trips("yellow", month, rows=4, columns={amount: "[9.5, -9.5, 7, 8][1 + i]"})
        columns = catalogue.fleet("yellow").layout(month).names
        pickup, dropoff = (
            name for name in columns if name.casefold().endswith(("pickup_datetime", "dropoff_datetime"))
        )
        at = {pickup: f"'{month}-05 10:00:00'", dropoff: f"'{month}-05 10:10:00'"}
        zoned = {name: "7" for name in columns if name in ("PULocationID", "DOLocationID")}
        path = write_trips("yellow", month, rows=4, columns={amount: "[9.5, -9.5, 7, 8][1 + i]"} | at | zoned)
        load_month(con, "yellow", Month(month), path, "run 1", accept=True)
        found = con.execute("SELECT total_amount FROM yellow_trips WHERE is_reversed ORDER BY 1").fetchall()
        assert found == [(-9.5,), (9.5,)]


ELSEWHERE = ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]


@pytest.mark.parametrize("zone", ELSEWHERE)
def test_times_marked_as_utc_become_city_time_in_any_time_zone_of_the_worker(
    con, write_trips, start_python, opening, tmp_path, monkeypatch, zone
):
    path = write_trips(
        "green",
        "2023-02",
        rows=2,
        columns={
            "lpep_pickup_datetime": "['2023-02-05 19:24:00+00', '2023-02-01 04:30:00+00'][1 + i]::TIMESTAMPTZ",
            "lpep_dropoff_datetime": "['2023-02-05 19:40:00+00', NULL][1 + i]::TIMESTAMPTZ",
        },
    )
    con.close()
    monkeypatch.setenv("TZ", zone)
    process = start_python(
        f"{opening}\n"
        "import sys\n"
        "from pathlib import Path\n"
        "from include.nyc_taxi.months import Month\n"
        "from include.nyc_taxi.trips.load import load_month\n"
        "con = connect(sys.argv[1])\n"
        "load_month(con, 'green', Month('2023-02'), Path(sys.argv[2]), 'run 1', accept=True)\n"
        "found = con.execute('SELECT pickup_datetime, dropoff_datetime FROM green_trips ORDER BY ALL').fetchall()\n"
        "print(*(f'{pickup} {dropoff}' for pickup, dropoff in found), sep='\\n')\n",
        tmp_path,
        path,
    )
    assert process.stdout.read().splitlines() == [
        "2023-01-31 23:30:00 None",
        "2023-02-05 14:24:00 2023-02-05 14:40:00",
    ]


def test_null_zones_are_kept(con, load, write_trips):
    load("green", "2023-02", write_trips("green", "2023-02", columns={"PULocationID": "if(i = 0, 7, NULL)"}))
    assert con.execute("SELECT count(*), count(pickup_zone_id) FROM green_trips").fetchone() == (3, 1)


def test_the_load_is_recorded_with_its_edition(con, load, write_trips):
    path = write_trips("green", "2023-02")
    edition = publish(path)
    done = load("green", "2023-02", path, run_id="scheduled__1")
    assert (done.etag, done.last_modified, done.bytes) == (edition.etag, edition.last_modified, edition.bytes)
    columns = "fleet, partition_month, source_url, etag, last_modified, bytes, rows_in_file, rows_loaded, run_id"
    assert con.execute(f"SELECT {columns} FROM loads").fetchall() == [
        ("green", date(2023, 2, 1), *dataclasses.astuple(edition), 3, 3, "scheduled__1")
    ]


def test_a_file_without_an_edition_is_recorded_with_its_path_and_size(con, load, write_trips):
    path = write_trips("green", "2023-02")
    load("green", "2023-02", path)
    found = con.execute("SELECT source_url, etag, last_modified, bytes FROM loads").fetchall()
    assert found == [(str(path), None, None, path.stat().st_size)]


def test_the_same_edition_replaces_its_record_and_a_new_edition_adds_one(con, load, write_trips):
    path = write_trips("green", "2023-02", rows=4)
    publish(path, "one")
    load("green", "2023-02", path, "run 1")
    load("green", "2023-02", path, "run 2")
    assert con.execute("SELECT etag, run_id, rows_loaded FROM loads").fetchall() == [("one", "run 2", 4)]
    path = write_trips("green", "2023-02", rows=5)
    publish(path, "two")
    load("green", "2023-02", path, "run 3")
    records = con.execute("SELECT etag, run_id, rows_loaded FROM loads ORDER BY loaded_at").fetchall()
    assert records == [("one", "run 2", 4), ("two", "run 3", 5)]
    assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (5,)


def test_a_new_edition_names_what_it_has_changed(con, load, write_trips):
    path = write_trips("green", "2023-02", rows=4)
    old = publish(path, "one")
    assert load("green", "2023-02", path).changes is None
    path = write_trips("green", "2023-02", rows=5)
    new = publish(path, "two", "Thu, 20 Apr 2023 14:30:00 GMT")
    changes = {
        "rows": (4, 5),
        "bytes": (old.bytes, new.bytes),
        "last_modified": (old.last_modified, new.last_modified),
        "etag": ("one", "two"),
    }
    assert load("green", "2023-02", path).changes == changes
    assert load("green", "2023-02", path).changes == changes, "loaded again, it is still the edition after the first"
    recorded = con.execute("SELECT etag, changes FROM loads ORDER BY loaded_at").fetchall()
    assert recorded[0] == ("one", None)
    assert json.loads(recorded[1][1]) == {name: list(pair) for name, pair in changes.items()}


def checks_in(con, where="TRUE"):
    """The contents of `quality_checks`: (published, run, rules, broken rules)."""
    return con.execute(
        "SELECT published, run_id, count(*), count_if(NOT passed) FROM quality_checks "
        f"WHERE {where} GROUP BY published, run_id ORDER BY published DESC"
    ).fetchall()


def test_the_audits_results_are_recorded_rule_by_rule_and_replaced_with_the_month(con, load, write_trips):
    done = load("green", "2023-02", write_trips("green", "2023-02"), "run 1")
    assert checks_in(con) == [(True, "run 1", len(done.checks), 0)]
    load("green", "2023-01", write_trips("green", "2023-01"), "run 2")
    load("green", "2023-02", write_trips("green", "2023-02"), "run 3")
    assert checks_in(con, "partition_month = '2023-02-01'") == [(True, "run 3", len(done.checks), 0)]
    assert checks_in(con, "partition_month = '2023-01-01'") == [(True, "run 2", len(done.checks), 0)]


def test_a_month_that_breaks_a_rule_of_severity_warn_is_published_and_reported(con, load, write_trips, caplog):
    done = load("green", "2023-02", write_trips("green", "2023-02", rows=4, columns={"total_amount": "-9.0"}))
    assert [check.rule for check in done.checks if not check.passed] == ["negative_total_amount"]
    assert checks_in(con) == [(True, "run 1", len(done.checks), 1)]
    assert "4 of 4 trips have a negative total_amount (negative_total_amount: at most 0.05, found 1)" in caplog.text


def test_the_checks_of_a_refused_month_are_kept_beside_the_published_ones_until_the_next_load(con, load, write_trips):
    load("green", "2023-02", write_trips("green", "2023-02"), "run 1")
    bad = write_trips("green", "2023-02", columns={"PULocationID": "CAST(266 AS INTEGER)"})
    with pytest.raises(QualityError):
        load("green", "2023-02", bad, "run 2")
    (_, published_by, rules, broken), (_, refused, rules_again, refused_for) = checks_in(con)
    assert (published_by, broken, refused, refused_for) == ("run 1", 0, "run 2", 2)
    assert rules == rules_again
    load("green", "2023-02", write_trips("green", "2023-02"), "run 3")
    assert [row[:2] for row in checks_in(con)] == [(True, "run 3")]


def test_the_refusal_of_the_very_first_load_is_recorded(write_trips, tmp_path):
    bad = write_trips("green", "2023-02", columns={"PULocationID": "CAST(266 AS INTEGER)"})
    with duckdb.connect(str(tmp_path / "new.duckdb")) as new:
        with pytest.raises(QualityError):
            load_month(new, "green", Month("2023-02"), bad, "run 1")
        assert [row[:2] for row in checks_in(new)] == [(False, "run 1")]
        assert new.execute("SELECT count(*) FROM green_trips").fetchone() == (0,)


def test_the_same_etag_of_another_month_or_fleet_has_its_own_record(con, load, write_trips):
    for fleet, month in (("green", "2023-01"), ("green", "2023-02"), ("yellow", "2023-02")):
        path = write_trips(fleet, month)
        publish(path, "same")
        load(fleet, month, path)
    assert con.execute("SELECT count(*) FROM loads").fetchone() == (3,)


def test_loaded_months_are_the_latest_loads_of_the_fleets_months(con, load, write_trips):
    assert loaded_months(con, "green") == {}
    load("yellow", "2023-01", write_trips("yellow", "2023-01", rows=9))
    load("green", "2023-03", write_trips("green", "2023-03", rows=4))
    path = write_trips("green", "2023-01", rows=4)
    publish(path, "one")
    load("green", "2023-01", path)
    path = write_trips("green", "2023-01", rows=5)
    latest = publish(path, "two")
    load("green", "2023-01", path, "run 2")
    found = loaded_months(con, "green")
    assert list(found) == ["2023-01", "2023-03"]
    assert timedelta(0) <= datetime.now(UTC) - found["2023-01"].loaded_at < timedelta(minutes=1)
    assert found["2023-01"] == LoadedMonth(
        rows_in_file=5,
        rows_loaded=5,
        source_url=latest.url,
        etag="two",
        last_modified=latest.last_modified,
        bytes=latest.bytes,
        loaded_at=found["2023-01"].loaded_at,
        run_id="run 2",
    )
    assert found["2023-03"].rows_loaded == 4


def test_a_login_that_an_older_version_has_recorded_in_a_url_is_removed(con, load, write_trips):
    path = write_trips("green", "2023-01")
    edition = publish(path)
    load("green", "2023-01", path)
    con.execute("UPDATE loads SET source_url = replace(source_url, '://', '://me:s3same@')")
    found = loaded_months(con, "green")["2023-01"]
    assert found.edition == edition
    assert "s3same" not in str(found)
    load("green", "2023-02", write_trips("green", "2023-02"))
    urls = dict(con.execute("SELECT month(partition_month), source_url FROM loads").fetchall())
    assert urls == {1: edition.url, 2: str(path.with_name("green_tripdata_2023-02.parquet"))}


def test_an_unknown_column_is_reported_and_not_loaded(con, load, write_trips, caplog):
    done = load("green", "2023-02", write_trips("green", "2023-02", columns={"driver_mood": "'good'"}))
    assert done.unknown_columns == ("driver_mood",)
    assert done.rows_loaded == 3
    (record,) = [record for record in caplog.records if record.name == "include.nyc_taxi.trips.load"]
    assert record.levelname == "WARNING"
    assert "green_tripdata_2023-02.parquet" in record.getMessage()
    assert "driver_mood" in record.getMessage()
    assert con.execute("SELECT unknown_columns FROM loads").fetchall() == [('["driver_mood"]',)]
    assert loaded_months(con, "green")["2023-02"].unknown_columns == ("driver_mood",)
    assert "driver_mood" not in [name for name, *_ in con.execute("DESCRIBE green_trips").fetchall()]


def test_a_month_that_is_staged_but_not_published_stays_as_it_was(con, load, write_trips, contents):
    load("green", "2023-02", write_trips("green", "2023-02", rows=6))
    before = contents()
    query = "SELECT * REPLACE (9 AS pickup_zone_id) FROM green_trips"
    with (
        pytest.raises(RuntimeError, match="green_trips: 2023-02 was not published"),
        warehouse.replacement(con, "green_trips", Month("2023-02"), lambda: None) as rows,
    ):
        rows.stage(query, {})
    assert contents() == before
    assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (6,), "the connection can be used again"


class TestFailure:
    """Every failure names the file and the cause, and leaves the warehouse unchanged."""

    @pytest.fixture
    def fails(self, load, write_trips, contents):
        """Load February, fail to load it from another file, and return the error's message."""
        load("green", "2023-01", write_trips("green", "2023-01", rows=4))
        load("green", "2023-02", write_trips("green", "2023-02", rows=6))
        before = contents()

        def failing(path, expected=LoadError):
            with pytest.raises(expected) as error:
                load("green", "2023-02", path, "run 2")
            assert contents() == before
            assert "green_tripdata_2023-02.parquet" in str(error.value)
            return str(error.value)

        return failing

    def test_a_value_that_cannot_be_cast_in_every_row(self, fails, write_trips):
        message = fails(write_trips("green", "2023-02", rows=6, columns={"fare_amount": "'a lot'"}), QualityError)
        assert "6 values of fare_amount do not fit its type and became null, for example 'a lot'" in message

    def test_a_file_without_rows(self, fails, write_trips):
        assert "a file without rows" in fails(write_trips("green", "2023-02", rows=0), UnloadableFileError)

    def test_values_that_the_table_cannot_hold(self, fails, write_trips, con):
        con.execute("ALTER TABLE green_trips ALTER COLUMN trip_distance SET NOT NULL")  # as an analyst may do
        without = write_trips("green", "2023-02", rows=6, columns={"trip_distance": "NULL::DOUBLE"})
        assert "cannot be loaded into green_trips, rolled back" in fails(without, UnloadableFileError)

    def test_a_file_that_has_every_trip_twice(self, fails, write_trips, tmp_path):
        once = write_trips("green", "2023-02", rows=50)
        twice = tmp_path / "twice" / once.name
        twice.parent.mkdir()
        duckdb.execute(f"COPY (FROM '{once}' UNION ALL FROM '{once}') TO '{twice}' (FORMAT parquet)")
        message = fails(twice, QualityError)
        assert "50 rows equal an earlier row in all columns" in message
        assert "every_trip_doubled" in message

    def test_a_file_cut_off(self, fails, write_trips):
        path = write_trips("green", "2023-02", rows=50)
        path.write_bytes(path.read_bytes()[:-100])
        publish(path)
        message = fails(path, DamagedFileError)
        assert "expected a Parquet file" in message
        assert "Clear the task `download`" in message
        assert read_edition(path) is None, "the next download must fetch it again"

    def test_a_file_with_damaged_pages_and_an_intact_footer(self, fails, write_trips):
        path = write_trips("green", "2023-02", rows=5000)
        whole = bytearray(path.read_bytes())
        whole[4:2000] = b"\xff" * 1996
        path.write_bytes(whole)
        publish(path)
        message = fails(path, DamagedFileError)
        assert "rolled back" in message
        assert "Clear the task `download`" in message
        assert read_edition(path) is None, "the next download must fetch it again"

    @pytest.mark.parametrize("step", ["row_mapping.select", "engine.audit", "report.record", "by_week.counted_weeks"])
    @pytest.mark.parametrize(
        "error",
        [
            duckdb.IOException('Could not write file "/srv/taxi.duckdb": No space left on device'),
            duckdb.TransactionException("Failed to commit: Could not write file: No space left on device"),
            duckdb.IOException("Could not write file: Disk quota exceeded"),
            OSError(errno.ENOSPC, "No space left on device"),
        ],
        ids=["write", "commit", "quota", "folder"],
    )
    def test_because_of_a_full_disk_says_what_to_do_and_keeps_the_file(
        self, fails, write_trips, monkeypatch, step, error
    ):
        path = write_trips("green", "2023-02", rows=6)
        edition = publish(path)

        def full(*_, **__):
            raise error

        module, name = step.split(".")
        steps = {"row_mapping": row_mapping, "engine": engine, "report": report, "by_week": by_week}
        monkeypatch.setattr(steps[module], name, full)
        message = fails(path)
        assert "no space left while loading it, rolled back" in message
        assert "Free some space, or move the warehouse" in message
        assert read_edition(path) == edition

    def test_because_of_duckdbs_limit_for_temporary_files_says_what_to_do(
        self, fails, write_trips, monkeypatch, tmp_path
    ):
        config = {"memory_limit": "40MB", "threads": 1, "temp_directory": str(tmp_path / "spilled")}
        with duckdb.connect(str(tmp_path / "small.duckdb"), config=config) as small:
            small.execute("SET max_temp_directory_size = '500KB'")
            spilling = "SELECT i, hash(i)::VARCHAR || repeat('x', 50) AS s FROM range(1000000) r(i) ORDER BY s"

            def spill(*_):
                small.execute(f"SELECT count(*) FROM ({spilling} LIMIT 900000)")

            monkeypatch.setattr(row_mapping, "select", spill)
            message = fails(write_trips("green", "2023-02", rows=6))
        assert "no space left while loading it, rolled back: Out of Memory Error" in message
        assert "\n" not in message

    def test_of_the_warehouse_itself_keeps_the_file(self, fails, write_trips, monkeypatch):
        path = write_trips("green", "2023-02", rows=6)
        edition = publish(path)

        def broken(*_):
            raise duckdb.IOException("could not write all bytes: input/output error")

        monkeypatch.setattr(row_mapping, "select", broken)
        assert "cannot be loaded into green_trips, rolled back" in fails(path)
        assert read_edition(path) == edition

    def test_a_missing_file(self, fails, tmp_path):
        message = fails(tmp_path / "elsewhere" / "green_tripdata_2023-02.parquet")
        assert "the file is missing" in message

    def test_a_file_that_lacks_columns(self, fails, write_trips):
        columns = {"DOLocationID": None, "fare_amount": None}
        message = fails(write_trips("green", "2023-02", columns=columns), LayoutError)
        assert "DOLocationID, fare_amount" in message

    def test_a_process_killed_before_its_commit(
        self, con, load, write_trips, contents, start_python, opening, tmp_path
    ):
        path = write_trips("green", "2023-02", rows=6)
        load("green", "2023-02", path)
        before = contents()
        con.close()
        process = start_python(
            f"{opening}\n"
            "import sys\n"
            "from pathlib import Path\n"
            "from include.nyc_taxi.months import Month\n"
            "from include.nyc_taxi.trips import load\n"
            "record = load._record\n"  # the last step before the commit
            "def record_and_wait(con, *values):\n"
            "    record(con, *values)\n"
            "    print(con.execute('SELECT count(*) FROM green_trips').fetchone()[0], flush=True)\n"
            "    sys.stdin.read()\n"
            "load._record = record_and_wait\n"
            "load.load_month(connect(sys.argv[1]), 'green', Month('2023-02'), Path(sys.argv[2]), 'run 2')\n",
            tmp_path,
            write_trips("green", "2023-02", rows=9),
        )
        assert process.stdout.readline() == "9\n"
        process.kill()
        process.wait()
        names: dict[str, Any] = {}
        exec(opening, names)
        with names["connect"](tmp_path) as again:
            assert contents(connection=again) == before


def test_the_error_for_a_real_full_disk_says_what_to_do_and_loaded_months_stay(tmp_path, write_trips):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    large = tmp_path / catalogue.file_name("green", "2023-03")
    write_month(large, "green", "2023-03", rows=300_000)
    try:
        with duckdb.connect(str(disk / "warehouse.duckdb")) as con:
            warehouse.ensure_tables(con)
            load_month(con, "green", Month("2023-02"), write_trips("green", "2023-02", rows=6), "one")
            with pytest.raises(LoadError, match=r"no space left while loading it, rolled back: .*No space left on"):
                load_month(con, "green", Month("2023-03"), large, "two")
        with duckdb.connect(str(disk / "warehouse.duckdb")) as con:
            assert list(loaded_months(con, "green")) == ["2023-02"]
            assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (6,)
    finally:
        subprocess.run(["umount", disk], check=True)
