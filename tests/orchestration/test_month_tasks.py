"""When `load` has nothing to do, and when it has to work all the same."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from include.nyc_taxi import settings
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports.by_zone import month_map_path, month_stats_path
from include.nyc_taxi.source.download import Download, Edition
from include.nyc_taxi.warehouse import make_ready
from include.orchestration import assets, month_tasks
from warehouse_hook import WarehouseHook

MONTH = Month("2023-02")
EDITION = Edition("https://tlc.test/green.parquet", '"1"', "Tue, 21 Mar 2023", 17)
LOAD = (
    "INSERT INTO loads BY NAME SELECT 'green' AS fleet, DATE '2023-02-01' AS partition_month, 7 AS rows_in_file, "
    "7 AS rows_loaded, '{}' AS quality, 'run 1' AS run_id, TIMESTAMP '2023-04-21 05:31:07' AS loaded_at, "
    "? AS source_url, ? AS etag, ? AS last_modified, ? AS bytes"
)
OUTLETS = [assets.TAXI_ZONES_FILE, assets.TAXI_ZONES, assets.trips("green")]


def context(*, run_id: str = "run 2", run_type: str = "manual", cleared: bool = False, again: bool = False) -> Any:
    """The part of a task's context that is used. `cleared`: somebody has cleared the task after its first try."""
    return {
        "dag_run": SimpleNamespace(run_id=run_id, run_type=run_type),
        "task": SimpleNamespace(retries=3, outlets=[*OUTLETS]),
        "ti": SimpleNamespace(max_tries=4 if cleared else 3),
        "params": {"again": again},
        "outlet_events": {},
    }


def downloaded(*, fetched: bool = False, edition: Edition = EDITION, **of_download: Any) -> Any:
    """What `download` hands to `load`: through JSON."""
    done = Download(Path("green.parquet"), edition, fetched)
    return json.loads(json.dumps(month_tasks.for_load(context(**of_download), done)))


@pytest.fixture
def warehouse(data_dir: Path) -> WarehouseHook:
    """A warehouse with zones and green February, of which the map is drawn."""
    hook = WarehouseHook()
    with hook.opened() as con:
        make_ready(con)
        con.execute("INSERT INTO zones VALUES (1, 'Newark Airport', 'EWR', 'EWR', NULL)")
        con.execute(LOAD, [EDITION.url, EDITION.etag, EDITION.last_modified, EDITION.bytes])
    for path in (month_stats_path, month_map_path):
        made = path(settings.outputs_dir("green"), MONTH)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
    return hook


@pytest.fixture
def reason(warehouse: WarehouseHook) -> Callable[..., str | None]:
    """Say why `load` skips the month in this context; None if it loads it."""

    def ask(of_download: Any, of_load: Any, work: Callable[[], object] = lambda: None) -> str | None:
        site: Any = None
        try:
            with month_tasks.warehouse_for_load(warehouse, site, "green", MONTH, of_download, of_load) as con:
                assert con.execute("SELECT count(*) FROM zones").fetchone() == (1,)
                work()
        except AirflowSkipException as skipped:
            return str(skipped)
        return None

    return ask


def test_a_month_that_is_up_to_date_is_skipped(reason: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    why = reason(downloaded(), context())
    assert why.startswith("nothing new: green 2023-02 has been loaded from this edition since 2023-04-21 05:31 UTC")
    assert why in caplog.text  # the web UI hides the reason


@pytest.mark.parametrize(
    ("of_download", "of_load"),
    [
        pytest.param(downloaded(fetched=True), context(), id="the file was fetched"),
        pytest.param(downloaded(edition=Edition("u", None, None, 1)), context(), id="another edition"),
        pytest.param(downloaded(), context(cleared=True), id="load was cleared"),
        pytest.param(downloaded(cleared=True), context(), id="download was cleared, and load had not started"),
        pytest.param(downloaded(), context(run_type="backfill"), id="a backfill"),
        pytest.param(downloaded(), context(again=True), id="Load again"),
        pytest.param(downloaded(), context(run_id="run 1"), id="a retry of the load, or its run once more"),
        pytest.param(None, context(), id="an older version has downloaded the file"),
    ],
)
def test_the_work_is_done_where_somebody_wants_it_or_something_is_new(
    reason: Any, of_download: Any, of_load: Any
) -> None:
    assert reason(of_download, of_load) is None


def test_a_month_whose_map_is_not_drawn_is_loaded(reason: Any) -> None:
    os.utime(month_map_path(settings.outputs_dir("green"), MONTH), (0, 0))
    assert reason(downloaded(), context()) is None


def test_a_load_that_finds_zones_opens_the_warehouse_once_and_leaves_no_event_on_them(
    reason: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, open_it = [], WarehouseHook.get_conn
    monkeypatch.setattr(WarehouseHook, "get_conn", lambda hook: opened.append(hook) or open_it(hook))
    of_load = context()
    assert reason(downloaded(fetched=True), of_load) is None
    assert len(opened) == 1
    assert of_load["task"].outlets == [assets.trips("green")]


def test_zones_are_loaded_before_the_month_if_there_are_none_even_if_it_is_up_to_date(
    warehouse: WarehouseHook, reason: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.opened() as con:
        con.execute("DELETE FROM zones")
    steps = []

    def load_zones(hook: WarehouseHook, _: object) -> None:
        steps.append("load")
        with hook.opened() as con:  # it is not open
            con.execute("INSERT INTO zones VALUES (1, 'Newark Airport', 'EWR', 'EWR', NULL)")

    monkeypatch.setattr("include.orchestration.zones.download_zones", lambda *_: steps.append("download"))
    monkeypatch.setattr("include.orchestration.zones.load_zones", load_zones)
    of_load = context()
    assert reason(downloaded(), of_load) is None
    assert steps == ["download", "load"]
    assert of_load["task"].outlets == OUTLETS


def test_an_error_of_the_load_passes_and_the_warehouse_is_closed(warehouse: WarehouseHook, reason: Any) -> None:
    def refuse() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reason(None, context(), refuse)
    with warehouse.opened():
        pass
