"""Assets, and the facts that are stored with their events."""

from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from airflow.providers.standard.operators.python import PythonOperator

from include.nyc_taxi import catalogue
from include.nyc_taxi.audit.engine import QualityError
from include.orchestration import assets
from include.orchestration.compat import IS_AIRFLOW_3

FLEETS = sorted(catalogue.FLEETS)
OF_A_FLEET = (assets.trips_file, assets.trips, assets.manhattan_stats, assets.manhattan_map, assets.trips_by_week)
ALL = [
    assets.TAXI_ZONES_FILE,
    assets.TAXI_ZONES,
    assets.ADHOC_REQUEST,
    *(make(fleet) for fleet in FLEETS for make in OF_A_FLEET),
]


def test_every_asset_has_an_address_of_its_own():
    assert len({asset.uri for asset in ALL}) == len(ALL) == 3 + 5 * len(FLEETS)


@pytest.mark.parametrize(
    ("fleet", "figures"),
    [
        ("yellow", "trips, money, miles and passengers"),
        ("green", "trips, money, miles and passengers"),
        ("fhv", "trips"),
        ("fhvhv", "trips and miles"),
    ],
)
def test_weekly_figures_are_those_that_the_fleets_files_have(fleet, figures):
    assert assets.weekly_figures(fleet) == figures
    description = assets.trips_by_week(fleet).extra["description"]
    assert description == f"{catalogue.fleet(fleet).title}, {figures} by week: table, CSV and line chart"


def test_an_asset_asked_for_twice_is_the_same():
    assert assets.trips("green") == assets.trips("green")
    assert assets.trips("green").uri == "x-nyc-taxi://ingested/taxi_trips/green"


def test_the_address_says_the_group_and_not_where_the_data_lies(data_dir):
    groups = {asset.uri.split("://")[1].split("/")[0] for asset in ALL}
    assert groups == {"raw_files", "ingested", "metrics", "requests"}
    assert not any(str(data_dir) in asset.uri for asset in ALL)


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="names and groups are of Airflow 3")
def test_every_asset_has_a_name_of_its_own_and_its_group():
    assert len({asset.name for asset in ALL}) == len(ALL)
    found = {(asset.name, asset.group) for asset in ALL}
    assert found >= {
        ("taxi_trips_file_green", "raw_files"),
        ("taxi_trips_green", "ingested"),
        ("taxi_zones", "ingested"),
        ("manhattan_stats_green", "metrics"),
        ("manhattan_map_green", "metrics"),
        ("trips_by_week_green", "metrics"),
        ("adhoc_request", "requests"),
    }


def test_every_asset_says_what_it_is():
    assert all(asset.extra["description"] for asset in ALL)


def test_what_a_task_did_goes_on_its_assets_event_with_the_seconds_it_took():
    asset = assets.trips("green")
    outlet_events = {asset: SimpleNamespace(extra={})}
    with assets.event(outlet_events, asset, month="2023-02") as facts:
        facts.update(rows=7)
        assert outlet_events[asset].extra == {}
    assert outlet_events[asset].extra.pop("seconds") >= 0
    assert outlet_events[asset].extra == {"month": "2023-02", "rows": 7}


def test_a_task_emits_no_event_on_what_it_has_not_made_and_its_dag_keeps_the_outlets():
    outlets = [assets.TAXI_ZONES_FILE, assets.TAXI_ZONES, assets.trips("green")]
    task = PythonOperator(task_id="make", python_callable=print, outlets=outlets)
    running = task.prepare_for_execution()
    assets.no_events(running, assets.TAXI_ZONES_FILE, assets.TAXI_ZONES)
    assert running.outlets == [assets.trips("green")]
    assert task.outlets == outlets


class Untouchable(dict):
    """Stands for the context's `outlet_events`, whose items are created on access; here, an access is an error."""

    def __getitem__(self, asset):
        pytest.fail(f"the event of {asset} has been touched")


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a bug"),
        QualityError("the audit refuses the month"),
        AirflowSkipException("nothing is new"),
        AirflowFailException("no retry can help"),
        AirflowTaskTimeout("the time limit"),
        KeyboardInterrupt(),
        SystemExit(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_block_that_raises_records_no_asset_event_even_if_it_knew_its_facts_by_then(error):
    asset = assets.trips("green")
    noted = {asset: SimpleNamespace(extra={"of": "an earlier block"})}

    def fail(outlet_events):
        with assets.event(outlet_events, asset, month="2023-02") as facts:
            facts.update(rows=7)
            raise error

    for outlet_events in (noted, Untouchable(noted)):
        with pytest.raises(type(error)) as raised:
            fail(outlet_events)
        assert raised.value is error
    assert noted[asset].extra == {"of": "an earlier block"}
