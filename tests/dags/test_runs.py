"""Each DAG run for real, in this process: every task, against a simulated TLC and a warehouse on a temporary path."""

import contextlib
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import duckdb
import pytest
from airflow.exceptions import ParamValidationError
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import func, select

from include.orchestration import assets
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.faults import ErrorPage, Status
from include.tlc_simulator.server import TlcSimulator
from tests.dags.running import query, run, states

pytestmark = pytest.mark.usefixtures("metadata_database", "no_pauses")


def test_taxi_zones_loads_all_zones(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert str(run(dag_bag.dags["taxi_zones"], "2023-01-01").state) == "success"
    assert query(data_dir, "SELECT count(*), count(geometry) FROM zones") == [(265, 263)]


def test_a_date_means_the_month_that_contains_it(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    done = run(dag_bag.dags["taxi_trips_green"], "2023-02-01")

    assert set(states(done).values()) == {"success"}
    assert query(data_dir, "SELECT DISTINCT partition_month FROM green_trips") == [(date(2023, 2, 1),)]
    assert query(data_dir, "SELECT rows_in_file, rows_loaded, run_id FROM loads") == [(1000, 1000, done.run_id)]
    made = {path.name for path in (data_dir / "outputs" / "green").glob("manhattan*")}
    assert made == {
        "manhattan_stats_2023-02.geojson",
        "manhattan_stats.geojson",
        "manhattan_map_2023-02.png",
        "manhattan_map.png",
    }


@pytest.mark.slow
def test_the_month_of_the_form_comes_before_the_date(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert str(run(dag_bag.dags["taxi_trips_yellow"], "2023-01-15", month="2023-03").state) == "success"
    assert query(data_dir, "SELECT fleet, partition_month FROM loads") == [("yellow", date(2023, 3, 1))]


@pytest.mark.slow
def test_a_month_before_the_schedules_first_can_be_run(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert set(states(run(dag_bag.dags["taxi_trips_green"], "2021-12-31")).values()) == {"success"}
    assert query(data_dir, "SELECT partition_month, rows_loaded FROM loads") == [(date(2021, 12, 1), 1000)]


def test_a_month_before_the_tlcs_first_fails_and_says_so(dag_bag: Any, simulator: TlcSimulator) -> None:
    done = run(dag_bag.dags["taxi_trips_green"], "2013-01-01")
    assert states(done)["wait_for_file"] == "failed"
    assert not [request for request in simulator.requests if "green" in request.path]


@pytest.fixture
def events_of(metadata_database: None) -> Callable[[Any], list[tuple[str, str, dict[str, Any]]]]:
    """Return the asset events of a run, in order: the task, the asset's URI and the facts."""
    if IS_AIRFLOW_3:
        from airflow.models.asset import AssetEvent as Event
        from airflow.models.asset import AssetModel as Model

        asset_id = Event.asset_id
    else:
        from airflow.models.dataset import DatasetEvent as Event
        from airflow.models.dataset import DatasetModel as Model

        asset_id = Event.dataset_id
    with create_session() as session:
        # On 2.11, runs of other tests for the same date have the same id, and their events remain.
        last = session.scalar(select(func.max(Event.id))) or 0

    def events(done: Any) -> list[tuple[str, str, dict[str, Any]]]:
        query = (
            select(Event.source_task_id, Model.uri, Event.extra)
            .join(Model, Model.id == asset_id)
            .where(Event.source_dag_id == done.dag_id, Event.source_run_id == done.run_id, Event.id > last)
            .order_by(Event.id)
        )
        with create_session() as session:
            return [tuple(row) for row in session.execute(query)]

    return events


ZONES = [assets.TAXI_ZONES_FILE.uri, assets.TAXI_ZONES.uri]


@pytest.mark.slow
def test_zones_that_a_months_run_loads_leave_the_events_that_taxi_zones_leaves(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, events_of: Any
) -> None:
    by_month = [one for one in events_of(run(dag_bag.dags["taxi_trips_green"], "2023-01-01")) if one[1] in ZONES]
    assert sorted((task, uri) for task, uri, _ in by_month) == [("load", uri) for uri in sorted(ZONES)]
    by_zones = events_of(run(dag_bag.dags["taxi_zones"], "2023-01-01"))
    assert sorted((task, uri) for task, uri, _ in by_zones) == sorted(zip(("download", "load"), ZONES, strict=True))

    facts, same_facts = ({uri: extra for _, uri, extra in found} for found in (by_month, by_zones))
    for extra in (*facts.values(), *same_facts.values()):
        assert extra.pop("seconds") > 0
    assert facts == same_facts
    files = [data_dir / "raw" / name for name in ("taxi_zone_lookup.csv", "taxi_zones.zip")]
    size = sum(file.stat().st_size for file in files)
    editions = facts[ZONES[0]].pop("editions")
    assert [edition["bytes"] for edition in editions] == [file.stat().st_size for file in files]
    assert all(edition["etag"] for edition in editions)
    assert facts == {ZONES[0]: {"paths": [str(file) for file in files], "bytes": size}, ZONES[1]: {"rows": 265}}


@pytest.mark.slow
def test_a_run_that_finds_the_zones_loaded_leaves_no_event_on_them(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, events_of: Any
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    run(dag, "2023-01-01")
    for day, tasks in (
        ("2023-02-01", ["download", "load", "aggregate", "map"]),  # another month
        ("2023-01-02", ["download"]),  # the same once more, with nothing new
    ):
        done = run(dag, day)
        assert str(done.state) == "success"
        assert [task for task, *_ in events_of(done)] == tasks


@pytest.mark.slow
def test_a_run_that_cannot_load_the_zones_leaves_no_event_on_them(
    dag_bag: Any, simulator: TlcSimulator, monkeypatch: pytest.MonkeyPatch, events_of: Any
) -> None:
    monkeypatch.setattr("include.nyc_taxi.trips.zones._read_shapes", lambda path: None)
    done = run(dag_bag.dags["taxi_trips_green"], "2023-01-01")
    assert states(done)["load"] == "failed"
    assert [task for task, *_ in events_of(done)] == ["download"]


@pytest.mark.slow
def test_a_run_that_loads_the_zones_goes_on_even_if_its_month_is_up_to_date(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, events_of: Any
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    run(dag, "2023-01-01")
    query(data_dir, "DELETE FROM zones")
    done = run(dag, "2023-01-02")
    assert set(states(done).values()) == {"success"}
    assert {uri for _, uri, _ in events_of(done)} > set(ZONES)


@pytest.mark.slow
def test_zones_stay_loaded_if_the_month_is_refused(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.nyc_taxi.trips.load._audit", None)
    assert states(run(dag_bag.dags["taxi_trips_green"], "2023-01-01"))["load"] == "failed"
    assert query(data_dir, "SELECT count(*) FROM zones") == [(265,)]
    assert query(data_dir, "SELECT count(*) FROM green_trips") == [(0,)]


@pytest.mark.slow
def test_zones_that_cannot_be_read_fail_without_a_retry_and_are_fetched_anew(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    for dag_id, task_id in (("taxi_trips_green", "load"), ("taxi_zones", "load")):
        monkeypatch.setattr(dag_bag.dags[dag_id].get_task(task_id), "retries", 3)
        with monkeypatch.context() as broken:
            broken.setattr("include.nyc_taxi.trips.zones.SHAPEFILE_PARTS", (".shp", ".shx", ".dbf", ".qpj"))  # no .prj
            done = run(dag_bag.dags[dag_id], "2023-01-01")
        assert states(done)[task_id] == "failed", "with a retry left it would be up_for_retry"
        assert "taxi_zones.zip: expected a shapefile with a projection (.prj), found none" in logged()
        assert not (data_dir / "raw" / "taxi_zones.zip.edition.json").exists()
    assert set(states(run(dag_bag.dags["taxi_trips_green"], "2023-01-02")).values()) == {"success"}
    statuses = [request.status for request in simulator.requests if request.path.endswith("taxi_zones.zip")]
    assert statuses == [200, 200, 200]


def test_asset_events_say_what_was_done(dag_bag: Any, simulator: TlcSimulator, data_dir: Path, events_of: Any) -> None:
    done = run(dag_bag.dags["taxi_trips_green"], "2023-01-01")

    found = events_of(done)
    assert [task_id for task_id, uri, _ in found if uri in ZONES] == ["load", "load"]
    events = {task_id: extra for task_id, uri, extra in found if uri not in ZONES}
    assert list(events) == ["download", "load", "aggregate", "map"]
    for task_id, uri, extra in found:
        assert extra.get("month") == (None if uri in ZONES else "2023-01"), task_id
        assert extra["seconds"] > 0, task_id
    assert events["download"]["bytes"] == (data_dir / "raw" / "green_tripdata_2023-01.parquet").stat().st_size
    assert events["load"]["rows"] == 1000
    assert events["load"]["quality"]["pickup_outside_month"] > 0
    assert events["load"]["quality_checks"]["rows_equal_footer"] == 0
    assert 0 < events["load"]["quality_checks"]["pickup_outside_month"] < 0.05
    assert events["load"]["changes"] is None
    assert events["load"]["unknown_columns"] == []
    assert events["load"]["simulated"] is True
    assert Path(events["map"]["path"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_trips_are_not_loaded_before_the_zones(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    simulator.add_fault("/misc/", ErrorPage())
    done = run(dag_bag.dags["taxi_trips_green"], "2023-01-01")

    assert states(done)["download"] == "success"
    assert states(done)["load"] == "failed"
    assert query(data_dir, "SELECT table_name FROM duckdb_tables()") == []

    simulator.clear_faults()
    assert set(states(run(dag_bag.dags["taxi_trips_green"], "2023-01-02")).values()) == {"success"}
    assert query(data_dir, "SELECT count(*) FROM zones") == [(265,)]


@pytest.mark.slow
def test_a_failed_download_keeps_the_month_as_it_was(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-01-01")
    before = query(data_dir, "SELECT * FROM green_trips ORDER BY ALL")
    simulator.republish("green", "2023-01")
    simulator.add_fault("/trip-data/", ErrorPage(), methods=("GET",))

    done = run(dag_bag.dags["taxi_trips_green"], "2023-01-03")

    assert states(done)["download"] == "failed"
    assert states(done)["load"] == "upstream_failed"
    assert query(data_dir, "SELECT * FROM green_trips ORDER BY ALL") == before


@pytest.mark.slow
@pytest.mark.parametrize("fleet", ["fhv", "fhvhv"])
def test_for_hire_vehicles_have_months_and_maps_too(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, fleet: str
) -> None:
    assert set(states(run(dag_bag.dags[f"taxi_trips_{fleet}"], "2023-01-01")).values()) == {"success"}
    assert query(data_dir, f"SELECT count(*) FROM {fleet}_trips") == [(1000,)]
    assert (data_dir / "outputs" / fleet / "manhattan_map_2023-01.png").exists()


@pytest.mark.slow
def test_a_month_that_does_not_pass_the_audit_is_refused_recorded_and_the_old_one_kept(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    run(dag, "2023-01-01")
    before = query(data_dir, "SELECT * FROM green_trips ORDER BY ALL"), query(data_dir, "FROM loads")
    simulator.republish("green", "2023-01")
    # For January, the TLC sends March's trips.
    march = urlopen(f"{simulator.url}/trip-data/green_tripdata_2023-03.parquet").read()
    monkeypatch.setattr("include.nyc_taxi.source.download.verify_parquet", lambda path: path.write_bytes(march))
    logged()

    done = run(dag, "2023-01-03")

    assert (states(done)["load"], states(done)["aggregate"]) == ("failed", "upstream_failed")
    assert "trips were picked up outside the file's month (trips_of_this_month: at most 0.5" in logged()
    assert (query(data_dir, "SELECT * FROM green_trips ORDER BY ALL"), query(data_dir, "FROM loads")) == before
    refused = "SELECT rule, severity FROM quality_checks WHERE NOT published AND NOT passed AND severity = 'error'"
    assert query(data_dir, refused) == [("trips_of_this_month", "error")]
    assert query(data_dir, "SELECT DISTINCT run_id FROM quality_checks WHERE NOT published") == [(done.run_id,)]


@pytest.mark.slow
def test_an_edition_that_has_lost_its_trips_is_refused_until_somebody_accepts_it(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    run(dag, "2023-01-01")
    before = query(data_dir, "SELECT * FROM green_trips ORDER BY ALL")
    simulator.republish("green", "2023-01")

    def halve(path: Path) -> None:
        duckdb.execute(f"COPY (FROM '{path}' LIMIT 500) TO '{path}.half' (FORMAT parquet)")
        Path(f"{path}.half").replace(path)

    monkeypatch.setattr("include.nyc_taxi.source.download.verify_parquet", halve)
    logged()

    assert states(run(dag, "2023-01-02"))["load"] == "failed"
    log = logged()
    assert "500 rows; the previous edition has 1,000 (rows_as_edition_before: at most 1.5, found 2)" in log
    assert """airflow dags trigger taxi_trips_green --conf '{"month": "2023-01", "accept": true}'""" in log
    assert query(data_dir, "SELECT * FROM green_trips ORDER BY ALL") == before

    assert set(states(run(dag, "2023-01-03", month="2023-01", accept=True)).values()) == {"success"}
    assert query(data_dir, "SELECT count(*) FROM green_trips") == [(500,)]


@pytest.mark.slow
def test_a_damaged_file_in_raw_is_fetched_anew_by_the_next_run(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, logged: Any
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    run(dag, "2023-01-01")
    simulator.republish("green", "2023-01")
    assert str(run(dag, "2023-01-02").state) == "success"
    rows = query(data_dir, "SELECT * FROM green_trips ORDER BY ALL")
    # A disk error: the file's length and its footer are unchanged.
    path = data_dir / "raw" / "green_tripdata_2023-01.parquet"
    content = bytearray(path.read_bytes())
    content[4:3000] = b"\xff" * 2996
    path.write_bytes(content)
    (data_dir / "outputs" / "green" / "manhattan_map_2023-01.png").unlink()  # so that there is something to do
    logged()

    assert states(run(dag, "2023-01-03"))["load"] == "failed"
    assert "cannot be read to its end, rolled back" in logged()
    assert query(data_dir, "SELECT * FROM green_trips ORDER BY ALL") == rows

    assert set(states(run(dag, "2023-01-04")).values()) == {"success"}
    assert query(data_dir, "SELECT * FROM green_trips ORDER BY ALL") == rows


@pytest.mark.slow
def test_a_run_stops_early_and_says_why_when_nothing_is_new(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, logged: Any
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    first = run(dag, "2023-01-01")
    before = query(data_dir, "SELECT run_id, loaded_at FROM loads")
    logged()

    again = run(dag, "2023-01-02")

    assert str(again.state) == "success"
    assert states(again) == {
        **dict.fromkeys(("wait_for_file", "download"), "success"),
        **dict.fromkeys(("load", "aggregate", "map"), "skipped"),
    }
    assert "nothing new: green 2023-01 has been loaded from this edition since" in logged()
    assert query(data_dir, "SELECT run_id, loaded_at FROM loads") == before
    assert before[0][0] == first.run_id

    asked = run(dag, "2023-01-05", month="2023-01", again=True)
    assert set(states(asked).values()) == {"success"}
    assert query(data_dir, "SELECT run_id FROM loads") == [(asked.run_id,)]

    simulator.republish("green", "2023-01")
    assert set(states(run(dag, "2023-01-03")).values()) == {"success"}


@pytest.mark.slow
def test_a_run_that_is_done_again_does_its_work_again(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    first = run(dag, "2023-01-01")
    with contextlib.closing(duckdb.connect(str(data_dir / "warehouse.duckdb"))) as con:
        # As if the next run were the one that loaded the month.
        con.execute("UPDATE loads SET run_id = 'manual__again'")
    monkeypatch.setattr(DagRun, "generate_run_id", lambda *args, **kwargs: "manual__again")
    again = run(dag, "2023-01-02")
    assert (again.run_id, first.run_id != again.run_id) == ("manual__again", True)
    assert set(states(again).values()) == {"success"}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["manhattan_map_2023-01.png", "manhattan_stats_2023-01.geojson"])
def test_a_run_goes_on_where_something_of_the_last_one_is_missing(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, lost: str
) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-01-01")
    (data_dir / "outputs" / "green" / lost).unlink()
    assert set(states(run(dag_bag.dags["taxi_trips_green"], "2023-01-02")).values()) == {"success"}
    assert (data_dir / "outputs" / "green" / lost).exists()


@pytest.mark.slow
def test_a_run_goes_on_where_the_last_one_failed_after_its_load(
    dag_bag: Any, simulator: TlcSimulator, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = dag_bag.dags["taxi_trips_green"]
    run(dag, "2023-01-01")
    simulator.republish("green", "2023-01")
    with monkeypatch.context() as broken:
        broken.setattr("include.nyc_taxi.reports.by_zone.aggregate_month", None)
        assert states(run(dag, "2023-01-02"))["aggregate"] == "failed"
    # The new edition is loaded, but the map is that of the old one: this is not "nothing new".
    assert set(states(run(dag, "2023-01-03")).values()) == {"success"}
    (counted,) = query(data_dir, "SELECT sum(num_trips) FROM trips_by_zone")[0]
    assert query(data_dir, "SELECT count(pickup_zone_id) FROM green_trips") == [(counted,)]


@pytest.mark.slow
def test_an_error_of_the_site_is_not_taken_for_not_yet_published(dag_bag: Any, simulator: TlcSimulator) -> None:
    simulator.add_fault("/trip-data/", Status(500), methods=("HEAD",))
    assert states(run(dag_bag.dags["taxi_trips_green"], "2023-01-01"))["wait_for_file"] == "failed"


@pytest.mark.slow
@pytest.mark.skipif(not IS_AIRFLOW_3, reason="on 2.11 every run has a logical date")
def test_a_run_without_a_date_works_when_it_has_a_month(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    assert str(run(dag_bag.dags["taxi_trips_green"], None, month="2023-02").state) == "success"
    assert query(data_dir, "SELECT partition_month FROM loads") == [(date(2023, 2, 1),)]


@pytest.mark.parametrize("month", ["2023-13", "2023-1", "../etc", "2023-01-01", "'; drop table zones; --"])
def test_a_malformed_month_is_refused_by_the_form(dag_bag: Any, month: str) -> None:
    form = dag_bag.dags["taxi_trips_green"].params.get_param("month")
    assert form.resolve("2023-02") == "2023-02"
    with pytest.raises(ParamValidationError, match="does not match"):
        form.resolve(month)


@pytest.mark.slow
def test_outputs_hold_every_manhattan_zone(dag_bag: Any, simulator: TlcSimulator, data_dir: Path) -> None:
    run(dag_bag.dags["taxi_trips_green"], "2023-01-01")
    collection = json.loads((data_dir / "outputs" / "green" / "manhattan_stats_2023-01.geojson").read_text())
    wanted = query(data_dir, "SELECT zone_id FROM zones WHERE borough = 'Manhattan' AND geometry IS NOT NULL")
    assert [feature["properties"]["zone_id"] for feature in collection["features"]] == sorted(x for (x,) in wanted)
