"""Editions: which months a check of the simulated site finds republished or withdrawn, and that it asks politely."""

import dataclasses
import json
import os
import re
import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest
import requests

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import month_range
from include.nyc_taxi.status import editions
from include.nyc_taxi.status.editions import AnswersError, Check, SiteError
from include.nyc_taxi.trips.loaded import LoadedMonth
from include.tlc_simulator.faults import ErrorPage, Slow, Status
from include.tlc_simulator.server import TlcSimulator

RUN_ID = re.compile(r"[A-Za-z0-9_.~:+-]{1,250}")  # what Airflow takes, on both lines
JANUARY, FEBRUARY, MARCH = "2023-01", "2023-02", "2023-03"


class CountingSimulator(TlcSimulator):
    """Counts the most slow answers that it was busy with at the same time."""

    now = most = 0

    def _pause(self, seconds):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        super()._pause(seconds)
        with self._lock:
            self.now -= 1


@pytest.fixture
def tlc_site(made_files):
    with CountingSimulator(made_files, rows=50) as simulator:
        yield simulator


def head(url, headers):
    return requests.head(url, headers=headers, timeout=(5, 10))


def load(site, *months, **changed):
    """The result of `loaded_months` for green months that were loaded from the site in its present state."""
    found = {}
    for month in months:
        url = site.url + catalogue.file_path("green", month)
        says = requests.head(url, headers={"User-Agent": "load"}, timeout=(5, 10)).headers
        edition = (url, says["ETag"], says["Last-Modified"], int(says["Content-Length"]))
        found[month] = LoadedMonth(50, 50, *edition, datetime(2023, 9, 1, tzinfo=UTC), "loader")
        found[month] = dataclasses.replace(found[month], **changed)
    return found


def asked(site):
    """The requests that checks have sent."""
    return [request for request in site.requests if request.headers["User-Agent"] != "load"]


def ask(site, loads):
    """Begin a check, and ask the site."""
    this = editions.begin(site.url, {"green": loads})
    editions.ask(head, this)
    return this


def check(site, loads, name="check"):
    """A complete check: the months for which it starts runs, and those that it reports as withdrawn."""
    this = ask(site, loads)
    gone = editions.withdrawn(this, name)
    return [run.month for run in editions.republished(this)], [month.month for month in gone]


class TestACheck:
    def test_at_months_as_they_were_loaded_finds_nothing(self, tlc_site):
        loads = load(tlc_site, JANUARY, FEBRUARY)
        for _ in range(2):
            assert check(tlc_site, loads) == ([], [])
        assert [(request.method, request.status) for request in asked(tlc_site)] == [("HEAD", 304)] * 4
        wanted = {loaded.etag for loaded in loads.values()}
        assert {request.headers["If-None-Match"] for request in asked(tlc_site)} == wanted

    def test_at_an_empty_warehouse_asks_nothing(self, tlc_site):
        assert check(tlc_site, {}) == ([], [])
        assert tlc_site.requests == []

    def test_asks_two_at_a_time(self, tlc_site):
        loads = load(tlc_site, *month_range("2023-01", "2023-12"))
        tlc_site.add_fault("", Slow(before=0.05))
        check(tlc_site, loads)
        assert (len(asked(tlc_site)), tlc_site.most) == (12, 2)

    def test_leaves_months_of_another_site_alone_and_says_how_many(self, tlc_site, caplog):
        caplog.set_level("INFO")
        elsewhere = load(tlc_site, FEBRUARY, MARCH, source_url="http://127.0.0.1:9/x.parquet", etag='"other"')
        assert check(tlc_site, load(tlc_site, JANUARY) | elsewhere) == ([], [])
        assert len(asked(tlc_site)) == 1
        assert "ignoring 2 other months" in caplog.text

    @pytest.mark.parametrize("site_has_it", [True, False])
    @pytest.mark.parametrize("load_has_it", [True, False])
    def test_knows_the_site_with_and_without_a_login_and_keeps_none(self, tlc_site, data_dir, site_has_it, load_has_it):
        def address(has_login):
            return tlc_site.url.replace("http://", "http://me:s3same@") if has_login else tlc_site.url

        loads = load(tlc_site, JANUARY, source_url=address(load_has_it) + catalogue.file_path("green", JANUARY))
        this = editions.begin(address(site_has_it), {"green": loads})
        editions.ask(head, this)
        assert [request.status for request in asked(tlc_site)] == [304]
        assert "s3same" not in json.dumps(dataclasses.asdict(this)) + (data_dir / "raw/.editions.json").read_text()

    def test_knows_what_an_older_version_has_noted_with_a_login(self, tlc_site, data_dir):
        loads = load(tlc_site, JANUARY, FEBRUARY)
        tlc_site.withdraw("green", JANUARY)
        assert check(tlc_site, loads, "one") == ([], [JANUARY])
        ledger = data_dir / "raw/.editions.json"
        ledger.write_text(ledger.read_text().replace("http://", "http://me:s3same@"))
        assert check(tlc_site, loads, "two") == ([], [])
        assert "s3same" not in ledger.read_text()

    def test_leaves_months_alone_of_which_no_edition_is_known(self, tlc_site):
        assert check(tlc_site, load(tlc_site, JANUARY, etag=None, last_modified=None)) == ([], [])
        assert asked(tlc_site) == []

    def test_is_the_same_when_it_was_passed_on_as_json(self, tlc_site):
        this = editions.begin(tlc_site.url, {"green": load(tlc_site, JANUARY, FEBRUARY)})
        assert len(this.months) == 2
        assert Check.of(json.loads(json.dumps(dataclasses.asdict(this)))) == this


class TestANewEdition:
    def test_is_found_in_every_check_until_it_is_loaded_and_its_run_is_one(self, tlc_site):
        loads = load(tlc_site, JANUARY, FEBRUARY)
        tlc_site.republish("green", FEBRUARY)
        ((first,), (second,)) = (editions.republished(ask(tlc_site, loads)) for _ in range(2))
        assert first == second
        assert (first.fleet, first.month) == ("green", FEBRUARY)
        assert RUN_ID.fullmatch(first.run_id)
        # The second time it was asked for on the condition that it is not the one seen.
        assert [request.status for request in asked(tlc_site) if FEBRUARY in request.path] == [200, 304]

        assert check(tlc_site, load(tlc_site, JANUARY, FEBRUARY)) == ([], [])

    def test_has_the_same_run_when_the_ledger_was_lost(self, tlc_site, data_dir):
        loads = load(tlc_site, JANUARY)
        tlc_site.republish("green", JANUARY)
        first = editions.republished(ask(tlc_site, loads))
        (data_dir / "raw" / ".editions.json").unlink()
        assert editions.republished(ask(tlc_site, loads)) == first

    def test_after_another_has_a_run_of_its_own(self, tlc_site):
        loads, runs = load(tlc_site, JANUARY), []
        for _ in range(3):
            tlc_site.republish("green", JANUARY)
            runs += editions.republished(ask(tlc_site, loads))
        assert len({run.run_id for run in runs}) == 3
        assert len({run.logical_date for run in runs}) == 3

    def test_that_comes_back_after_another_has_a_run_of_its_own(self, tmp_path):
        file = tmp_path / "trip-data" / catalogue.file_name("green", JANUARY)
        file.parent.mkdir()

        def publish(content, day):
            file.write_text(content)
            os.utime(file, (datetime(2023, 6, day, tzinfo=UTC).timestamp(),) * 2)

        runs = []
        with CountingSimulator(tmp_path, serve_folder=tmp_path) as site:
            publish("a", 1)
            for content, day in (("b", 2), ("a", 3), ("b", 4)):
                loads = load(site, JANUARY)
                publish(content, day)
                runs += editions.republished(ask(site, loads))
        assert len({run.run_id for run in runs}) == 3
        assert len({run.logical_date for run in runs}) == 3

    def test_is_run_in_its_month_and_never_at_the_moment_of_the_schedule(self, tlc_site):
        months = month_range("2023-01", "2023-12")
        loads = load(tlc_site, *months)
        for month in months:
            tlc_site.republish("green", month)
        runs = editions.republished(ask(tlc_site, loads))
        assert [run.month for run in runs] == months
        for run in runs:
            start = datetime.fromisoformat(f"{run.month}-01T00:00:00+00:00")
            assert timedelta(0) < run.logical_date - start < timedelta(days=28)

    def test_that_a_run_has_loaded_between_two_checks_is_no_news(self, tlc_site):
        assert check(tlc_site, load(tlc_site, JANUARY)) == ([], [])
        tlc_site.republish("green", JANUARY)
        assert check(tlc_site, load(tlc_site, JANUARY)) == ([], [])

    def test_is_told_by_its_date_where_the_site_had_no_etag(self, tlc_site):
        loads = load(tlc_site, JANUARY, etag=None)
        assert check(tlc_site, loads) == ([], [])
        (request,) = asked(tlc_site)
        assert request.headers["If-Modified-Since"] == loads[JANUARY].last_modified
        tlc_site.republish("green", JANUARY)
        assert check(tlc_site, loads) == ([JANUARY], [])

    def test_is_not_seen_in_a_mark_that_an_etag_is_weak(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        weak = {JANUARY: dataclasses.replace(loads[JANUARY], etag=f"W/{loads[JANUARY].etag}")}
        this = editions.begin(tlc_site.url, {"green": weak})
        editions.ask(lambda url, headers: requests.head(url, timeout=(5, 10)), this)
        assert asked(tlc_site)[0].status == 200
        assert editions.republished(this) == []


class TestAWithdrawnMonth:
    def test_is_reported_once(self, tlc_site):
        loads = load(tlc_site, JANUARY, FEBRUARY)
        tlc_site.withdraw("green", JANUARY)
        assert check(tlc_site, loads, "first") == ([], [JANUARY])
        assert check(tlc_site, loads, "second") == ([], [])

    def test_is_reported_by_the_same_check_again_when_that_was_killed_or_is_cleared(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        tlc_site.withdraw("green", JANUARY)
        for _ in range(2):
            assert check(tlc_site, loads, "first") == ([], [JANUARY])

    def test_that_was_published_again_and_withdrawn_again_is_reported_again(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        tlc_site.withdraw("green", JANUARY)
        assert check(tlc_site, loads, "first") == ([], [JANUARY])
        tlc_site.publish("green", JANUARY)
        assert check(tlc_site, loads, "second") == ([], [])
        tlc_site.withdraw("green", JANUARY)
        assert check(tlc_site, loads, "third") == ([], [JANUARY])

    def test_that_is_published_again_in_another_edition_is_run(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        tlc_site.withdraw("green", JANUARY)
        assert check(tlc_site, loads) == ([], [JANUARY])
        tlc_site.republish("green", JANUARY)
        assert check(tlc_site, loads) == ([JANUARY], [])

    def test_is_not_run_even_if_another_edition_was_seen_of_it_before(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        tlc_site.republish("green", JANUARY)
        assert check(tlc_site, loads) == ([JANUARY], [])
        tlc_site.withdraw("green", JANUARY)
        assert check(tlc_site, loads) == ([], [JANUARY])

    @pytest.mark.parametrize("status", [403, 404])
    def test_is_one_that_the_site_refuses(self, tlc_site, status):
        loads = load(tlc_site, JANUARY)
        tlc_site.add_fault(JANUARY, Status(status))
        assert check(tlc_site, loads) == ([], [JANUARY])

    def test_is_named_in_one_sentence(self, tlc_site):
        loads = load(tlc_site, *month_range("2022-01", "2023-03"))
        tlc_site.withdraw("green", FEBRUARY)
        this = ask(tlc_site, loads)
        assert editions.report(this, editions.withdrawn(this, "first")) == (
            "the TLC's site has withdrawn green 2023-02 (403 or 404); the warehouse keeps the loaded trips"
        )
        tlc_site.add_fault("", Status(403))
        this = ask(tlc_site, loads)
        sentence = editions.report(this, this.months)
        assert "green 2022-12 and 3 more" in sentence
        assert "Every loaded month is affected: check NYC_TAXI_TLC_URL" in sentence
        assert "\n" not in sentence

    def test_is_reported_by_one_of_two_checks_at_the_same_time(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        tlc_site.withdraw("green", JANUARY)
        this, start, found = ask(tlc_site, loads), threading.Barrier(8), []

        def claim(name):
            start.wait()
            found.extend(editions.withdrawn(this, name))

        threads = [threading.Thread(target=claim, args=(f"check-{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [month.month for month in found] == [JANUARY]


class TestASiteThatCannotBeAsked:
    def test_is_left_alone_after_a_few_requests_and_the_error_says_why(self, tlc_site):
        loads = load(tlc_site, *month_range("2022-01", "2023-03"))
        tlc_site.add_fault("", Status(503))
        with pytest.raises(SiteError, match=r"for 15 of 15 months: .*green_tripdata_20\d\d-\d\d.*: status 503"):
            ask(tlc_site, loads)
        assert 3 <= len(asked(tlc_site)) <= 4  # one may have been on its way

    def test_has_answered_what_it_has_answered(self, tlc_site):
        loads = load(tlc_site, JANUARY, FEBRUARY, MARCH)
        for month in (JANUARY, MARCH):
            tlc_site.republish("green", month)
        tlc_site.add_fault(FEBRUARY, Status(500), times=1)
        this = editions.begin(tlc_site.url, {"green": loads})
        with pytest.raises(SiteError, match=r"for 1 of 3 months: .*green_tripdata_2023-02.parquet: status 500"):
            editions.ask(head, this)
        assert [run.month for run in editions.republished(this)] == [JANUARY, MARCH]

        # The next try asks for what is lacking, and no more.
        editions.ask(head, this)
        assert sorted(request.path[-15:-8] for request in asked(tlc_site)) == [JANUARY, FEBRUARY, FEBRUARY, MARCH]
        assert [run.month for run in editions.republished(this)] == [JANUARY, MARCH]

    def test_has_said_nothing_new_whatever_it_said_to_an_earlier_check(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        tlc_site.republish("green", JANUARY)
        assert check(tlc_site, loads) == ([JANUARY], [])
        tlc_site.add_fault("", Status(500))
        this = editions.begin(tlc_site.url, {"green": loads})
        with pytest.raises(SiteError):
            editions.ask(head, this)
        assert editions.republished(this) == []

    def test_may_be_one_that_nobody_listens_at(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        this = editions.begin(tlc_site.url, {"green": loads})
        tlc_site.stop()
        with pytest.raises(SiteError, match="ConnectionError"):
            editions.ask(head, this)

    def test_may_be_one_that_takes_too_long(self, tlc_site):
        loads = load(tlc_site, JANUARY)
        tlc_site.add_fault("", Slow(before=60))
        this = editions.begin(tlc_site.url, {"green": loads})
        with pytest.raises(SiteError, match="no answer in time"):
            editions.ask(lambda url, headers: requests.head(url, headers=headers, timeout=(5, 0.1)), this)

    @pytest.mark.parametrize(("etag", "lacking"), [('"loaded"', "ETag"), (None, "Last-Modified")])
    def test_may_be_one_that_answers_with_a_page_of_its_own(self, tlc_site, etag, lacking):
        loads = load(tlc_site, JANUARY, etag=etag)
        tlc_site.add_fault("", ErrorPage())
        with pytest.raises(SiteError, match=f"status 200 without {lacking}"):
            ask(tlc_site, loads)


class TestTheLedger:
    def test_is_whole_or_as_it_was_when_a_check_is_killed(self, tlc_site, data_dir, start_python):
        ask(tlc_site, load(tlc_site, JANUARY))
        ledger = data_dir / "raw" / ".editions.json"
        before = ledger.read_text()
        process = start_python(
            "from include.nyc_taxi.status import editions\n"
            "with editions._ledger() as ledger:\n"
            "    ledger.clear()\n"
            "    print('open', flush=True)\n"
            "    input()\n"
        )
        assert process.stdout.readline() == "open\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert ledger.read_text() == before
        assert check(tlc_site, load(tlc_site, JANUARY)) == ([], [])  # it is not locked

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"http://x": {"etag": 1}}'])
    def test_that_is_damaged_is_named_with_what_to_do(self, tlc_site, data_dir, content):
        (data_dir / "raw").mkdir(parents=True)
        (data_dir / "raw" / ".editions.json").write_text(content)
        with pytest.raises(AnswersError, match=r"raw/.editions.json: cannot be read .* Delete it"):
            ask(tlc_site, load(tlc_site, JANUARY))

    def test_keeps_what_two_checks_at_the_same_time_have_seen(self, tlc_site, data_dir):
        months = month_range("2022-01", "2023-03")
        checks = [editions.begin(tlc_site.url, {"green": load(tlc_site, month)}) for month in months]
        threads = [threading.Thread(target=editions.ask, args=(head, this)) for this in checks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(json.loads((data_dir / "raw" / ".editions.json").read_text())) == len(months)
