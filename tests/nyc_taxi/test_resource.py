"""The data about the shared resources, and who has the warehouse's file open."""

import json
from datetime import UTC, datetime

import duckdb
import pytest

from include.nyc_taxi.warehouse import checkpoints
from include.nyc_taxi.web import resource, uses
from include.nyc_taxi.web.resource import DeclaredUse, Holder, PoolTask, holder
from tests.nyc_taxi.test_grid import load_of, taken
from tests.nyc_taxi.test_month_page import Links

SINCE = datetime(2023, 9, 15, 12, tzinfo=UTC)
READABLE = frozenset({"taxi_trips_green"})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    duckdb.connect(str(path)).close()
    return path


def page(file=None, pool=(), declared=(), site=(), snapshot=None, readable=READABLE):
    made = resource.resource(snapshot, file, "https://tlc.test", pool, declared, site, Links(), readable)
    assert json.loads(json.dumps(made)) == made
    return made


def task(pid=None, *, is_running=True, dag_id="taxi_trips_green", task_id="load", is_here=True):
    return PoolTask(dag_id, "run1", task_id, is_running=is_running, pid=pid, since=SINCE, is_here=is_here)


class TestHolder:
    def test_is_nobody_if_nobody_has_it_open(self, file, tmp_path):
        assert holder(file) is None
        assert holder(tmp_path / "missing.duckdb") is None

    def test_is_the_process_that_has_it_open_which_keeps_its_lock(self, file, hold_open):
        process = hold_open(file)
        assert holder(file) == Holder(process.pid, writes=True)
        with pytest.raises(duckdb.IOException, match="Could not set lock"):
            duckdb.connect(str(file))
        assert holder(file) == Holder(process.pid, writes=True)

    def test_only_reads_if_it_has_opened_it_to_read(self, file, start_python):
        code = (
            "import sys, duckdb\ncon = duckdb.connect(sys.argv[1], read_only=True)\n"
            "print('open', flush=True)\ninput()\n"
        )
        process = start_python(code, file)
        assert process.stdout.readline() == "open\n"
        assert holder(file) == Holder(process.pid, writes=False)
        (user,) = page(file)["warehouse"]["open_now"]
        assert (user["pid"], user["mode"]) == (process.pid, "read")

    def test_asking_keeps_nobody_out(self, file, start_python):
        process = start_python(
            "import sys, duckdb\nfor _ in range(30):\n    duckdb.connect(sys.argv[1]).close()\nprint('done')\n", file
        )
        while process.poll() is None:
            holder(file)
        assert process.communicate()[0] == "done\n"


class TestWarehouse:
    def test_names_the_task_that_has_it_open(self, file, hold_open):
        pid = hold_open(file).pid
        (user,) = page(file, [task(1), task(pid, task_id="aggregate")])["warehouse"]["open_now"]
        assert (user["pid"], user["task"]["task_id"]) == (pid, "aggregate")
        assert user["task"]["url"] == "/taxi_trips_green/run1/aggregate"

    def test_names_only_the_process_if_it_is_no_task_or_one_that_the_user_may_not_read(self, file, hold_open):
        pid = hold_open(file).pid
        for pool in ([], [task(pid, dag_id="secret")]):
            (user,) = page(file, pool)["warehouse"]["open_now"]
            assert (user["pid"], user["task"]) == (pid, None)

    def test_takes_no_task_of_another_machine_for_a_process_of_this_one_with_the_same_pid(self, file, hold_open):
        pid = hold_open(file).pid
        made = page(file, [task(pid, is_here=False), task(1)])["warehouse"]
        (user,) = made["open_now"]
        assert (user["pid"], user["task"]) == (pid, None)
        assert "1 running tasks" in made["open_now_note"]

    def test_says_what_is_not_seen(self, file):
        assert "Only processes of the web server's machine" in page(file)["warehouse"]["open_now_note"]
        assert "are not seen" in page(None)["warehouse"]["open_now_note"]

    def test_a_task_that_runs_dbt_writes_whatever_the_hook_has_seen(self):
        uses.record(uses.WarehouseUse("2023-09-15", "taxi_trips_green", "r", "daily_trips", 1, 0.5, 0.1, False))
        declared = [DeclaredUse("taxi_trips_green", "daily_trips", writes=True, program="dbt")]
        (use,) = page(declared=declared)["warehouse"]["uses"]
        assert (use["mode"], use["program"], len(use["last"])) == ("write", "dbt", 1)

    def test_lists_who_waits(self, file):
        waiting = page(file, [task(is_running=False), task(is_running=False, dag_id="secret")])["warehouse"]["waiting"]
        assert [each["task"]["task_id"] for each in waiting] == ["load"]
        assert waiting[0]["since"] == SINCE.isoformat(timespec="seconds")

    def test_a_task_that_runs_while_another_process_has_the_file_open_waits_too(self, file, hold_open):
        assert page(file, [task(1)])["warehouse"]["waiting"] == []
        pid = hold_open(file).pid
        assert page(file, [task(pid)])["warehouse"]["waiting"] == []
        (waiting,) = page(file, [task(1)])["warehouse"]["waiting"]
        assert waiting["task"]["task_id"] == "load"

    def test_of_a_lake_lists_all_running_tasks(self):
        made = page(None, [task(7), task(8, task_id="aggregate")])["warehouse"]
        assert [user["pid"] for user in made["open_now"]] == [7, 8]
        assert made["bytes"] is None

    def test_has_advice_if_its_file_is_so_large_that_a_lake_would_be_better(self, file, monkeypatch):
        assert page(file)["warehouse"]["advice"] is None
        monkeypatch.setattr(checkpoints, "LAKE_ADVISED_BYTES", 1)
        assert "`make migrate`" in page(file)["warehouse"]["advice"]
        assert page(None)["warehouse"]["advice"] is None

    def test_grows_by_what_each_calendar_month_has_loaded(self, file):
        loads = {
            "2022-01": load_of("2022-01", loaded_at="2023-08-01T00:00:00+00:00", rows=10, bytes=100),
            "2022-02": load_of("2022-02", loaded_at="2023-08-31T00:00:00+00:00", rows=20, bytes=200),
            "2022-03": load_of("2022-03", loaded_at="2023-09-01T00:00:00+00:00", rows=5, bytes=50),
        }
        made = page(file, snapshot=taken(loads))["warehouse"]
        assert made["growth"] == [
            {"month": "2023-08", "rows": 30, "bytes": 300},
            {"month": "2023-09", "rows": 5, "bytes": 50},
        ]
        assert made["bytes"] == file.stat().st_size

    def test_has_every_declared_use_with_what_it_cost_lately(self):
        for number in range(15):
            at = f"2023-09-15T12:00:{number:02}"
            uses.record(uses.WarehouseUse(at, "taxi_trips_green", f"run{number}", "load", 1, 0.5, 2.5, True, 7))
        uses.record(uses.WarehouseUse("2023-09-15", "secret", "r", "load", 1, 0.5, 2.5, True, 7))
        uses.record(uses.WarehouseUse("2023-09-15", "", "", "", 1, 0.5, 2.5, False))
        declared = [DeclaredUse("taxi_trips_green", "aggregate", writes=True), DeclaredUse("secret", "load")]
        aggregate, load = page(declared=declared)["warehouse"]["uses"]
        assert (aggregate["task_id"], aggregate["mode"], aggregate["last"]) == ("aggregate", "write", [])
        assert [use["run_id"] for use in load["last"]] == [f"run{number}" for number in range(14, 4, -1)]
        assert load["last"][0] == {
            "run_id": "run14",
            "at": "2023-09-15T12:00:14",
            "wait_seconds": 0.5,
            "hold_seconds": 2.5,
            "rows": 7,
        }


def test_the_site_has_the_tasks_that_ask_it_and_what_they_cost():
    uses.record(uses.SiteUse("2023-09-15", "taxi_trips_green", "run1", "download", bytes=10))
    uses.record(uses.SiteUse("2023-09-15", "taxi_trips_green", "run1", "download", refused=1, retries=1))
    uses.record(uses.SiteUse("2023-09-15", "secret", "run1", "ask"))
    made = page(site=[DeclaredUse("taxi_trips_green", "wait_for_file"), DeclaredUse("secret", "ask")])["tlc"]
    assert [use["task_id"] for use in made["uses"]] == ["download", "wait_for_file"]
    (last,) = made["last"]
    assert (last["requests"], last["bytes"], last["refused"], last["retries"]) == (2, 10, 1, 1)
