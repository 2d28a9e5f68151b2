"""The status: the state of each month, the table, and the sentences below it."""

import contextlib
import dataclasses
import itertools
import json
import re
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
import requests

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import FleetError, MonthError
from include.nyc_taxi.months import month_range
from include.nyc_taxi.source import site
from include.nyc_taxi.source.download import Edition, month_path, read_edition
from include.nyc_taxi.source.site import Answer
from include.nyc_taxi.status import freshness, text
from include.nyc_taxi.status.freshness import State
from include.nyc_taxi.trips.loaded import LoadedMonth
from include.tlc_simulator.faults import Slow, Status

NOW = datetime(2023, 9, 15, 12, tzinfo=UTC)
LOADED = NOW - timedelta(days=3)
MODIFIED = "Mon, 20 Mar 2023 14:30:00 GMT"
LATER = "Tue, 20 Jun 2023 14:30:00 GMT"


def loaded(*months, **facts):
    """The result of `loaded_months` if these months are loaded."""
    load = LoadedMonth(
        rows_in_file=68_211,
        rows_loaded=68_211,
        source_url="http://tlc.test/file",
        etag='"9051137bd2a7"',
        last_modified=MODIFIED,
        bytes=1_427_002,
        loaded_at=LOADED,
        run_id="loader",
    )
    return {month: dataclasses.replace(load, **facts) for month in months}


def run(month, state="failed", failed=("load",), after=timedelta(hours=1), run_id="another", cancelled=False):
    """A run without success that started this long after the months were loaded, or (None) has not started yet."""
    started = None if after is None else LOADED + after
    return SimpleNamespace(run_id=run_id, month=month, state=state, started=started, failed=failed, cancelled=cancelled)


def cancelled(month, **more):
    """A run that somebody ended before any of its tasks failed."""
    return run(month, failed=(), cancelled=True, **more)


def success(month, **more):
    """A successful run, which loaded the month or found nothing new."""
    return run(month, "success", failed=(), **more)


@pytest.fixture
def download(data_dir):
    """Put a month's file into raw/, with a record of its edition unless that is None."""

    def put(month, etag="9051137bd2a7", last_modified=MODIFIED, size=1_427_002):
        path = month_path("green", month)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        if etag:
            edition = Edition("http://tlc.test/file", f'"{etag}"', last_modified, size)
            path.with_name(f"{path.name}.edition.json").write_text(json.dumps(dataclasses.asdict(edition)))

    return put


def judge(first, last, loads, answers=(), runs=()):
    """The statuses of the green fleet's months from `first` to `last`; `answers` are by month."""
    by_month = {("green", month): answer for month, answer in dict(answers).items()}
    return freshness.fleet_status("green", month_range(first, last), loads, by_month, runs, NOW)


def states(*arguments, **more):
    return [month.state for month in judge(*arguments, **more)]


class TestMonths:
    def test_go_from_the_first_of_catch_up_to_the_last_that_has_ended(self):
        assert freshness.months_of("green", "2023-06", [], [], date(2023, 9, 1)) == ["2023-06", "2023-07", "2023-08"]
        assert freshness.months_of("green", "2022-12", [], [], date(2023, 1, 31)) == ["2022-12"]

    def test_begin_with_the_first_that_is_loaded_where_that_is_earlier(self):
        assert freshness.months_of("green", "2023-06", ["2023-07", "2023-05"], [], date(2023, 8, 1))[0] == "2023-05"

    def test_do_not_begin_before_the_fleets_first(self):
        assert freshness.months_of("green", "2009-01", [], ["2013-12"], date(2014, 3, 1)) == ["2014-01", "2014-02"]

    def test_include_an_earlier_one_that_was_tried_but_not_those_between(self):
        found = freshness.months_of("green", "2023-01", [], ["2021-05", None, "2023-02"], date(2023, 4, 1))
        assert found == ["2021-05", "2023-01", "2023-02", "2023-03"]

    def test_are_none_where_catch_up_begins_in_the_future(self):
        assert freshness.months_of("green", "2030-01", [], [], date(2023, 4, 1)) == []

    def test_must_be_months_of_a_fleet(self):
        with pytest.raises(MonthError):
            freshness.months_of("green", "2023", [], [], date(2023, 4, 1))
        with pytest.raises(FleetError):
            freshness.months_of("purple", "2023-01", [], [], date(2023, 4, 1))

    def test_are_asked_for_at_the_site_only_where_nothing_here_tells(self, download):
        download("2023-02")
        download("2023-03", etag=None)
        wanted = freshness.months_to_ask("green", month_range("2023-01", "2023-04"), loaded("2023-01"))
        assert wanted == ["2023-03", "2023-04"]


class TestState:
    def test_of_a_loaded_month_is_fresh(self, download):
        download("2023-01")
        (month,) = judge("2023-01", "2023-01", loaded("2023-01"))
        assert (month.state, month.published, month.published_on) == (State.FRESH, True, date(2023, 3, 20))
        assert (month.downloaded, month.edition, month.age) == (1_427_002, "9051137b, 2023-03-20", timedelta(days=3))

    def test_of_a_month_whose_file_was_removed_after_its_load_is_fresh(self):
        (month,) = judge("2023-01", "2023-01", loaded("2023-01"))
        assert (month.state, month.downloaded) == (State.FRESH, None)

    def test_says_what_is_published_and_not_loaded(self):
        found = judge("2023-01", "2023-02", {}, {"2023-01": Answer(True, MODIFIED), "2023-02": Answer(published=False)})
        assert [(month.state, month.published, month.published_on) for month in found] == [
            (State.MISSING, True, date(2023, 3, 20)),
            (State.NOT_PUBLISHED, False, None),
        ]

    def test_of_a_month_that_is_only_downloaded_is_missing(self, download):
        download("2023-01")
        (month,) = judge("2023-01", "2023-01", {})
        assert (month.state, month.published, month.downloaded) == (State.MISSING, True, 1_427_002)

    def test_of_a_month_in_the_middle_of_history_is_missing_even_where_the_site_was_not_asked(self):
        assert states("2023-01", "2023-04", loaded("2023-01", "2023-03")) == ["fresh", "MISSING", "fresh", "not loaded"]

    def test_tells_a_newer_file_that_is_not_loaded(self, download):
        download("2023-01", etag="other", last_modified=LATER)
        (month,) = judge("2023-01", "2023-01", loaded("2023-01"))
        assert (month.state, month.published_on) == (State.NEW_EDITION, date(2023, 6, 20))
        assert month.edition == "9051137b, 2023-03-20"

    def test_does_not_take_an_older_file_for_a_new_edition(self, download):
        download("2023-01", etag="other")
        assert states("2023-01", "2023-01", loaded("2023-01", last_modified=LATER)) == [State.FRESH]

    @pytest.mark.parametrize(
        ("etag", "last_modified", "edition"),
        [
            ('W/"abc"', MODIFIED, "abc, 2023-03-20"),
            (None, MODIFIED, "2023-03-20"),
            ('"abc"', "yesterday", "abc"),
            (None, None, "unknown"),
        ],
    )
    def test_names_as_much_of_the_edition_as_is_known(self, etag, last_modified, edition):
        (month,) = judge("2023-01", "2023-01", loaded("2023-01", etag=etag, last_modified=last_modified))
        assert (month.edition, month.state) == (edition, State.FRESH)


class TestRuns:
    def test_that_failed_without_a_load_make_a_month_failed_and_after_one_leave_it_loaded(self):
        found = judge(
            "2023-01", "2023-02", loaded("2023-01"), runs=[run("2023-01"), run("2023-02", failed=("download",))]
        )
        assert [(month.state, month.failed) for month in found] == [
            ("loaded, last run failed", ("load",)),
            ("FAILED", ("download",)),
        ]

    def test_that_failed_before_the_load_do_not(self):
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=[run("2023-01", after=-timedelta(hours=1))]) == [
            "fresh"
        ]

    def test_that_failed_after_their_own_load_do(self):
        own = run("2023-01", failed=("map",), after=-timedelta(minutes=1), run_id="loader")
        (month,) = judge("2023-01", "2023-01", loaded("2023-01"), runs=[own])
        assert (month.state, month.failed) == (State.LOADED_FAILED, ("map",))

    def test_that_were_cancelled_are_no_failure(self):
        found = judge("2023-01", "2023-02", loaded("2023-01"), runs=[cancelled("2023-01"), cancelled("2023-02")])
        assert [(month.state, month.failed) for month in found] == [
            ("loaded, last run cancelled", ()),
            ("not loaded, last run cancelled", ()),
        ]

    def test_that_were_killed_in_a_task_by_whoever_marked_them_failed_are_no_failure_either(self):
        killed = run("2023-01", failed=("download",), cancelled=True)
        (month,) = judge("2023-01", "2023-01", loaded("2023-01"), runs=[killed])
        assert (month.state, month.failed) == (State.LOADED_CANCELLED, ())

    def test_that_were_cancelled_before_the_load_are_history(self):
        runs = [cancelled("2023-01", after=-timedelta(hours=1))]
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=runs) == [State.FRESH]

    def test_that_were_cancelled_while_they_waited_for_a_file_say_nothing(self):
        answers = {"2023-01": Answer(published=False)}
        assert states("2023-01", "2023-01", {}, answers, runs=[cancelled("2023-01")]) == [State.NOT_PUBLISHED]

    def test_that_were_cancelled_do_not_hide_a_newer_edition(self, download):
        download("2023-01", etag="other", last_modified=LATER)
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=[cancelled("2023-01")]) == [State.NEW_EDITION]

    def test_that_were_cancelled_do_not_settle_a_failure(self):
        later = cancelled("2023-01", after=timedelta(hours=2))
        assert states("2023-01", "2023-01", {}, runs=[run("2023-01"), later]) == [State.FAILED]

    @pytest.mark.parametrize("before", [run, cancelled])
    def test_that_succeed_later_settle_what_was_before_them_though_they_found_nothing_new(self, before):
        later = success("2023-01", after=timedelta(hours=2))
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=[before("2023-01"), later]) == [State.FRESH]

    def test_that_succeeded_earlier_or_in_another_month_settle_nothing(self):
        runs = [
            success("2023-01"),
            run("2023-01", after=timedelta(hours=2)),
            success("2023-02", after=timedelta(hours=3)),
        ]
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=runs) == [State.LOADED_FAILED]

    def test_that_succeed_while_another_still_runs_do_not_hide_that(self):
        runs = [run("2023-01", "running", failed=()), success("2023-01", after=timedelta(hours=2))]
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=runs) == [State.RUNNING]

    @pytest.mark.parametrize(("state", "after"), [("running", -timedelta(hours=1)), ("queued", None)])
    def test_that_have_not_ended_make_a_month_running(self, state, after):
        active = run("2023-01", state, failed=(), after=after)
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=[run("2023-01"), active]) == [State.RUNNING]

    def test_that_wait_for_a_file_do_not(self):
        waiting = run("2023-01", "running", failed=())
        found = states("2023-01", "2023-01", {}, answers={"2023-01": Answer(published=False)}, runs=[waiting])
        assert found == [State.NOT_PUBLISHED]

    def test_that_succeeded_without_a_task_or_are_about_no_month_change_nothing(self):
        runs = [run("2023-01", "success", failed=()), run(None)]
        assert states("2023-01", "2023-01", loaded("2023-01"), runs=runs) == [State.FRESH]


AT_ONCE = 4
MONTHS = [("green", month) for month in month_range("2020-01", "2023-12")]


def questions(months):
    return {month: site.Question(catalogue.file_path(*month)) for month in months}


class TestSite:
    @pytest.fixture
    def head(self, tlc_site):
        return lambda path, headers: requests.head(tlc_site.url + path, headers=headers, timeout=(5, 5))

    def test_says_what_is_published_and_since_when(self, tlc_site, head):
        tlc_site.withdraw("green", "2023-02")
        months = [("green", "2023-01"), ("green", "2023-02"), ("yellow", "2024-09")]
        answers, problems = site.ask_site(head, questions(months))
        published = answers.pop(("green", "2023-01"))
        assert (published.published, published.last_modified) == (True, "Mon, 20 Mar 2023 14:30:00 GMT")
        assert answers == dict.fromkeys(months[1:], Answer(published=False))
        assert problems == {}

    def test_may_say_404(self, tlc_site, head):
        tlc_site.add_fault("green", Status(404))
        month = ("green", "2023-01")
        assert site.ask_site(head, questions([month])) == ({month: Answer(published=False)}, {})

    def test_says_whether_a_known_edition_has_changed(self, tlc_site, head):
        path = catalogue.file_path("green", "2023-01")
        answer = site.ask_site(head, {1: site.Question(path)})[0][1]
        question = {1: site.Question(path, answer.etag, answer.last_modified)}
        assert site.ask_site(head, question) == ({1: answer}, {})
        tlc_site.republish("green", "2023-01")
        assert site.ask_site(head, question)[0][1].etag != answer.etag
        assert [request.status for request in tlc_site.requests] == [200, 304, 200]

    @pytest.mark.parametrize("code", [429, 500, 503])
    def test_is_left_in_peace_once_it_refuses(self, tlc_site, head, code):
        tlc_site.add_fault("", Status(code))
        answers, problems = site.ask_site(head, questions(MONTHS))
        assert (answers, {*problems.values()}) == ({}, {f"status {code}"})
        assert len(tlc_site.requests) <= AT_ONCE

    def test_is_not_asked_again_once_it_does_not_answer(self, tlc_site):
        tlc_site.add_fault("", Slow(before=60))
        asked = []

        def head(path, headers):
            asked.append(path)
            return requests.head(tlc_site.url + path, headers=headers, timeout=(5, 0.3))

        answers, problems = site.ask_site(head, questions(MONTHS))
        assert (answers, {*problems.values()}) == ({}, {"no answer in time"})
        assert len(asked) <= AT_ONCE

    def test_that_cannot_be_reached_is_tried_by_the_first_only(self):
        tried = []

        def head(path, headers):
            tried.append(path)
            return requests.head("http://127.0.0.1:9" + path, headers=headers, timeout=(5, 5))

        answers, problems = site.ask_site(head, questions(MONTHS))
        assert (answers, {*problems.values()}) == ({}, {"ConnectionError"})
        assert len(tried) <= AT_ONCE

    def test_gets_no_more_than_four_requests_at_once(self):
        lock, running, most = threading.Lock(), [], []

        def head(path, headers):
            with lock:
                running.append(path)
                most.append(len(running))
            time.sleep(0.02)
            with lock:
                running.remove(path)
            return contextlib.nullcontext(SimpleNamespace(status_code=403, headers={}))

        answers, _ = site.ask_site(head, questions(MONTHS))
        assert set(answers) == set(MONTHS)
        assert max(most) == AT_ONCE


class TestTable:
    def test_has_a_line_a_month(self, download):
        download("2023-01")
        table = text.render(judge("2023-01", "2023-02", loaded("2023-01"), runs=[run("2023-02")]))
        assert [" ".join(line.split()) for line in table.splitlines()[2:]] == [
            "green 2023-01 fresh 2023-03-20 1.4 MB 2023-09-12 12:00 9051137b, 2023-03-20 68,211 3 days",
            "green 2023-02 FAILED (load) ? - - - - -",
        ]

    def test_has_one_line_for_many_months_of_which_nothing_is_known(self):
        table = text.render(judge("2023-01", "2023-08", loaded("2023-01"), {"2023-08": Answer(published=False)}))
        assert [line.split()[1:4] for line in table.splitlines()[3:]] == [
            ["2023-02", "…", "2023-07"],
            ["2023-08", "not", "published"],
        ]

    def test_keeps_a_line_for_each_month_that_stands_out(self):
        table = text.render(judge("2023-01", "2023-08", loaded("2023-08")))
        assert table.count("MISSING") == 7

    def test_separates_the_fleets(self):
        months = judge("2023-01", "2023-01", loaded("2023-01"))
        table = text.render(months + [dataclasses.replace(month, fleet="yellow") for month in months])
        assert [line[:5] for line in table.splitlines()] == ["fleet", "-----", "green", "-----", "yello"]

    def test_shouts_only_where_something_is_not_loaded_and_names_the_tasks_that_failed(self):
        runs = [
            run("2023-01"),
            cancelled("2023-02"),
            run("2023-03", failed=("download", "load")),
            cancelled("2023-04"),
        ]
        months = judge("2023-01", "2023-04", loaded("2023-01", "2023-02"), runs=runs)
        table = text.render(months).splitlines()[2:]
        assert [re.split(" {2,}", line)[2] for line in table] == [
            "loaded, last run failed in load",
            "loaded, last run cancelled",
            "FAILED (download, load)",
            "not loaded, last run cancelled",
        ]

    @pytest.mark.parametrize(
        ("age", "words"),
        [
            (timedelta(seconds=-5), "0 minutes"),
            (timedelta(seconds=90), "1 minute"),
            (timedelta(minutes=119), "119 minutes"),
            (timedelta(hours=47), "47 hours"),
            (timedelta(days=2), "2 days"),
            (timedelta(days=60), "60 days"),
            (timedelta(days=61), "2 months"),
            (timedelta(days=365), "11 months"),
            (timedelta(days=800), "2 years"),
        ],
    )
    def test_says_an_age_in_words(self, age, words):
        assert text.age_in_words(age) == words


class TestSentences:
    def sentences(self, *arguments, **more):
        return text.sentences(judge(*arguments, **more), "make backfill")

    def test_say_what_is_loaded_where_nothing_is_wrong(self):
        assert self.sentences("2023-01", "2023-03", loaded("2023-01", "2023-02", "2023-03")) == [
            "green: 3 months loaded, 2023-01 to 2023-03; last load 3 days ago."
        ]
        assert self.sentences("2023-01", "2023-02", loaded("2023-01"), {"2023-02": Answer(published=False)}) == [
            "green: 1 month loaded, 2023-01; last load 3 days ago."
        ]

    def test_say_that_nothing_is_loaded(self):
        assert self.sentences("2023-01", "2023-03", {}) == ["green: nothing is loaded yet."]

    def test_name_columns_that_were_left_out_and_what_to_do(self):
        loads = loaded("2023-01", "2023-02") | loaded("2023-03", unknown_columns=("mood",))
        loads |= loaded("2023-04", "2023-05", unknown_columns=("hat", "mood"))
        assert self.sentences("2023-01", "2023-05", loads)[1:] == [
            (
                "green: the files of 2023-03 have 1 column that the warehouse leaves out: mood; "
                "add it to include/nyc_taxi/catalogue/fleets.py, then load these months again."
            ),
            (
                "green: the files of 2023-04 to 2023-05 (2 months) have 2 columns that the warehouse leaves out: "
                "hat, mood; add them to include/nyc_taxi/catalogue/fleets.py, then load these months again."
            ),
        ]

    def test_name_a_gap_and_the_command_that_closes_it(self):
        assert self.sentences("2023-03", "2023-07", loaded("2023-03", "2023-07")) == [
            "green: 2 of 5 months loaded from 2023-03 to 2023-07; last load 3 days ago.",
            (
                "green: 2023-04 to 2023-06 are missing between 2023-03 and 2023-07; "
                "`make backfill FLEET=green FROM=2023-04 TO=2023-06` loads them."
            ),
        ]

    def test_name_each_gap(self):
        found = self.sentences("2023-01", "2023-06", loaded("2023-02", "2023-04", "2023-06"))
        assert [line.split(";")[0] for line in found[1:]] == [
            "green: 2023-01 is missing before 2023-02",
            "green: 2023-03 is missing between 2023-02 and 2023-04",
            "green: 2023-05 is missing between 2023-04 and 2023-06",
        ]
        assert found[1].endswith("`make backfill FLEET=green FROM=2023-01 TO=2023-01` loads it.")

    def test_name_a_gap_that_the_site_cannot_close(self):
        found = self.sentences("2023-01", "2023-03", loaded("2023-01", "2023-03"), {"2023-02": Answer(published=False)})
        assert found[1:] == ["green: 2023-02 is missing between 2023-01 and 2023-03: the TLC's site does not have it."]

    def test_name_months_that_are_published_and_not_loaded(self):
        answers = {"2023-02": Answer(published=True), "2023-03": Answer(published=True)}
        assert self.sentences("2023-01", "2023-03", loaded("2023-01"), answers)[1:] == [
            (
                "green: 2023-02 to 2023-03 are published but not loaded; "
                "`make backfill FLEET=green FROM=2023-02 TO=2023-03` loads them."
            )
        ]

    def test_name_failed_months_with_their_tasks_and_where_they_are_missing(self):
        runs = [run("2023-01"), run("2023-02"), run("2023-03", failed=("map",)), run("2023-04", failed=("map",))]
        fix = "fix the cause given in the task's log, then run"
        assert self.sentences("2023-01", "2023-05", loaded("2023-03", "2023-04"), runs=[*runs, run("2023-05")])[1:] == [
            (
                "green: 2023-01 to 2023-02 failed in load and are missing before 2023-03; "
                f"{fix} `make backfill FLEET=green FROM=2023-01 TO=2023-02`."
            ),
            (
                "green: 2023-03 to 2023-04 are loaded, but their last runs failed in map; "
                f"{fix} `make backfill FLEET=green FROM=2023-03 TO=2023-04`."
            ),
            f"green: 2023-05 failed in load; {fix} `make backfill FLEET=green FROM=2023-05 TO=2023-05`.",
        ]

    def test_name_a_loaded_month_whose_last_run_failed(self):
        assert self.sentences("2023-01", "2023-01", loaded("2023-01"), runs=[run("2023-01", failed=("download",))])[
            1:
        ] == [
            (
                "green: 2023-01 is loaded, but its last run failed in download; fix the cause given in the task's log, "
                "then run `make backfill FLEET=green FROM=2023-01 TO=2023-01`."
            )
        ]

    def test_name_months_whose_last_run_was_cancelled_and_the_command_that_loads_them(self):
        runs = [cancelled(month) for month in month_range("2023-01", "2023-05")]
        assert self.sentences("2023-01", "2023-05", loaded("2023-02", "2023-03"), runs=runs)[1:] == [
            (
                "green: 2023-01 is missing before 2023-02: its last run was cancelled; "
                "`make backfill FLEET=green FROM=2023-01 TO=2023-01` loads it."
            ),
            (
                "green: 2023-02 to 2023-03 are loaded, and their last runs were cancelled; "
                "`make backfill FLEET=green FROM=2023-02 TO=2023-03` runs them again."
            ),
            (
                "green: 2023-04 to 2023-05 are not loaded: their last runs were cancelled; "
                "`make backfill FLEET=green FROM=2023-04 TO=2023-05` loads them."
            ),
        ]

    def test_name_a_newer_edition_that_is_not_loaded(self, download):
        download("2023-01", etag="other", last_modified=LATER)
        assert self.sentences("2023-01", "2023-01", loaded("2023-01"))[1:] == [
            (
                "green: raw/ has a newer edition of 2023-01 than the warehouse; "
                "`make backfill FLEET=green FROM=2023-01 TO=2023-01` loads it."
            )
        ]

    def test_are_told_fleet_by_fleet_and_group_only_months_that_follow_one_another(self):
        months = freshness.fleet_status("green", ["2021-05", "2023-01"], {}, {}, [run("2021-05"), run("2023-01")], NOW)
        months += freshness.fleet_status("yellow", ["2023-01"], loaded("2023-01"), {}, [], NOW)
        assert [line.split(";")[0] for line in text.sentences(months, "make backfill")] == [
            "green: nothing is loaded yet.",
            "green: 2021-05 failed in load",
            "green: 2023-01 failed in load",
            "yellow: 1 month loaded, 2023-01",
        ]


def test_only_files_that_are_here_are_looked_at(download, monkeypatch):
    """The page of the warehouse judges all months every few seconds, and the data directory may be far away."""
    asked = []
    monkeypatch.setattr(freshness, "read_edition", lambda path: asked.append(path.name) or read_edition(path))
    assert {month.downloaded for month in judge("2023-01", "2023-03", {})} == {None}
    download("2023-02", size=7)
    assert [month.downloaded for month in judge("2023-01", "2023-03", {})] == [None, 7, None]
    assert asked == ["green_tripdata_2023-02.parquet"]


def test_the_whole_archive_is_judged_at_once():
    """Ten times the months take about ten times the calls of functions, not a hundred times as many."""

    def calls(months):
        counted = itertools.count()
        sys.setprofile(lambda frame, event, argument: next(counted) if event in ("call", "c_call") else None)
        try:
            found = freshness.fleet_status("green", months, loaded(*months), {}, [], NOW)
            table, sentences = text.render(found), text.sentences(found, "make backfill")
        finally:
            sys.setprofile(None)
        assert len(table.splitlines()) == len(months) + 2
        assert len(sentences) == 1
        return next(counted)

    months = month_range(catalogue.fleet("green").first_month, "2033-12")
    assert calls(months) < 20 * calls(months[: len(months) // 10])
