"""The report on a real warehouse, a simulated TLC's site and given runs; and `make status` as a user types it."""

import json
import threading
from datetime import UTC, datetime

import duckdb
import pytest

from include.local import warehouse_reader
from include.local.__main__ import main
from include.nyc_taxi import warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import checkpoints
from include.orchestration import status
from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.month_runs import MonthRun
from include.tlc_simulator.faults import Status
from include.tlc_simulator.server import TlcSimulator
from tests.integration.project import Project
from warehouse_hook import WarehouseHook, WarehouseLockedError

pytestmark = pytest.mark.usefixtures("metadata_database")
BACKFILL = "make backfill" if IS_AIRFLOW_3 else "make backfill AIRFLOW=2"
INSERT = "INSERT INTO loads VALUES (?, ?, 'http://tlc.test', 'abc', ?, 9, 5, 5, '{}', ?, 'loader', NULL, '[]', false)"
MODIFIED = "Mon, 20 Mar 2023 14:30:00 GMT"


def note_loads(database, fleet, *months):
    """Make a warehouse in which these months are loaded, as far as `loads` says."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(database)) as con:
        warehouse.ensure_tables(con)
        for month in months:
            con.execute(INSERT, [fleet, Month(month).first_day, MODIFIED, datetime.now(UTC).replace(tzinfo=None)])


@pytest.fixture(autouse=True)
def runs(monkeypatch):
    """What Airflow says of runs: nothing, unless a test puts some here, by DAG."""
    known = {}
    monkeypatch.setattr(status, "all_runs", lambda dag_id: known.get(dag_id, []))
    return known


@pytest.fixture
def site(made_files, monkeypatch):
    """The TLC's site, which has published 2023-01 to 2023-03."""
    with TlcSimulator(made_files, rows=2000, first_month="2023-01", last_month="2023-03") as simulator:
        monkeypatch.setenv("NYC_TAXI_TLC_URL", simulator.url)
        yield simulator


def lines(report):
    """The report's lines, each with single blanks."""
    return [" ".join(line.split()) for line in report.splitlines()]


class TestReport:
    def test_puts_together_the_warehouse_the_site_and_airflow(self, data_dir, site, runs):
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01")
        failed = MonthRun(
            "r", "2023-03", "failed", datetime.now(UTC), {"download": "failed", "load": "upstream_failed"}
        )
        runs["taxi_trips_green"] = [failed]
        found = lines(status.report(WarehouseHook(), ["green"]))
        assert found[2].startswith("green 2023-01 fresh 2023-03-20 - ")
        assert found[2].endswith(" abc, 2023-03-20 5 0 minutes")
        assert found[3] == "green 2023-02 MISSING 2023-04-20 - - - - -"
        assert found[4] == "green 2023-03 FAILED (download) 2023-05-20 - - - - -"
        assert found[5].startswith("green 2023-04 … 20")
        assert found[5].endswith(" not published no - - - - -")
        assert found[6:] == [
            "",
            "green: 1 month loaded, 2023-01; last load 0 minutes ago.",
            f"green: 2023-02 is published but not loaded; `{BACKFILL} FLEET=green FROM=2023-02 TO=2023-02` loads it.",
            (
                "green: 2023-03 failed in download; fix the cause given in the task's log, then run "
                f"`{BACKFILL} FLEET=green FROM=2023-03 TO=2023-03`."
            ),
        ]

    def test_asks_with_head_and_only_for_months_that_are_not_loaded(self, data_dir, site):
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01", "2023-03")
        status.report(WarehouseHook(), ["green"])
        assert {request.method for request in site.requests} == {"HEAD"}
        asked = sorted(request.path for request in site.requests)
        assert asked[:2] == [f"/trip-data/green_tripdata_{month}.parquet" for month in ("2023-02", "2023-04")]
        assert len(set(asked)) == len(asked)

    def test_asks_with_the_headers_of_the_connection(self, data_dir, site, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_TLC", json.dumps({"conn_type": "http", "extra": {"X-Client": "me"}}))
        status.report(WarehouseHook(), ["green"])
        assert {request.headers.get("X-Client") for request in site.requests} == {"me"}

    def test_has_closed_the_warehouse_when_the_site_is_asked(self, data_dir, site, monkeypatch):
        database = data_dir / "warehouse.duckdb"
        note_loads(database, "green", "2023-01")
        seen, ask = [], status._ask

        def ask_while_another_opens_it(wanted):
            def another():
                with duckdb.connect(
                    str(database), config={"threads": 1}
                ) as con:  # refused if it were open: other settings
                    seen.append(con.execute("SELECT count(*) FROM loads").fetchone())

            thread = threading.Thread(target=another)
            thread.start()
            thread.join()
            return ask(wanted)

        monkeypatch.setattr(status, "_ask", ask_while_another_opens_it)
        status.report(WarehouseHook(), ["green"])
        assert seen == [(1,)]

    def test_of_a_site_that_cannot_be_asked_says_why(self, site):
        site.add_fault("", Status(503))
        found = status.report(WarehouseHook(), ["yellow", "green"])
        assert f"?: not known whether published; {site.url} could not be asked (status 503)." in found
        assert "yellow: nothing is loaded yet." in found
        assert len(site.requests) <= 4

    def test_sends_the_login_in_the_sites_address_and_does_not_show_it(self, site, monkeypatch):
        monkeypatch.setenv("NYC_TAXI_TLC_URL", site.url.replace("http://", "http://me:s3same@"))
        site.add_fault("", Status(503))
        found = status.report(WarehouseHook(), ["green"])
        assert site.requests[0].headers["Authorization"].startswith("Basic ")
        assert f"{site.url} could not be asked" in found
        assert "s3same" not in found

    def test_advises_once_to_use_a_lake_if_the_file_is_large(self, data_dir, site, monkeypatch):
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01")
        assert "make migrate" not in status.report(WarehouseHook(), ["green", "fhv"])
        monkeypatch.setattr(checkpoints, "LAKE_ADVISED_BYTES", 1)
        assert status.report(WarehouseHook(), ["green", "fhv"]).count("make migrate") == 1

    def test_does_not_make_a_warehouse(self, data_dir, site):
        found = status.report(WarehouseHook(), ["green"])
        assert f"There is no warehouse yet at {data_dir}/warehouse.duckdb." in found
        assert not data_dir.exists()

    def test_of_the_demo_does_not_ask_the_real_site(self, monkeypatch):
        monkeypatch.setenv("DEMO", "1")
        monkeypatch.setattr("tlc_hook.TlcHook.get_conn", None)
        found = status.report(WarehouseHook(), ["green"])
        assert (
            "?: not known whether published; the demo's simulated TLC can only be asked from its own Airflow" in found
        )

    def test_of_the_demo_names_the_demos_command(self, data_dir, site, monkeypatch):
        monkeypatch.setenv("DEMO", "1")
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01")
        assert f"`{BACKFILL.replace('make backfill', 'make demo')} FLEET=green " in status.report(
            WarehouseHook(), ["green"]
        )

    def test_reads_a_warehouse_that_a_connection_names(self, tmp_path, site, monkeypatch):
        note_loads(tmp_path / "other.db", "green", "2023-02")
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "duckdb", "host": "{tmp_path}/other.db"}}')
        assert "green: 1 month loaded, 2023-02; " in status.report(WarehouseHook(), ["green"])


class TestCommand:
    def test_prints_the_report_and_is_content_also_where_months_are_missing(self, data_dir, site, capsys):
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01", "2023-03")
        assert main(["status", "--fleet", "green"]) == 0
        printed = capsys.readouterr().out
        assert "2023-02 is missing between 2023-01 and 2023-03" in printed
        assert "\033[" not in printed

    def test_is_drawn_in_colour_in_a_terminal(self, data_dir, site, in_terminal, capsys):
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01", "2023-03")
        assert main(["status", "--fleet", "green"]) == 0
        printed = capsys.readouterr().out
        assert "\033[1;31mMISSING" in printed
        assert "\033[32mfresh" in printed
        assert "───" in printed

    def test_of_an_unknown_fleet_fails_with_a_sentence(self, capsys):
        assert main(["status", "--fleet", "purple"]) == 2
        assert capsys.readouterr().err.startswith("make status: no fleet 'purple' in the catalogue")

    def test_of_a_first_month_that_is_none_fails_with_a_sentence(self, monkeypatch, capsys):
        monkeypatch.setenv("NYC_TAXI_FIRST_MONTH", "2023")
        assert main(["status", "--fleet", "green"]) == 2
        assert capsys.readouterr().err.startswith("make status: NYC_TAXI_FIRST_MONTH: '2023' is not a month")

    def test_waits_for_the_warehouse_and_says_for_whom(self, data_dir, site, hold_open, capsys):
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01")
        holder = hold_open(data_dir / "warehouse.duckdb")
        threading.Timer(0.5, holder.communicate).start()
        assert main(["status", "--fleet", "green"]) == 0
        said = capsys.readouterr()
        assert said.err.startswith(
            f"process {holder.pid} (a task? a DuckDB shell?) has the warehouse open; waiting up to"
        )
        assert "green: 1 month loaded" in said.out

    def test_gives_up_where_the_warehouse_stays_locked(self, data_dir, site, hold_open, monkeypatch, capsys):
        monkeypatch.setattr(warehouse_reader, "LOCK_TIMEOUT_SECONDS", 0.2)
        note_loads(data_dir / "warehouse.duckdb", "green", "2023-01")
        holder = hold_open(data_dir / "warehouse.duckdb")
        assert main(["status", "--fleet", "green"]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last == f"make status: process {holder.pid} still has the warehouse open; try again later"

    def test_does_not_know_a_holder_without_a_pid(self):
        assert (
            warehouse_reader._holder(WarehouseLockedError("open in another process (pid unknown)")) == "another process"
        )


@pytest.mark.slow
def test_make_status_on_a_fresh_checkout_shows_all_fleets_or_the_one_asked_for(tmp_path, site):
    project = Project(tmp_path, site.url)
    ended, output = project.run("status")
    assert ended == 0, output
    assert "yellow: nothing is loaded yet." in output
    assert "green: nothing is loaded yet." in output
    assert f"There is no warehouse yet at {project.data_dir}/warehouse.duckdb." in output
    assert not (project.data_dir / "warehouse.duckdb").exists()

    note_loads(project.data_dir / "warehouse.duckdb", "green", "2023-01", "2023-03")
    ended, output = project.run("status", FLEET="green")
    assert ended == 0, output
    assert "yellow" not in output
    assert f"`{BACKFILL} FLEET=green FROM=2023-02 TO=2023-02` loads it." in output
    assert output.startswith("fleet "), "a log line stands before the table"

    assert "make status: no fleet 'purple' in the catalogue" in project.run("status", FLEET="purple")[1]
