"""Downloads over real HTTP, with all kinds of faults."""

import dataclasses
import json
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import duckdb
import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import DownloadError, LayoutError, NotPublishedError, RefusedError
from include.nyc_taxi.source import download as downloads
from include.nyc_taxi.source.download import Edition, download, download_month, forget_edition, month_path, read_edition
from include.nyc_taxi.source.parquet import verify_parquet
from include.tlc_simulator.faults import CutOff, ErrorPage, Slow, Status, WrongContent, WrongLength
from include.tlc_simulator.server import TlcSimulator
from tests.nyc_taxi.conftest import PlainSite

SOURCE = catalogue.file_path("green", "2023-02")
AT_ONCE = 0.01  # the longest pause between attempts, in seconds
BAD_TRANSFERS = [
    CutOff(0.5),
    CutOff(0),
    WrongLength(100),
    Status(500),
    Status(502),
    Status(503),
    Status(504),
    Status(429),
]
BAD_CONTENTS = [WrongLength(-100), ErrorPage("html"), ErrorPage("xml"), WrongContent(0.5), Status(400), Status(418)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "raw" / "green.parquet"


@pytest.fixture
def fetch(site, path):
    """Download February's file without pauses between attempts."""

    def fetch_now(attempts=3, max_wait=AT_ONCE, site=site, path=path):
        return download(site, SOURCE, path, verify_parquet, attempts=attempts, max_wait=max_wait)

    return fetch_now


def folder(path):
    """The contents of all files beside `path`, by name; empty if there is no folder."""
    return {file.name: file.read_bytes() for file in path.parent.glob("*")}


def statuses(tlc_site):
    return [request.status for request in tlc_site.requests]


class ImpatientAtFirst:
    """A site that is waited for 0.3 s at the first attempt, on which there is a fault; then for as long as it takes."""

    def __init__(self, address):
        self.url = PlainSite(address).url
        self.attempts = iter([PlainSite(address, timeout=(5, 0.3))])
        self.patient = PlainSite(address, timeout=(5, 60))

    def fetch(self, path, headers):
        return next(self.attempts, self.patient).fetch(path, headers)


class TestArrival:
    def test_the_file_arrives_whole_with_its_edition_and_nothing_else(self, tlc_site, fetch, path):
        done = fetch()
        (request,) = tlc_site.requests
        assert done.fetched
        assert done.path == path
        assert duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone() == (2000,)
        assert sorted(folder(path)) == ["green.parquet", "green.parquet.edition.json"]
        assert done.edition == read_edition(path)
        assert (done.edition.url, done.edition.bytes) == (tlc_site.url + SOURCE, path.stat().st_size)
        assert done.edition.etag.startswith('"')
        assert done.edition.last_modified == "Thu, 20 Apr 2023 14:30:00 GMT"
        assert request.headers["Accept-Encoding"] == "identity", "compressed, its length would be another"

    def test_a_month_goes_to_its_place_in_raw(self, site, data_dir):
        done = download_month(site, "green", "2023-02")
        assert done.path == month_path("green", "2023-02") == data_dir / "raw" / "green_tripdata_2023-02.parquet"
        assert done.path.exists()

    def test_a_real_file_arrives_to_the_byte(self, real_data, tmp_path, path):
        with TlcSimulator(tmp_path / "site", serve_folder=real_data / "tlc") as tlc_site:
            download(PlainSite(tlc_site.url), SOURCE, path, verify_parquet)
        assert path.read_bytes() == (real_data / "tlc" / SOURCE.lstrip("/")).read_bytes()


class TestNotPublished:
    @pytest.mark.parametrize("status", [403, 404])
    def test_403_and_404_say_so_after_one_request(self, tlc_site, fetch, path, status):
        tlc_site.add_fault(SOURCE, Status(status))
        with pytest.raises(NotPublishedError, match=f"{SOURCE}.*found {status}.*not published"):
            fetch()
        assert statuses(tlc_site) == [status]
        assert folder(path) == {}

    def test_a_withdrawn_month_keeps_the_file_that_is_here(self, tlc_site, fetch, path):
        fetch()
        before = folder(path)
        tlc_site.withdraw("green", "2023-02")
        with pytest.raises(NotPublishedError):
            fetch()
        assert folder(path) == before


class TestALoginInTheSitesAddress:
    """URLs have a login if the site is asked without the hook, and in the records of older versions."""

    @pytest.fixture
    def with_login(self, tlc_site):
        return PlainSite(tlc_site.url.replace("http://", "http://me:s3same@"))

    def test_is_in_no_note_and_no_error(self, tlc_site, with_login, fetch, path):
        assert fetch(site=with_login).edition.url == tlc_site.url + SOURCE
        tlc_site.add_fault(SOURCE, Status(401))
        with pytest.raises(RefusedError) as error:
            fetch(site=with_login)
        assert "s3same" not in str(error.value)
        assert b"s3same" not in b"".join(folder(path).values())

    @pytest.mark.parametrize("asked_with_login", [True, False])
    def test_that_an_older_version_has_noted_is_the_same_address_and_is_taken_out(
        self, tlc_site, site, with_login, fetch, path, asked_with_login
    ):
        fetch()
        note = path.with_name("green.parquet.edition.json")
        note.write_text(note.read_text().replace("http://", "http://me:s3same@"))
        assert read_edition(path).url == tlc_site.url + SOURCE
        assert not fetch(site=with_login if asked_with_login else site).fetched
        assert "s3same" not in note.read_text()
        assert statuses(tlc_site) == [200, 304]


class TestAnotherAttempt:
    @pytest.mark.parametrize("fault", BAD_TRANSFERS, ids=str)
    def test_succeeds_after_two_bad_transfers(self, tlc_site, fetch, path, fault):
        tlc_site.add_fault(SOURCE, fault, times=2)
        assert fetch().edition == read_edition(path)
        verify_parquet(path)
        assert len(tlc_site.requests) == 3
        assert sorted(folder(path)) == ["green.parquet", "green.parquet.edition.json"]

    @pytest.mark.parametrize("fault", BAD_TRANSFERS, ids=str)
    def test_is_made_so_often_and_no_more(self, tlc_site, fetch, path, fault):
        tlc_site.add_fault(SOURCE, fault)
        with pytest.raises(DownloadError, match=SOURCE):
            fetch(attempts=3)
        assert len(tlc_site.requests) == 3
        assert folder(path) == {}

    @pytest.mark.parametrize("fault", BAD_CONTENTS, ids=str)
    def test_is_not_made_when_it_would_not_help(self, tlc_site, fetch, path, fault):
        tlc_site.add_fault(SOURCE, fault)
        with pytest.raises(DownloadError):
            fetch()
        assert len(tlc_site.requests) == 1
        assert folder(path) == {}

    def test_comes_after_a_server_that_is_silent_before_its_answer(self, tlc_site, fetch):
        tlc_site.add_fault(SOURCE, Slow(before=60), times=1)
        assert fetch(site=ImpatientAtFirst(tlc_site.url)).fetched
        assert 200 in statuses(tlc_site)

    def test_comes_after_a_server_that_falls_silent_half_way(self, tlc_site, fetch, path):
        tlc_site.add_fault(SOURCE, Slow(per_chunk=60), times=1)
        assert fetch(site=ImpatientAtFirst(tlc_site.url)).fetched
        assert statuses(tlc_site) == [200, 200]
        assert sorted(folder(path)) == ["green.parquet", "green.parquet.edition.json"]

    def test_is_not_needed_for_a_server_that_is_merely_slow(self, tlc_site, fetch):
        tlc_site.add_fault(SOURCE, Slow(before=0.1, per_chunk=0.05))
        assert fetch().fetched
        assert statuses(tlc_site) == [200]

    def test_fails_too_where_nobody_listens(self, tlc_site, fetch, path):
        address = tlc_site.url
        tlc_site.stop()
        with pytest.raises(DownloadError, match=f"{address}{SOURCE}: the connection failed or was interrupted"):
            fetch(site=PlainSite(address), attempts=2)
        assert folder(path) == {}


class TestRetryAfter:
    def test_is_waited_for(self, tlc_site, fetch):
        tlc_site.add_fault(SOURCE, Status(429, retry_after=1), times=1)
        fetch(max_wait=1.5)
        first, second = tlc_site.requests
        assert (first.status, second.status) == (429, 200)
        assert second.time - first.time >= 1

    def test_of_0_seconds_is_not_taken_for_none(self, tlc_site, fetch):
        tlc_site.add_fault(SOURCE, Status(503, retry_after=0), times=4)
        fetch(attempts=5, max_wait=3600)
        assert statuses(tlc_site) == [503] * 4 + [200]

    def test_is_not_waited_for_when_it_is_longer_than_a_worker_may_be_held(self, tlc_site, fetch, path):
        tlc_site.add_fault(SOURCE, Status(429, retry_after=3600))
        with pytest.raises(DownloadError, match="found 429"):
            fetch(max_wait=5)
        assert statuses(tlc_site) == [429]
        assert folder(path) == {}

    @pytest.mark.parametrize("value", [None, "", "soon", "Mon, 99 Foo 2023"])
    def test_that_cannot_be_read_is_none(self, value):
        assert downloads._retry_after(value) is None

    def test_may_be_a_date(self):
        later = datetime.now(UTC) + timedelta(hours=1)
        assert 3500 < downloads._retry_after(format_datetime(later, usegmt=True)) <= 3600
        assert downloads._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0

    def test_may_be_a_date_without_a_time_zone(self):
        assert downloads._retry_after("Wed, 21 Oct 2015 07:28:00 -0000") in (0, None)


class TestMessage:
    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (ErrorPage("html"), ["expected a Parquet file", "<!DOCTYPE html>", "error page"]),
            (ErrorPage("xml"), ["expected a Parquet file", "<?xml", "error page"]),
            (WrongContent(0.5), ["expected a Parquet file"]),
            (Status(418), ["expected status 200, found 418", "NYC_TAXI_TLC_URL"]),
            (Status(503), ["expected status 200, found 503"]),
        ],
        ids=str,
    )
    def test_says_what_was_expected_and_what_was_found(self, tlc_site, fetch, fault, words):
        tlc_site.add_fault(SOURCE, fault)
        with pytest.raises(DownloadError) as error:
            fetch()
        assert all(word in str(error.value) for word in words), str(error.value)

    @pytest.mark.parametrize("fault", [ErrorPage("html"), WrongContent(0.5)], ids=str)
    def test_names_the_file_not_the_temporary_one(self, tlc_site, fetch, fault):
        tlc_site.add_fault(SOURCE, fault)
        with pytest.raises(DownloadError) as error:
            fetch()
        assert ".part" not in str(error.value)


class TestEdition:
    def test_that_is_here_is_not_fetched_again(self, tlc_site, fetch, path):
        first = fetch()
        before = folder(path)
        again = fetch()
        assert (again.fetched, again.edition, again.path) == (False, first.edition, path)
        assert statuses(tlc_site) == [200, 304]
        assert tlc_site.requests[1].headers["If-None-Match"] == first.edition.etag
        assert folder(path) == before

    def test_published_anew_is_fetched_again(self, tlc_site, fetch, path):
        first = fetch()
        before = path.read_bytes()
        tlc_site.republish("green", "2023-02")
        again = fetch()
        assert again.fetched
        assert again.edition.etag != first.edition.etag
        assert again.edition == read_edition(path)
        assert path.read_bytes() != before
        assert statuses(tlc_site) == [200, 200]

    def test_of_a_server_that_gives_no_etag_is_known_by_its_date(self, tlc_site, fetch, path):
        edition = dataclasses.replace(fetch().edition, etag=None)
        (path.parent / "green.parquet.edition.json").write_text(json.dumps(dataclasses.asdict(edition)))
        assert not fetch().fetched
        assert tlc_site.requests[1].headers["If-Modified-Since"] == edition.last_modified
        assert "If-None-Match" not in tlc_site.requests[1].headers

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path, note: path.write_bytes(path.read_bytes()[:-1]),
            lambda path, note: path.write_bytes(path.read_bytes() + b"x"),
            lambda path, note: path.unlink(),
            lambda path, note: note.unlink(),
            lambda path, note: note.write_text("half a no"),
            lambda path, note: note.write_text('{"etag": 1}'),
            lambda path, note: note.write_text("[]"),
        ],
        ids=["shorter", "longer", "gone", "no note", "half a note", "another's note", "an odd note"],
    )
    def test_that_is_not_here_as_it_was_fetched_is_fetched_again(self, tlc_site, fetch, path, spoil):
        first = fetch()
        before = folder(path)
        spoil(path, path.parent / "green.parquet.edition.json")
        assert fetch() == first
        assert statuses(tlc_site) == [200, 200]
        assert folder(path) == before

    def test_of_another_site_is_no_reason_not_to_fetch(self, made_files, fetch, path):
        fetch()
        with TlcSimulator(made_files, rows=2000) as other:  # the same files, with the same ETags and dates
            again = fetch(site=PlainSite(other.url))
            assert again.fetched
            assert again.edition.url == other.url + SOURCE

    def test_that_is_forgotten_is_fetched_anew_though_it_is_the_sites(self, tlc_site, fetch, path):
        first = fetch()
        before = folder(path)
        path.write_bytes(b"x" * path.stat().st_size)  # damaged, but with the same size
        assert not fetch().fetched
        forget_edition(path)
        assert read_edition(path) is None
        assert fetch() == first
        assert statuses(tlc_site) == [200, 304, 200]
        assert folder(path) == before

    def test_that_is_not_known_can_be_forgotten(self, path):
        forget_edition(path)
        assert not path.parent.exists()

    def test_of_a_file_that_was_never_fetched_is_not_known(self, write_trips):
        assert read_edition(write_trips("green", "2023-02")) is None

    def test_is_read_as_it_was_noted(self, path):
        path.parent.mkdir()
        path.write_bytes(b"12345")
        edition = Edition("http://tlc.test/x", '"abc"', None, 5)
        (path.parent / "green.parquet.edition.json").write_text(json.dumps(dataclasses.asdict(edition)))
        assert read_edition(path) == edition


def test_another_error_of_the_verification_keeps_its_kind_and_the_old_file(fetch, site, path):
    fetch()
    before = folder(path)
    forget_edition(path)

    def refuse(temporary):
        raise LayoutError(f"{temporary.name}: not what it was")

    with pytest.raises(LayoutError, match=rf"{SOURCE}: green\.parquet: not what it was"):
        download(site, SOURCE, path, refuse)
    assert folder(path) == {"green.parquet": before["green.parquet"]}


class TestOldFile:
    @pytest.mark.parametrize("fault", [*BAD_TRANSFERS, *BAD_CONTENTS], ids=str)
    def test_stays_in_place_with_its_note_when_the_new_edition_fails(self, tlc_site, fetch, path, fault):
        fetch()
        before = folder(path)
        tlc_site.republish("green", "2023-02")
        tlc_site.add_fault(SOURCE, fault)
        with pytest.raises(DownloadError):
            fetch(attempts=2)
        assert folder(path) == before
        tlc_site.clear_faults()
        assert fetch().fetched

    def test_stays_in_place_when_the_process_is_killed_half_way(self, tlc_site, fetch, path, start_python):
        fetch()
        before = folder(path)
        tlc_site.republish("green", "2023-02")
        tlc_site.add_fault(SOURCE, Slow(per_chunk=60))
        process = start_python(DOWNLOAD, tlc_site.url, SOURCE, path)
        while not list(path.parent.glob(".green.parquet.*.part.*")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert {name: content for name, content in folder(path).items() if ".part." not in name} == before
        assert len(folder(path)) == len(before) + 1

    @pytest.mark.parametrize("moment", ["before the move", "after the move"])
    def test_has_lost_its_note_when_the_process_ends_at_the_move_of_the_new_one(
        self, tlc_site, fetch, path, monkeypatch, moment
    ):
        """Otherwise a new file of the same size would count as the old edition, and would never be loaded."""
        fetch()
        old = path.read_bytes()
        tlc_site.republish("green", "2023-02")
        move = os.replace

        def end(source, target):
            if target != path or moment == "after the move":  # the site makes its files in this process too
                move(source, target)
            if target == path:
                raise KeyboardInterrupt

        with monkeypatch.context() as ending:
            ending.setattr(os, "replace", end)
            with pytest.raises(KeyboardInterrupt):
                fetch()
        assert list(folder(path)) == ["green.parquet"]
        assert (path.read_bytes() == old) == (moment == "before the move")
        again = fetch()
        assert again.fetched
        assert read_edition(path) == again.edition
        assert statuses(tlc_site) == [200, 200, 200]


DOWNLOAD = """
import sys
from pathlib import Path
import requests
from include.nyc_taxi.source.download import download
from include.nyc_taxi.source.parquet import verify_parquet

class Site:
    def url(self, path):
        return sys.argv[1] + path
    def fetch(self, path, headers):
        return requests.get(self.url(path), headers=headers, stream=True, timeout=60)

def peak():  # of this process alone; getrusage would include its parent's
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])

*warm_up, source, path = sys.argv[2:]
for small in warm_up:
    download(Site(), small, Path(path + ".small"), verify_parquet)
before = peak()
download(Site(), source, Path(path), verify_parquet)
print(peak() - before, flush=True)
"""


def test_memory_does_not_grow_with_the_file(tmp_path, path, start_python):
    served = tmp_path / "big" / "trip-data"
    served.mkdir(parents=True)
    for month, rows in (("2023-01", 1000), ("2023-02", 7_500_000)):
        duckdb.execute(f"COPY (SELECT random() AS r FROM range({rows})) TO '{served}/green_tripdata_{month}.parquet'")
    assert (served / "green_tripdata_2023-02.parquet").stat().st_size > 55_000_000
    with TlcSimulator(tmp_path / "site", serve_folder=served.parent) as tlc_site:
        process = start_python(DOWNLOAD, tlc_site.url, catalogue.file_path("green", "2023-01"), SOURCE, path)
        grown = process.communicate()[0]
    assert path.stat().st_size > 55_000_000
    assert int(grown) < 40_000, f"{grown} KiB"


class TestDisk:
    @pytest.fixture
    def small_disk(self, tmp_path):
        """A file system of 32 KiB, which is too small for the simulated file of 2,000 rows."""
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small file system")
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", disk], capture_output=True)
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
        yield disk
        subprocess.run(["umount", disk], check=True)

    def test_full_is_a_clear_error_and_the_temporary_file_is_removed(self, tlc_site, fetch, small_disk):
        path = small_disk / "green.parquet"
        with pytest.raises(DownloadError, match=f"{path}: no space left while writing {tlc_site.url}") as error:
            fetch(path=path)
        assert "NYC_TAXI_DATA_DIR" in str(error.value)
        assert folder(path) == {}
        assert len(tlc_site.requests) == 1

    def test_full_keeps_the_old_file(self, fetch, small_disk):
        path = small_disk / "green.parquet"
        path.write_bytes(b"PAR1 the old file PAR1")
        with pytest.raises(DownloadError, match="no space left"):
            fetch(path=path)
        assert folder(path) == {"green.parquet": b"PAR1 the old file PAR1"}

    def test_where_a_folder_has_the_files_name_is_a_clear_error(self, fetch, path):
        path.mkdir(parents=True)
        with pytest.raises(DownloadError, match=r"green\.parquet: cannot be written"):
            fetch()
        assert list(path.parent.iterdir()) == [path]
