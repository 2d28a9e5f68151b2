"""Request files: each version is claimed once, whatever happens in between."""

import errno
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from include.nyc_taxi.reports import request_inbox

GIVEN = {"fleet": "yellow", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31"}
RUN_ID = re.compile(r"[A-Za-z0-9_.~:+-]{1,250}")  # what Airflow takes, on both lines


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "requests"


@pytest.fixture
def put(folder):
    """Write a request file that has been quiet for a while; text as it is, all else as JSON."""

    def write(name, given=GIVEN, age=60.0):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = (
            given if isinstance(given, bytes) else (given if isinstance(given, str) else json.dumps(given)).encode()
        )
        path.write_bytes(content)
        os.utime(path, (time.time() - age,) * 2)
        return path

    return write


@pytest.fixture
def poll(folder):
    """Poll the folder and settle what was found, as a run of the sensor does that nothing disturbs."""

    def once(name="poll"):
        found = request_inbox.claim(folder)
        for claim in found:
            request_inbox.settle(folder, claim.run_id, name)
        return found

    return once


@pytest.fixture
def report(folder):
    """Report what is malformed; returns the problems."""

    def once(name="poll"):
        request_inbox.claim(folder)
        found = request_inbox.malformed(folder)
        return [claim.problem for claim in found if request_inbox.settle(folder, claim.run_id, name) == name]

    return once


def files(found):
    return [claim.file for claim in found]


class TestAFile:
    def test_is_claimed_with_its_request_and_a_name_that_airflow_takes(self, put, poll):
        put("queens.json")
        (claim,) = poll()
        assert claim.request == GIVEN | {"name": "queens"}
        assert claim.problem is None
        assert claim.run_id.startswith("file__queens__1__")
        assert RUN_ID.fullmatch(claim.run_id)

    def test_that_has_not_changed_is_not_claimed_again(self, put, poll):
        put("a.json")
        assert files(poll()) == ["a.json"]
        assert poll() == []

    def test_that_was_only_touched_is_not_claimed_again(self, put, poll):
        path = put("a.json")
        poll()
        os.utime(path, (1, 1))
        assert poll() == []
        put("a.json")
        assert poll() == []

    def test_that_changes_is_claimed_again_also_back_to_what_it_was(self, put, poll):
        first, second = GIVEN, GIVEN | {"borough": "Bronx"}
        found = []
        for given in (first, second, first):
            put("a.json", given)
            found += poll()
        assert [claim.request["borough"] for claim in found] == ["Queens", "Bronx", "Queens"]
        assert len({claim.run_id for claim in found}) == 3
        assert len({claim.logical_date for claim in found}) == 3

    def test_that_changes_between_two_settled_polls_keeps_both_versions(self, put, folder):
        put("a.json")
        request_inbox.claim(folder)
        put("a.json", GIVEN | {"borough": "Bronx"})
        assert [claim.request["borough"] for claim in request_inbox.claim(folder)] == ["Queens", "Bronx"]

    def test_that_went_away_and_is_back_is_claimed_again(self, put, poll):
        put("a.json").unlink()
        put("a.json")
        first = poll()
        put("a.json").unlink()
        assert poll() == []
        put("a.json")
        (again,) = poll()
        assert again.run_id != first[0].run_id

    def test_that_has_just_been_written_is_taken_at_once_when_it_stays_as_it_is(self, put, poll, monkeypatch):
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            put("a.json", age=request_inbox.QUIET_SECONDS)

        put("a.json", age=0)
        monkeypatch.setattr(request_inbox.time, "sleep", sleep)
        assert files(poll()) == ["a.json"]
        assert 0 < waited[0] <= request_inbox.QUIET_SECONDS

    def test_that_is_still_being_written_waits_for_the_next_poll(self, put, poll, monkeypatch):
        put("a.json", '{"fleet": "yel', age=0)
        with monkeypatch.context() as writing:
            writing.setattr(
                request_inbox.time, "sleep", lambda seconds: put("a.json", '{"fleet": "yellow", "bor', age=0)
            )
            assert poll() == []
        put("a.json")
        assert files(poll()) == ["a.json"]

    def test_being_written_does_not_count_as_gone(self, put, poll, monkeypatch):
        put("a.json")
        poll()
        put("a.json", age=0)
        with monkeypatch.context() as writing:
            writing.setattr(request_inbox.time, "sleep", lambda seconds: None)
            assert poll() == []
        put("a.json")
        assert poll() == []

    def test_that_is_old_is_not_waited_for(self, put, poll, monkeypatch):
        put("a.json")
        monkeypatch.setattr(
            request_inbox.time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s") if seconds else None
        )
        assert files(poll()) == ["a.json"]

    def test_with_a_date_far_in_the_future_is_not_left_for_ever(self, put, poll):
        put("a.json", age=-3600)
        assert files(poll()) == ["a.json"]

    def test_may_begin_with_a_byte_order_mark_and_end_in_capitals(self, put, poll):
        put("a.JSON", b"\xef\xbb\xbf" + json.dumps(GIVEN).encode())
        assert files(poll()) == ["a.JSON"]

    @pytest.mark.parametrize("name", [".hidden.json", "a.json.tmp", "a.txt", "folder/a.json", ".json"])
    def test_of_another_kind_is_left_alone(self, put, poll, report, name):
        put(name)
        assert poll() == []
        assert report() == []

    def test_that_is_a_folder_or_a_fifo_is_left_alone(self, folder, poll, report):
        (folder / "folder.json").mkdir(parents=True)
        os.mkfifo(folder / "fifo.json")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / "s.json"))
            assert poll() == []
            assert report() == []

    def test_of_any_name_gets_a_run_id_of_its_own(self, put, poll):
        names = ["a b.json", "a+b.json", "é.json", "ß" * 100 + ".json", "{{ ds }}.json", "'; --.json", "a\nb.json"]
        for name in names:
            put(name, GIVEN | {"name": "n"})
        put(os.fsdecode(b"\xff\xfe.json"), GIVEN | {"name": "n"})
        found = poll()
        assert len({claim.run_id for claim in found}) == len(names) + 1
        assert all(RUN_ID.fullmatch(claim.run_id) for claim in found)
        assert json.dumps([claim.file for claim in found]).encode()
        assert poll() == []


class TestAMalformedFile:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("", "the file is not JSON"),
            ('{"fleet": "yellow",', "the file is not JSON: .*line 1 column 20"),
            (b"\xff\xfe{}", "expected UTF-8, found an invalid byte at 0"),
            ("[" * 60_000, "too deeply"),
            ("9" * 5_000, "the file is not JSON"),
            ("[]", "expected an object with fleet, borough"),
            ("null", "expected an object"),
            ('{"fleet": "yellow", "fleet": "green"}', "a key occurs twice"),
            (" " * (request_inbox.MAX_BYTES + 1), "longer than 65,536 bytes"),
            (GIVEN | {"borough": "'; drop table zones; --"}, "expected one of Manhattan"),
            (GIVEN | {"name": "../x"}, r"name '\.\./x'"),
            (GIVEN | {"name": "\ud800"}, "name"),
            ({"fleet": "red", "start_date": "soon"}, "fleet 'red'.*start_date 'soon'"),
        ],
    )
    def test_is_reported_once_with_what_is_wrong_on_one_line(self, put, poll, report, content, says):
        put("bad.json", content)
        put("good.json")
        assert files(poll()) == ["good.json"]
        (problem,) = report()
        assert re.search(says, problem)
        assert "\n" not in problem
        assert len(problem) < 1000
        assert report("next poll") == []

    def test_whose_name_is_no_name_for_a_report_says_so(self, put, report):
        put("my request.json")
        assert "name 'my request': expected 1 to 64 letters" in report()[0]

    def test_starts_its_run_once_it_is_mended(self, put, poll, report):
        put("a.json", "{")
        assert (poll(), len(report())) == ([], 1)
        put("a.json")
        assert (files(poll()), report()) == (["a.json"], [])

    def test_is_reported_again_once_it_is_malformed_in_another_way(self, put, report):
        put("a.json", "{")
        assert len(report()) == 1
        put("a.json", "[")
        assert len(report()) == 1

    def test_as_large_as_a_disk_is_not_read_whole(self, put, report):
        path = put("a.json")
        os.truncate(path, 1 << 40)
        os.utime(path, (1, 1))
        assert "longer than" in report()[0]
        assert report() == []

    def test_that_is_a_link_is_reported_and_never_read(self, put, poll, report, folder, tmp_path):
        put("good.json")
        (tmp_path / "secret").write_text(json.dumps(GIVEN))
        (folder / "link.json").symlink_to(tmp_path / "secret")
        (folder / "dangling.json").symlink_to(tmp_path / "nowhere")
        assert files(poll()) == ["good.json"]
        assert report() == ["it is a link: put the file itself into the folder"] * 2
        assert report() == []

    def test_that_may_not_be_read_is_reported_once_and_then_claimed(self, put, poll, report, monkeypatch):
        open_file = os.open

        def refusing(path, *arguments):  # root, as which these tests may run, can read any file
            if stat.S_IMODE(os.lstat(path).st_mode) == 0:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return open_file(path, *arguments)

        monkeypatch.setattr(os, "open", refusing)
        path = put("a.json")
        path.chmod(0)
        assert (poll(), len(report()), report()) == ([], 1, [])
        path.chmod(0o600)
        assert files(poll()) == ["a.json"]
        path.chmod(0)
        assert len(report()) == 1
        path.chmod(0o600)
        assert poll() == []  # it is what it was

    def test_that_cannot_be_read_for_a_moment_is_neither_reported_nor_gone(self, put, poll, report, monkeypatch):
        put("a.json")
        poll()

        def failing(path, *arguments):
            raise OSError(errno.EIO, "Input/output error", str(path))

        with monkeypatch.context() as broken:
            broken.setattr(os, "open", failing)
            assert (poll(), report()) == ([], [])
        assert poll() == []

    def test_reported_by_one_poll_is_not_reported_by_another_but_by_a_retry_of_the_one(self, put, folder):
        put("a.json", "{")
        request_inbox.claim(folder)
        (claim,) = request_inbox.malformed(folder)
        assert request_inbox.settle(folder, claim.run_id, "one") == "one"
        assert request_inbox.settle(folder, claim.run_id, "other") == "one"
        assert request_inbox.settle(folder, claim.run_id, "one") == "one"


class TestAPoll:
    def test_makes_the_folder(self, folder, poll):
        assert poll() == []
        assert folder.is_dir()

    def test_that_was_not_settled_hands_out_the_same_claims_again(self, put, folder, poll):
        put("a.json")
        put("b.json")
        before = request_inbox.claim(folder)
        assert request_inbox.claim(folder) == before
        request_inbox.settle(folder, before[0].run_id, "poll")
        assert poll() == before[1:]
        assert poll() == []

    def test_hands_out_a_limited_number_oldest_first_and_the_rest_later(self, put, folder, poll):
        for number in range(5):
            put(f"{number}.json")
        found = [request_inbox.claim(folder, limit=2) for _ in range(2)]
        assert [files(claimed) for claimed in found] == [["0.json", "1.json"]] * 2
        for claim in found[0]:
            request_inbox.settle(folder, claim.run_id, "poll")
        put("0.json", GIVEN | {"borough": "Bronx"})
        assert files(request_inbox.claim(folder, limit=2)) == ["2.json", "3.json"]
        assert files(poll()) == ["2.json", "3.json", "4.json", "0.json"]

    def test_finds_the_same_run_ids_when_the_ledger_is_lost(self, put, folder):
        put("a.json")
        before = request_inbox.claim(folder)
        (folder / request_inbox.LEDGER).unlink()
        assert [claim.run_id for claim in request_inbox.claim(folder)] == [claim.run_id for claim in before]

    def test_that_fails_leaves_the_ledger_as_it_was(self, put, folder, poll, monkeypatch):
        put("a.json")
        poll()
        put("b.json")
        put("c.json")
        make_claim = request_inbox._make_claim

        def failing(ledger, file, *arguments):
            if file == "c.json":
                raise OSError("no space left on device")
            make_claim(ledger, file, *arguments)

        monkeypatch.setattr(request_inbox, "_make_claim", failing)
        with pytest.raises(OSError, match="no space"):
            request_inbox.claim(folder)
        monkeypatch.undo()
        assert files(poll()) == ["b.json", "c.json"]

    def test_at_the_same_moment_gives_each_claim_a_date_of_its_own(self, put, poll, monkeypatch):
        class Stopped(request_inbox.datetime):
            @classmethod
            def now(cls, zone):
                return request_inbox.datetime(2026, 1, 1, tzinfo=zone)

        for number in range(20):
            put(f"{number}.json")
        monkeypatch.setattr(request_inbox, "datetime", Stopped)
        assert len({claim.logical_date for claim in poll()}) == 20

    @pytest.mark.parametrize("damage", ["no database", "a page in the middle", "cut short"])
    def test_says_how_to_go_on_when_the_ledger_is_damaged(self, put, folder, poll, damage):
        for number in range(60):
            put(f"{number}.json")
        first = {claim.run_id for claim in poll()}
        ledger = folder / request_inbox.LEDGER
        whole = ledger.read_bytes()
        assert len(whole) > 5 * 4096
        ledger.write_bytes(
            {
                "no database": b"x" * len(whole),
                "a page in the middle": whole[:4096] + b"\xff" * (len(whole) - 4096),
                "cut short": whole[:6000],
            }[damage]
        )
        damaged = ledger.read_bytes()
        for what in (
            poll,
            lambda: request_inbox.malformed(folder),
            lambda: request_inbox.settle(folder, min(first), "poll"),
        ):
            with pytest.raises(request_inbox.LedgerError) as error:
                what()
            assert str(ledger) in str(error.value)
            assert f"move ledger.sqlite and what begins with that name out of {ledger.parent}" in str(error.value)
        assert ledger.read_bytes() == damaged, "what is left of it is for somebody to look at"

        for file in ledger.parent.glob("ledger.sqlite*"):
            file.unlink()
        assert {claim.run_id for claim in poll()} == first, "Airflow has these runs: they are not started again"

    def test_says_when_the_ledger_cannot_be_had(self, put, folder, poll, monkeypatch):
        put("a.json")
        poll()
        monkeypatch.setattr(request_inbox, "LOCK_TIMEOUT_SECONDS", 0.1)
        with sqlite3.connect(folder / request_inbox.LEDGER, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                poll()
        other.close()


POLLING = """
import pathlib, sys
from include.nyc_taxi.reports import request_inbox as claims
folder, poll = pathlib.Path(sys.argv[1]), sys.argv[2]
for _ in range(30):
    for claim in claims.claim(folder, limit=7):
        print(claim.run_id, claim.logical_date.isoformat())
        claims.settle(folder, claim.run_id, poll)
"""


def test_polls_of_several_processes_give_each_version_one_name_and_one_date(put, folder, start_python):
    for number in range(40):
        put(f"{number}.json")
    polling = [start_python(POLLING, folder, f"poll {number}") for number in range(4)]
    for _ in range(20):  # the files change while they are read
        for number in range(10):
            other = folder / f".{number}.json.new"
            other.write_text(json.dumps(GIVEN | {"end_date": f"2023-02-{time.monotonic_ns() % 28 + 1:02}"}))
            os.utime(other, (1, 1))
            other.replace(folder / f"{number}.json")
        time.sleep(0.02)
    lines = [process.communicate(timeout=120)[0].splitlines() for process in polling]
    assert {process.returncode for process in polling} == {0}

    request_inbox.claim(folder)
    with sqlite3.connect(folder / request_inbox.LEDGER) as ledger:
        versions = dict(ledger.execute("SELECT file, version FROM files"))
        rows = ledger.execute("SELECT run_id, logical_date FROM claims").fetchall()
    ledger.close()
    assert set(versions) == {f"{number}.json" for number in range(40)}
    assert len(rows) == sum(versions.values())
    # What two processes were handed is the same, so that it starts one run.
    handed_out = {line.split()[0] for found in lines for line in found}
    assert handed_out <= {run_id for run_id, _ in rows}
    assert len({line for found in lines for line in found}) == len(handed_out)
    assert {f"file__{number}__1__" for number in range(40)} <= {run_id[:-12] for run_id in handed_out}


@pytest.mark.parametrize("_", range(3))
def test_a_poll_that_is_killed_loses_nothing_and_doubles_nothing(put, folder, start_python, _):
    for number in range(50):
        put(f"{number}.json")
    process = start_python(
        "import pathlib, sys\n"
        "from include.nyc_taxi.reports import request_inbox as claims\n"
        "make_claim, made = claims._make_claim, []\n"
        "def slow(ledger, *arguments):\n"
        "    make_claim(ledger, *arguments)\n"
        "    made.append(arguments)\n"
        "    if len(made) == 25:\n"
        "        print('half way', flush=True)\n"
        "        sys.stdin.read()\n"
        "claims._make_claim = slow\n"
        "claims.claim(pathlib.Path(sys.argv[1]))\n",
        folder,
    )
    assert process.stdout.readline() == "half way\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = request_inbox.claim(folder)
    assert sorted(files(before)) == sorted(f"{number}.json" for number in range(50))
    assert request_inbox.claim(folder) == before


def test_a_poll_killed_before_it_settled_is_taken_up_with_the_same_run_ids(put, folder, start_python):
    put("a.json")
    process = start_python(
        "import pathlib, sys\n"
        "from include.nyc_taxi.reports import request_inbox as claims\n"
        "print(claims.claim(pathlib.Path(sys.argv[1]))[0].run_id, flush=True)\n"
        "sys.stdin.read()\n",
        folder,
    )
    run_id = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [claim.run_id for claim in request_inbox.claim(folder)] == [run_id]


def test_the_ledger_lies_beside_the_files_and_is_no_request_itself(put, poll, folder):
    put("a.json")
    poll()
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == [
        Path(".claims"),
        request_inbox.LEDGER,
        Path("a.json"),
    ]
