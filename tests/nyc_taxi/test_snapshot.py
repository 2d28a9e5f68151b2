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
from include.nyc_taxi.warehouse import checkpoints, registry
from include.nyc_taxi.warehouse.compact import compact
from include.nyc_taxi.web import contents, snapshot, uses
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


def take(con, at=HERE):
    """Write a snapshot and read it, as a task and the page do."""
    contents.write(con, at)
    return snapshot.read()


class TestContents:
    def test_has_what_the_warehouse_says_about_each_loaded_month(self, con, load, tmp_path):
        load("2023-01", "january", rows=50)
        load("2023-02", "february", rows=60, columns={"new_column": "'x'"})
        aggregate_month(con, "green", Month("2023-01"), tmp_path / "outputs")
        aggregate_week(con, "green", monday_of("2023-01-02"), tmp_path / "outputs")
        taken = take(con)
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
        tops = take(con).months["green"]["2023-01"].top_zones
        assert tops == tuple((zone, 1000 - zone) for zone in range(1, 11))

    def test_keeps_the_detail_of_what_is_broken_only(self, con, load):
        load("2023-01", columns={"trip_distance": "-1.0"})
        checks = take(con).months["green"]["2023-01"].checks
        recorded = con.execute("SELECT rule, at_most, value, passed, detail FROM quality_checks").fetchall()
        assert sorted((x.rule, x.limit, x.value, x.passed, x.detail) for x in checks) == sorted(
            (rule, limit, value, passed, None if passed else detail) for rule, limit, value, passed, detail in recorded
        )
        assert take(con).months["green"]["2023-01"].warnings == sum(not row[3] for row in recorded) > 0

    def test_has_a_refusal_beside_the_month_that_stays_loaded(self, con, load):
        load("2023-01", "good", rows=400)
        with pytest.raises(QualityError):
            load("2023-01", "bad", rows=400, columns={"lpep_pickup_datetime": "TIMESTAMP '2019-05-05'"})
        taken = take(con)
        assert taken.months["green"]["2023-01"].run_id == "good"
        refusal = taken.refusals["green"]["2023-01"]
        assert refusal.run_id == "bad"
        assert any(not check.passed and check.severity == "error" for check in refusal.checks)

    def test_of_an_empty_database_is_empty(self):
        with duckdb.connect() as empty:
            taken = take(empty)
        assert (taken.months, taken.refusals, taken.weeks, taken.zones) == ({}, {}, {}, {})

    def test_never_contains_a_login_that_an_older_version_has_recorded(self, con, load):
        load("2023-01")
        con.execute("UPDATE loads SET source_url = 'https://user:hunter2@tlc.test/x.parquet'")
        contents.write(con, HERE)
        assert all("hunter2" not in file.read_text() for file in snapshot.status_dir().glob("*.json"))
        assert snapshot.read().months["green"]["2023-01"].source_url == "https://tlc.test/x.parquet"


def as_if_new(con):
    """What a snapshot of the whole warehouse would contain, in the order in which pages do not care."""
    kept = {file: file.read_bytes() for file in snapshot.status_dir().glob("*.json")}
    snapshot.path().unlink()
    contents.write(con, HERE)
    made = snapshot._Reader().read()[0]
    for file, content in kept.items():
        file.write_bytes(content)
    return comparable(made)


def comparable(taken):
    months = {
        fleet: {month: replace(load, checks=tuple(sorted(load.checks, key=str))) for month, load in loads.items()}
        for fleet, loads in taken.months.items()
    }
    refusals = {
        fleet: {month: replace(each, checks=tuple(sorted(each.checks, key=str))) for month, each in found.items()}
        for fleet, found in taken.refusals.items()
    }
    return replace(taken, written_at="", months=months, refusals=refusals)


def put_into(con, month="2023-01", fleet="green", loaded_at="2023-04-01", run_id="r", zones=3, rule="a_rule"):
    """Replace a month as a load does: one transaction."""

    def replace_month():
        for table in ("loads", "quality_checks", "trips_by_zone"):
            con.execute(f"DELETE FROM {table} WHERE fleet = ? AND partition_month = ?", [fleet, f"{month}-01"])
        con.execute(
            "INSERT INTO loads (fleet, partition_month, source_url, bytes, rows_in_file, rows_loaded, quality, "
            "loaded_at, run_id) VALUES (?, ?, 'https://tlc.test/x', 9, 9, 9, '{}', ?, ?)",
            [fleet, f"{month}-01", loaded_at, run_id],
        )
        con.execute(
            "INSERT INTO quality_checks VALUES (?, ?, ?, 'warn', 0.5, 0.1, true, 'fine', true, ?, ?)",
            [fleet, f"{month}-01", rule, loaded_at, run_id],
        )
        con.execute(
            "INSERT INTO trips_by_zone SELECT ?, ?, z, z FROM range(1, ?) AS r(z)", [fleet, f"{month}-01", zones]
        )

    warehouse.write(con, replace_month)


class TestChanges:
    """Only what has changed is read, and the result is the same as if everything had been."""

    def test_only_the_months_that_have_changed_are_read(self, con):
        for month in ("2023-01", "2023-02", "2023-03"):
            put_into(con, month)
        assert set(contents.write(con, HERE)) == {("green", month) for month in ("2023-01", "2023-02", "2023-03")}
        put_into(con, "2023-02", loaded_at="2023-05-01")
        put_into(con, "2023-02", fleet="yellow")
        assert set(contents.write(con, HERE)) == {("green", "2023-02"), ("yellow", "2023-02")}
        assert comparable(snapshot.read()) == as_if_new(con)

    def test_a_snapshot_that_is_up_to_date_is_not_touched(self, con):
        put_into(con)
        contents.write(con, HERE)
        before = snapshot.path().stat()
        assert contents.write(con, HERE) == {}
        after = snapshot.path().stat()  # it was read, which may change the time of its last access
        assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)

    def test_the_part_of_a_fleet_that_has_not_changed_is_neither_read_nor_written(self, con, monkeypatch):
        for fleet in ("green", "yellow", "fhv"):
            put_into(con, fleet=fleet)
        contents.write(con, HERE)
        before = {fleet: snapshot.facts(snapshot.part_path(fleet)) for fleet in ("green", "yellow", "fhv")}
        opened, stored_part = [], contents.stored_part
        monkeypatch.setattr(contents, "stored_part", lambda fleet: opened.append(fleet) or stored_part(fleet))
        put_into(con, "2023-02", fleet="yellow")
        assert set(contents.write(con, HERE)) == {("yellow", "2023-02")}
        assert opened == ["yellow"]
        after = {fleet: snapshot.facts(snapshot.part_path(fleet)) for fleet in before}
        assert [fleet for fleet in before if after[fleet] != before[fleet]] == ["yellow"]
        assert comparable(snapshot.read()) == as_if_new(con)

    def test_a_reader_opens_only_the_parts_that_have_changed(self, con, monkeypatch):
        for fleet in ("green", "yellow", "fhv"):
            put_into(con, fleet=fleet)
        contents.write(con, HERE)
        snapshot.read()
        put_into(con, "2023-02", fleet="yellow")
        contents.write(con, HERE)
        opened, stored_part = [], snapshot.stored_part
        monkeypatch.setattr(snapshot, "stored_part", lambda fleet: opened.append(fleet) or stored_part(fleet))
        assert list(snapshot.read().months["yellow"]) == ["2023-01", "2023-02"]
        assert opened == ["yellow"]

    def test_a_part_with_other_facts_and_the_same_content_is_not_made_anew(self, con):
        """As another machine may see it for some seconds, or after a copy."""
        for fleet in ("green", "yellow"):
            put_into(con, fleet=fleet)
        contents.write(con, HERE)
        snapshot.part_path("green").touch()
        put_into(con, "2023-02", fleet="yellow")
        assert set(contents.write(con, HERE)) == {("yellow", "2023-02")}

    def test_a_fleet_that_is_gone_leaves_no_part(self, con):
        for fleet in ("green", "yellow"):
            put_into(con, fleet=fleet)
        contents.write(con, HERE)
        for table in ("loads", "quality_checks", "trips_by_zone"):
            con.execute(f"DELETE FROM {table} WHERE fleet = 'green'")
        contents.write(con, HERE)
        assert snapshot.read().months.keys() == {"yellow"}
        assert not snapshot.part_path("green").exists()

    def test_a_writer_that_was_killed_before_the_head_leaves_a_snapshot_that_the_next_one_completes(
        self, con, monkeypatch
    ):
        put_into(con)
        contents.write(con, HERE)
        put_into(con, "2023-02")
        replacing = contents.replacing

        def killed(target):
            if target == snapshot.path():
                raise InterruptedError
            return replacing(target)

        monkeypatch.setattr(contents, "replacing", killed)
        with pytest.raises(InterruptedError):
            contents.write(con, HERE)
        assert list(snapshot.read().months["green"]) == ["2023-01", "2023-02"]
        monkeypatch.setattr(contents, "replacing", replacing)
        contents.write(con, HERE)
        assert comparable(snapshot.read()) == as_if_new(con)

    def test_other_settings_are_written_although_no_month_has_changed(self, con):
        put_into(con)
        contents.write(con, HERE)
        other = replace(HERE, settings=(snapshot.Setting("threads", "4", "the connection"),))
        assert contents.write(con, other) == {}
        assert snapshot.read().at == other

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE quality_checks SET passed = false, detail = 'bad' WHERE partition_month = '2023-02-01'",
            "UPDATE trips_by_zone SET num_trips = 77 WHERE zone_id = 2 AND partition_month = '2023-02-01'",
            "UPDATE quality_checks SET published = false WHERE partition_month = '2023-02-01'",
            "DELETE FROM loads WHERE partition_month = '2023-02-01'",
            "DELETE FROM quality_checks",
            "UPDATE zones SET zone = 'Elsewhere' WHERE zone_id = 1",
            "INSERT INTO trips_by_week (fleet, period, num_trips) VALUES ('green', '2023-01-09', 5)",
            "UPDATE trips_by_week SET num_trips = 6 WHERE period = '2023-01-02'",
            "DELETE FROM trips_by_week",
            "ALTER TABLE loads ADD COLUMN note VARCHAR",
            "DROP TABLE trips_by_week",
            "SELECT 1",
        ],
    )
    def test_any_change_by_anybody_is_seen(self, con, change):
        con.execute("INSERT INTO zones VALUES (1, 'Zone 1', 'Queens', 'Yellow Zone', NULL)")
        con.execute("INSERT INTO trips_by_week (fleet, period, num_trips) VALUES ('green', '2023-01-02', 5)")
        for month in ("2023-01", "2023-02", "2023-03"):
            put_into(con, month)
        contents.write(con, HERE)
        con.execute(change)
        contents.write(con, HERE)
        assert comparable(snapshot.read()) == as_if_new(con)

    def test_a_rule_that_is_new_does_not_change_what_older_months_say(self, con):
        put_into(con, "2023-01", rule="an_old_rule")
        contents.write(con, HERE)
        assert snapshot.read().months["green"]["2023-01"].checks[0].rule == "an_old_rule"
        put_into(con, "2023-02", rule="a_new_rule")
        contents.write(con, HERE)
        rules = {month: load.checks[0].rule for month, load in snapshot.read().months["green"].items()}
        assert rules == {"2023-01": "an_old_rule", "2023-02": "a_new_rule"}

    def test_a_reader_parses_only_the_months_that_have_changed(self, con, monkeypatch):
        parsed, parse = [], snapshot._month
        monkeypatch.setattr(snapshot, "_month", lambda text, rules: parsed.append(text) or parse(text, rules))
        for month in ("2023-01", "2023-02", "2023-03"):
            put_into(con, month, run_id=month)
            contents.write(con, HERE)
            snapshot.read()
        assert len(parsed) == 3

    @pytest.mark.parametrize("damage", ["missing", "cut", "one digit", "older version", "no JSON", "empty"])
    @pytest.mark.parametrize("which", ["head", "part"])
    def test_what_cannot_be_used_is_made_anew(self, con, which, damage):
        for month in ("2023-01", "2023-02"):
            put_into(con, month)
        contents.write(con, HERE)
        file = snapshot.path() if which == "head" else snapshot.part_path("green")
        good = file.read_text()
        damaged = {
            "cut": good[: len(good) // 2],
            "one digit": good.replace('"duckdb":"1' if which == "head" else '"rows":9', '"duckdb":"2', 1),
            "older version": '{"version":1,"written_at":"2023-01-01","months":{}}',
            "no JSON": "\x00\xff",
            "empty": "",
        }
        file.unlink() if damage == "missing" else file.write_text(damaged[damage])
        assert snapshot.read() is None
        assert "make status" in snapshot.problem()
        assert len(contents.write(con, HERE)) == 2
        assert comparable(snapshot.read()) == as_if_new(con)
        assert snapshot.problem() is None


class TestChangesOfAFile:
    def test_nothing_is_read_of_a_file_that_nobody_has_written_to(self, tmp_path, monkeypatch):
        takes, take_anew = [], contents.take
        monkeypatch.setattr(contents, "take", lambda *given: takes.append(given) or take_anew(*given))

        def write(*months, kill=False):
            with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
                for month in months:
                    put_into(con, month)
                return {} if kill else contents.write(con, HERE)

        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
            warehouse.ensure_tables(con)
        assert (len(write("2023-01")), len(takes)) == (1, 1)
        assert (write(), write(), len(takes)) == ({}, {}, 1)
        write("2023-02", kill=True)
        assert (set(write()), len(takes)) == ({("green", "2023-02")}, 2)
        assert (write(), len(takes)) == ({}, 2)

    def test_the_log_of_a_large_file_stays_and_nothing_is_read_of_it_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoints, "LARGE_FILE_BYTES", 0)
        takes, take_anew = [], contents.take
        monkeypatch.setattr(contents, "take", lambda *given: takes.append(given) or take_anew(*given))
        path = tmp_path / "warehouse.duckdb"
        with duckdb.connect(str(path)) as con:
            warehouse.ensure_tables(con)
        for month in (None, "2023-01", None, "2023-02", None):
            with duckdb.connect(str(path)) as con:
                con.execute("PRAGMA disable_checkpoint_on_shutdown")  # as the hook opens a large file
                if month:
                    put_into(con, month)
                assert set(contents.write(con, HERE)) == ({("green", month)} if month else set())
        assert path.with_name("warehouse.duckdb.wal").stat().st_size > 0
        assert len(takes) == 3

    def test_another_file_at_the_same_path_has_its_own_months(self, tmp_path):
        for month in ("2023-01", "2023-02"):
            with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
                warehouse.ensure_tables(con)
                put_into(con, month)
                contents.write(con, HERE)
            (tmp_path / "warehouse.duckdb").unlink()
        assert list(snapshot.read().months["green"]) == ["2023-02"]

    def test_a_compacted_file_has_nothing_new(self, tmp_path):
        path = tmp_path / "warehouse.duckdb"
        with duckdb.connect(str(path)) as con:
            warehouse.ensure_tables(con)
            put_into(con)
            contents.write(con, HERE)
        compact(lambda: duckdb.connect(str(path), read_only=True), path)
        with duckdb.connect(str(path)) as con:
            assert contents.write(con, HERE) == {}

    def test_the_rows_of_a_month_are_read_however_its_tables_were_made(self, con):
        """An older version had no `changes`, `unknown_columns` and `simulated`."""
        put_into(con)
        for view in registry.views()[::-1]:
            con.execute(f"DROP VIEW {view.name}")
        for column in ("changes", "unknown_columns", "simulated"):
            con.execute(f"ALTER TABLE loads DROP COLUMN {column}")
        assert take(con).months["green"]["2023-01"].simulated is None


class TestFile:
    def test_is_read_as_it_was_taken(self, con, load, tmp_path):
        load("2023-01", columns={"trip_distance": "-1.0"})
        load("2023-01", "again", rows=70)
        aggregate_month(con, "green", Month("2023-01"), tmp_path / "outputs")
        with pytest.raises(QualityError):
            load("2023-01", "bad", rows=400, columns={"lpep_pickup_datetime": "TIMESTAMP '2019-05-05'"})
        written = contents.write(con, HERE)
        read = snapshot.read()
        assert read.months["green"] == {"2023-01": written["green", "2023-01"]}
        assert read.months["green"]["2023-01"].changes["rows"] == [60, 70]
        assert read.refusals["green"]["2023-01"].run_id == "bad"
        assert json.loads(snapshot.path().read_text())["fleets"].keys() == {"green"}
        assert json.loads(snapshot.part_path("green").read_text())["months"].keys() == {"2023-01"}

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
        take, calls = contents.take, []

        def slow_first_take(*arguments):
            calls.append(arguments)
            taken = take(*arguments)
            if len(calls) == 1:
                has_read.set()
                assert may_go_on.wait(30)
            return taken

        monkeypatch.setattr(contents, "take", slow_first_take)
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(contents.write, con.cursor(), HERE)
            assert has_read.wait(30)
            load("2023-02")
            quick = pool.submit(contents.write, con.cursor(), HERE)
            may_go_on.set()
            slow.result(30)
            quick.result(30)
        assert list(snapshot.read().months["green"]) == ["2023-01", "2023-02"]

    def test_a_writer_that_gets_no_turn_gives_up_and_keeps_the_old_one(self, con, monkeypatch):
        contents.write(con, HERE)
        before = snapshot.path().read_bytes()
        put_into(con)
        monkeypatch.setattr(contents, "TURN_SECONDS", 0.05)
        with locked(snapshot.path().with_suffix(".lock")), pytest.raises(TimeoutError, match=r"warehouse\.lock"):
            contents.write(con, HERE)
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

    def test_mends_what_a_killed_visit_has_left(self, tmp_path):
        """It only reads. The one before has committed, and was killed before it could write the snapshot."""
        visit(tmp_path, lambda con: (warehouse.make_ready(con), put_into(con, "2023-01")))
        with duckdb.connect(str(tmp_path / "visited.duckdb")) as con:
            put_into(con, "2023-02", run_id="killed")
        use = visit(tmp_path, lambda con: con.execute("SELECT count(*) FROM loads").fetchall())
        assert list(snapshot.read().months["green"]) == ["2023-01", "2023-02"]
        assert (use.wrote, use.rows) == (False, None)

    def test_counts_no_rows_of_another_try_of_its_run(self, tmp_path):
        visit(tmp_path, lambda con: (warehouse.make_ready(con), put_into(con, "2023-01", run_id=USER.run_id)))
        snapshot.path().unlink()
        use = visit(tmp_path, lambda con: con.execute("CREATE TABLE t (i INT)"))
        assert (use.wrote, use.rows) == (True, None)

    def test_that_is_not_described_leaves_nothing(self, tmp_path):
        assert visit(tmp_path, warehouse.make_ready, user=None) is None
        assert not snapshot.status_dir().exists()

    @pytest.mark.parametrize("part", ["contents.write", "contents.take", "uses.record"])
    def test_never_fails_the_task_whatever_goes_wrong(self, tmp_path, monkeypatch, part, logged):
        def broken(*_):
            raise duckdb.IOException("the disk is gone")

        module, name = part.split(".")
        monkeypatch.setattr({"contents": contents, "uses": uses}[module], name, broken)
        done = []
        visit(tmp_path, lambda con: (warehouse.make_ready(con), done.append(True))) if part != "uses.record" else None
        this = Visit(lambda _: (USER, HERE), tmp_path / "visited.duckdb")
        with this.recorded(), duckdb.connect(str(tmp_path / "visited.duckdb")) as con:
            this.begin(con)
            this.end(con)
        assert "the disk is gone" in logged()

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
