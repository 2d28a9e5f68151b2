"""The error when Airflow's time limit ends a try, with Airflow's own timer and real DuckDB queries."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month
from include.nyc_taxi.source import parquet
from include.nyc_taxi.source.download import Edition, _record, read_edition
from include.nyc_taxi.trips import load
from include.orchestration import time_limit
from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.retry_policy import no_retry_when_permanent
from include.tlc_simulator.trips import write_month
from warehouse_hook import WarehouseHook

if IS_AIRFLOW_3:
    from airflow.sdk.execution_time.timeout import timeout
else:
    from airflow.utils.timeout import timeout

ENDLESS = "SELECT sum(hash(a.range, b.range)) FROM range(10_000_000) AS a, range(1_000_000) AS b"


@pytest.fixture
def february(tmp_path):
    """The file of a month."""
    path = tmp_path / catalogue.file_name("green", "2023-02")
    write_month(path, "green", "2023-02", rows=100)
    return path


@pytest.fixture
def ended(monkeypatch):
    """Run a function as a task with a time limit; return the error message."""
    task = SimpleNamespace(task_id="load", execution_timeout=timedelta(seconds=1))
    monkeypatch.setattr(time_limit, "get_current_context", lambda: {"task": task})

    def run(work):
        with pytest.raises(AirflowTaskTimeout) as error, timeout(1):
            no_retry_when_permanent(work)()
        return str(error.value)

    return run


def test_says_so_of_a_query_whose_changes_are_rolled_back(ended):
    with WarehouseHook().opened() as con:
        con.execute("CREATE TABLE kept AS SELECT 1 AS i")

    def work():
        with WarehouseHook().transaction() as con:
            con.execute("DELETE FROM kept")
            con.execute(ENDLESS)

    said = ended(work)
    assert "Airflow's time limit (execution_timeout = 0:00:01) has ended this try of `load`" in said
    assert "while it was running a query of DuckDB" in said
    assert "\n" not in said
    with WarehouseHook().opened() as con:
        assert con.execute("FROM kept").fetchall() == [(1,)]


def test_names_who_holds_the_file_that_was_waited_for(ended, hold_open, data_dir):
    data_dir.mkdir()
    holder = hold_open(data_dir / "warehouse.duckdb")
    said = ended(lambda: WarehouseHook().get_conn())
    assert f"while it was waiting for {data_dir}/warehouse.duckdb, which is open in process {holder.pid}." in said


@pytest.mark.parametrize("step", ["trips.row_mapping.select", "trips.row_mapping.count_lost", "audit.engine.audit"])
def test_takes_no_file_for_damaged(ended, february, monkeypatch, step):
    edition = Edition(url="http://tlc.test", etag='"1"', last_modified=None, bytes=february.stat().st_size)
    _record(february, edition)

    def work():
        with WarehouseHook().opened() as con:
            monkeypatch.setattr(f"include.nyc_taxi.{step}", lambda *_: con.execute(ENDLESS))
            load.load_month(con, "green", Month("2023-02"), february, "run 1")

    assert "while it was running a query of DuckDB in include.nyc_taxi.trips.load." in ended(work)
    assert read_edition(february) == edition
    with WarehouseHook().opened() as con:
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (0,)


def test_an_error_that_says_nothing_of_a_file_does_not_make_it_damaged(february, monkeypatch):
    for kind in parquet.NOT_THE_FILES_FAULT:

        def connect(kind=kind):
            raise kind("not now")

        monkeypatch.setattr(parquet.duckdb, "connect", connect)
        with pytest.raises(kind, match="not now"):
            parquet.is_readable(february)


def test_says_it_where_cleaning_up_has_failed_too(ended):
    def work():
        try:
            while True:
                pass
        finally:
            raise OSError("the disk is gone")

    assert "while it was at work" in ended(work)


def test_other_errors_are_as_they_were():
    for error in (RuntimeError("Query interrupted"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, time_limit.explained():
            raise error
        assert raised.value is error
