"""The snapshot of the warehouse, and the visits that write it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import duckdb
import pytest

from include.nyc_taxi import warehouse
from include.nyc_taxi.audit.engine import QualityError
from include.nyc_taxi.files import locked
from include.nyc_taxi.months import Month, monday_of
from include.nyc_taxi.reports.by_week import aggregate_week
from include.nyc_taxi.reports.by_zone import aggregate_month
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.web import snapshot, uses
from include.nyc_taxi.web.visit import Visit

HERE = snapshot.Place("file", "/srv/warehouse.duckdb", (snapshot.Setting("threads", "2", "default"),))
USER = uses.User("taxi_trips_green", "run1", "load")


@pytest.fixture
def load(con, write_trips, zones):
    """Load a month of green trips."""

    def load_green(month, run_id="run1", rows=60, **options):
        path = write_trips("green", month, rows=rows, **options)
        return load_month(con, "green", Month(month), path, run_id)

    return load_green


class TestContents:
    def test_has_what_the_warehouse_says_about_each_loaded_month(self, con, load, tmp_path):
        load("2023-01", "january", rows=50)
        load("2023-02", "february", rows=60, columns={"new_column": "'x'"})
        aggregate_month(con, "green", Month("2023-01"), tmp_path / "outputs")
        aggregate_week(con, "green", monday_of("2023-01-02"), tmp_path / "outputs")
        taken = snapshot.take(con, HERE)
        assert {month: load.rows for month, load in taken.months["green"].items()} == {"2023-01": 50, "2023-02": 60}
        january, february = taken.months["green"].values()
        (size, etag, loaded_at) = con.execute(
            "SELECT bytes, etag, loaded_at FROM loads WHERE run_id = 'january'"
        ).fetchone()
        assert (january.bytes, january.etag, january.run_id) == (size, etag, "january")
        assert january.loaded_at == f"{loaded_at.isoformat(timespec='microseconds')}+00:00"
        assert february.unknown_columns == ("new_column",)
        assert january.changes is None
        assert sum(trips for _, trips in january.top_zones) <= 50
        assert february.top_zones == ()
        assert taken.weeks == {"green": {"2023-01-02": 0}}
        assert taken.zones[4] == "Zone 4"

    def test_has_the_top_ten_zones_the_busiest_first_and_no_ids_that_are_none(self, con):
        counts = [(zone, 1000 - zone if zone < 13 else 5000) for zone in range(1, 13)] + [(0, 9999), (999, 9999)]
        con.executemany("INSERT INTO trips_by_zone VALUES ('green', DATE '2023-01-01', ?, ?)", counts)
        loads = "INSERT INTO loads (fleet, partition_month, source_url, bytes, rows_in_file, rows_loaded, quality, "
        con.execute(f"{loads}loaded_at, run_id) VALUES ('green', DATE '2023-01-01', 'u', 1, 1, 1, '{{}}', now(), 'r')")
        tops = snapshot.take(con, HERE).months["green"]["2023-01"].top_zones
        assert tops == tuple((zone, 1000 - zone) for zone in range(1, 11))

    def test_keeps_the_detail_of_what_is_broken_only(self, con, load):
        load("2023-01", columns={"trip_distance": "-1.0"})
        checks = snapshot.take(con, HERE).months["green"]["2023-01"].checks
        recorded = con.execute("SELECT rule, at_most, value, passed, detail FROM quality_checks").fetchall()
        assert sorted((x.rule, x.limit, x.value, x.passed, x.detail) for x in checks) == sorted(
            (rule, limit, value, passed, None if passed else detail) for rule, limit, value, passed, detail in recorded
        )
        assert snapshot.take(con, HERE).months["green"]["2023-01"].warnings == sum(not row[3] for row in recorded) > 0

    def test_has_a_refusal_beside_the_month_that_stays_loaded(self, con, load):
        load("2023-01", "good", rows=400)
        with pytest.raises(QualityError):
            load("2023-01", "bad", rows=400, columns={"lpep_pickup_datetime": "TIMESTAMP '2019-05-05'"})
        taken = snapshot.take(con, HERE)
        assert taken.months["green"]["2023-01"].run_id == "good"
        refusal = taken.refusals["green"]["2023-01"]
        assert refusal.run_id == "bad"
        assert any(not check.passed and check.severity == "error" for check in refusal.checks)

    def test_of_an_empty_database_is_empty(self):
        with duckdb.connect() as empty:
            taken = snapshot.take(empty, HERE)
        assert (taken.months, taken.refusals, taken.weeks, taken.zones) == ({}, {}, {}, {})

    def test_never_contains_a_login_that_an_older_version_has_recorded(self, con, load):
        load("2023-01")
        con.execute("UPDATE loads SET source_url = 'https://user:hunter2@tlc.test/x.parquet'")
        snapshot.write(con, HERE)
        assert "hunter2" not in snapshot.path().read_text()
        assert snapshot.read().months["green"]["2023-01"].source_url == "https://tlc.test/x.parquet"


class TestFile:
    def test_is_read_as_it_was_taken(self, con, load, tmp_path):
        load("2023-01", columns={"trip_distance": "-1.0"})
        load("2023-01", "again", rows=70)
        aggregate_month(con, "green", Month("2023-01"), tmp_path / "outputs")
        with pytest.raises(QualityError):
            load("2023-01", "bad", rows=400, columns={"lpep_pickup_datetime": "TIMESTAMP '2019-05-05'"})
        written = snapshot.write(con, HERE)
        read = snapshot.read()
        assert json.dumps(read, default=vars, sort_keys=True) == json.dumps(written, default=vars, sort_keys=True)
        assert read.months["green"]["2023-01"].changes["rows"] == [60, 70]

    def test_is_none_if_there_is_none(self):
        assert snapshot.read() is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}', '{"version": 99, "months": {}}'])
    def test_is_none_if_it_is_damaged_or_of_another_version(self, text):
        snapshot.path().parent.mkdir(parents=True)
        snapshot.path().write_text(text)
        assert snapshot.read() is None

    def test_the_last_of_several_writers_has_read_last(self, con, load, monkeypatch):
        """A writer that has read the old state and then hangs must not replace what others have written meanwhile."""
        load("2023-01")
        has_read, may_go_on = threading.Event(), threading.Event()
        take, calls = snapshot.take, []

        def slow_first_take(cursor, at):
            calls.append(at)
            taken = take(cursor, at)
            if len(calls) == 1:
                has_read.set()
                assert may_go_on.wait(30)
            return taken

        monkeypatch.setattr(snapshot, "take", slow_first_take)
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(snapshot.write, con.cursor(), HERE)
            assert has_read.wait(30)
            load("2023-02")
            quick = pool.submit(snapshot.write, con.cursor(), HERE)
            may_go_on.set()
            slow.result(30)
            quick.result(30)
        assert list(snapshot.read().months["green"]) == ["2023-01", "2023-02"]

    def test_a_writer_that_gets_no_turn_gives_up_and_keeps_the_old_one(self, con, monkeypatch):
        snapshot.write(con, HERE)
        before = snapshot.path().read_bytes()
        monkeypatch.setattr(snapshot, "TURN_SECONDS", 0.05)
        with locked(snapshot.path().with_suffix(".lock")), pytest.raises(TimeoutError, match=r"warehouse\.lock"):
            snapshot.write(con, HERE)
        assert snapshot.path().read_bytes() == before


def visit(tmp_path, work, user=USER, place=HERE):
    """Visit the warehouse in `tmp_path` as the hook does; return the record of this visit, if there is one."""
    file = tmp_path / "visited.duckdb"
    this = Visit(lambda _: user and (user, place), file)
    with this.recorded(), duckdb.connect(str(file)) as con:
        this.begin(con)
        work(con)
        this.end(con)
    return (uses.warehouse_uses() or [None])[-1]


def nothing(_):
    pass


class TestVisit:
    def test_that_changes_the_warehouse_leaves_a_snapshot_and_a_record(self, tmp_path, write_trips):
        file = write_trips("green", "2023-01", rows=60)
        use = visit(tmp_path, lambda con: load_month(con, "green", Month("2023-01"), file, "run1"))
        assert snapshot.read().months["green"]["2023-01"].rows == 60
        assert (use.dag_id, use.run_id, use.task_id) == ("taxi_trips_green", "run1", "load")
        assert (use.wrote, use.rows) == (True, 60)
        assert use.hold_seconds > 0

    def test_that_only_reads_leaves_the_snapshot_as_it_is(self, tmp_path):
        visit(tmp_path, warehouse.make_ready)
        before = snapshot.path().stat().st_mtime_ns
        use = visit(tmp_path, lambda con: con.execute("SELECT count(*) FROM zones").fetchall())
        assert snapshot.path().stat().st_mtime_ns == before
        assert (use.wrote, use.rows) == (False, None)

    def test_that_only_reads_writes_the_first_snapshot(self, tmp_path):
        visit(tmp_path, warehouse.make_ready)
        snapshot.path().unlink()
        visit(tmp_path, nothing)
        assert snapshot.read() is not None

    def test_of_another_warehouse_replaces_the_snapshot(self, tmp_path):
        visit(tmp_path, warehouse.make_ready)
        visit(tmp_path, nothing, place=replace(HERE, place="/elsewhere"))
        assert snapshot.read().at.place == "/elsewhere"

    def test_counts_only_the_rows_that_this_run_has_loaded_in_it(self, tmp_path, write_trips):
        january, february = (write_trips("green", month, rows=60) for month in ("2023-01", "2023-02"))
        visit(tmp_path, lambda con: load_month(con, "green", Month("2023-01"), january, "run1"))
        use = visit(tmp_path, lambda con: load_month(con, "green", Month("2023-02"), february, "another"))
        assert use.rows is None
        use = visit(tmp_path, lambda con: con.execute("DELETE FROM zones WHERE zone_id = 1; CREATE TABLE t (i INT)"))
        assert (use.wrote, use.rows) == (True, None)

    def test_that_is_not_described_leaves_nothing(self, tmp_path):
        assert visit(tmp_path, warehouse.make_ready, user=None) is None
        assert not snapshot.status_dir().exists()

    @pytest.mark.parametrize("part", ["snapshot.write", "snapshot.read", "uses.record"])
    def test_never_fails_the_task_whatever_goes_wrong(self, tmp_path, monkeypatch, part, logged):
        def broken(*_):
            raise duckdb.IOException("the disk is gone")

        module, name = part.split(".")
        monkeypatch.setattr({"snapshot": snapshot, "uses": uses}[module], name, broken)
        done = []
        visit(tmp_path, lambda con: (warehouse.make_ready(con), done.append(True))) if part != "uses.record" else None
        this = Visit(lambda _: (USER, HERE), tmp_path / "visited.duckdb")
        with this.recorded(), duckdb.connect(str(tmp_path / "visited.duckdb")) as con:
            this.begin(con)
            this.end(con)
        assert "the disk is gone" in logged() or part == "snapshot.write"

    def test_survives_a_data_directory_that_cannot_be_written(self, tmp_path, data_dir, logged):
        data_dir.mkdir()
        (data_dir / "status").write_text("a file where the folder should be")
        visit_done = visit(tmp_path, warehouse.make_ready)
        assert visit_done is None
        assert "is not recorded" in logged()

    def test_does_not_hide_the_error_of_the_task(self, tmp_path):
        with pytest.raises(ZeroDivisionError):
            visit(tmp_path, lambda _: 1 / 0)
        assert len(uses.warehouse_uses()) == 1
