"""The month or week that a run covers."""

import datetime
import json

import pendulum
import pytest
from airflow.models.dagrun import DagRun
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.utils.types import DagRunType

from calendar_timetables import START_DATE, CalendarMonthTimetable, CalendarWeekTimetable, written_dates
from include.orchestration.compat import IS_AIRFLOW_3

if IS_AIRFLOW_3:
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable
else:
    from airflow.serialization.serialized_objects import decode_timetable, encode_timetable

TIMETABLES = [CalendarMonthTimetable, CalendarWeekTimetable]


def utc(text):
    return pendulum.parse(text, tz="UTC")


def days(interval):
    return f"{interval.start:%Y-%m-%d} {interval.end:%Y-%m-%d}"


def scheduled(timetable, first, last, catchup=True):
    """The data intervals of all scheduled runs from `first` to `last`, as the scheduler asks for them."""
    restriction = TimeRestriction(earliest=utc(first), latest=utc(last), catchup=catchup)
    interval, found = None, []
    while info := timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction):
        interval = info.data_interval
        found.append(info)
    return found


def name_of(timetable, kind, info):
    """The name of a run that Airflow makes: the timetable's own, and on Airflow 3 what a backfill calls it."""
    kind = DagRunType(kind)
    if not IS_AIRFLOW_3:
        return timetable.generate_run_id(
            run_type=kind, logical_date=info.logical_date, data_interval=info.data_interval
        )
    if kind == DagRunType.BACKFILL_JOB:
        return DagRun.generate_run_id(run_type=kind, logical_date=info.logical_date, run_after=info.run_after)
    return timetable.generate_run_id(run_type=kind, run_after=info.run_after, data_interval=info.data_interval)


@pytest.mark.parametrize(
    ("date", "month"),
    [
        ("2024-03-01T00:00:00", "2024-03-01 2024-04-01"),
        ("2024-03-15T12:34:56", "2024-03-01 2024-04-01"),
        ("2024-03-31T23:59:59.999999", "2024-03-01 2024-04-01"),
        ("2024-04-01T00:00:00", "2024-04-01 2024-05-01"),
        ("2024-02-29T23:59:59", "2024-02-01 2024-03-01"),
        ("2023-02-28T23:59:59", "2023-02-01 2023-03-01"),
        ("2023-12-31T23:59:59", "2023-12-01 2024-01-01"),
        ("2024-01-01T00:00:00", "2024-01-01 2024-02-01"),
    ],
)
def test_a_manual_run_covers_the_month_that_contains_its_date(date, month):
    assert days(CalendarMonthTimetable().infer_manual_data_interval(run_after=utc(date))) == month


@pytest.mark.parametrize(
    ("date", "week"),
    [
        ("2024-02-26T00:00:00", "2024-02-26 2024-03-04"),
        ("2024-03-03T23:59:59.999999", "2024-02-26 2024-03-04"),
        ("2024-03-04T00:00:00", "2024-03-04 2024-03-11"),
        ("2023-01-01T12:00:00", "2022-12-26 2023-01-02"),
        ("2024-12-31T12:00:00", "2024-12-30 2025-01-06"),
        ("2025-01-01T00:00:00", "2024-12-30 2025-01-06"),
    ],
)
def test_a_manual_run_covers_the_iso_week_that_contains_its_date(date, week):
    interval = CalendarWeekTimetable().infer_manual_data_interval(run_after=utc(date))
    assert days(interval) == week
    assert interval.start.isoweekday() == 1
    assert utc(date).isocalendar()[:2] == interval.start.isocalendar()[:2]


def test_a_date_of_another_time_zone_means_the_month_in_utc():
    date = pendulum.parse("2024-03-01T00:30:00+02:00")
    assert days(CalendarMonthTimetable().infer_manual_data_interval(run_after=date)) == "2024-02-01 2024-03-01"


def test_a_scheduled_run_covers_a_whole_month_and_is_created_when_the_month_has_ended():
    runs = scheduled(CalendarMonthTimetable(), "2023-11-01", "2024-03-01")
    assert [days(run.data_interval) for run in runs] == [
        "2023-11-01 2023-12-01",
        "2023-12-01 2024-01-01",
        "2024-01-01 2024-02-01",
        "2024-02-01 2024-03-01",
        "2024-03-01 2024-04-01",
    ]
    assert [f"{run.run_after}" for run in runs] == [
        "2023-11-30 23:59:59+00:00",
        "2023-12-31 23:59:59+00:00",
        "2024-01-31 23:59:59+00:00",
        "2024-02-29 23:59:59+00:00",
        "2024-03-31 23:59:59+00:00",
    ]


def test_a_scheduled_run_covers_a_whole_week_and_is_created_when_the_week_has_ended():
    runs = scheduled(CalendarWeekTimetable(), "2024-12-23", "2025-01-07")
    assert [days(run.data_interval) for run in runs] == [
        "2024-12-23 2024-12-30",
        "2024-12-30 2025-01-06",
        "2025-01-06 2025-01-13",
    ][: len(runs)]
    assert len(runs) == 3
    assert [f"{run.run_after:%a %Y-%m-%d %H:%M:%S}" for run in runs] == [
        "Sun 2024-12-29 23:59:59",
        "Sun 2025-01-05 23:59:59",
        "Sun 2025-01-12 23:59:59",
    ]


@pytest.mark.parametrize("timetable", TIMETABLES)
@pytest.mark.parametrize("kind", ["scheduled", "backfill"])
def test_a_runs_name_has_a_date_in_its_interval_and_is_unique(timetable, kind):
    runs = scheduled(timetable(), "2023-11-01", "2025-03-31")
    names = [name_of(timetable(), kind, info) for info in runs]
    for name, info in zip(names, runs, strict=True):
        date = pendulum.parse(name.removeprefix(f"{kind}__"))
        assert info.data_interval.start <= date < info.data_interval.end
    # Of runs that an earlier version has made; one of the next month must not meet it.
    before = {f"{kind}__{info.data_interval.end.isoformat()}" for info in runs} if IS_AIRFLOW_3 else set()
    assert len({*names, *before}) == len(names) + len(before)


@pytest.mark.parametrize("timetable", TIMETABLES)
def test_a_manual_run_for_the_date_of_a_scheduled_one_covers_the_same_interval(timetable):
    runs = scheduled(timetable(), "2023-11-01", "2025-03-31")
    assert len(runs) >= 17
    for run in runs:
        for date in (run.logical_date, run.data_interval.end.subtract(microseconds=1)):
            assert timetable().infer_manual_data_interval(run_after=date) == run.data_interval


@pytest.mark.parametrize("timetable", TIMETABLES)
def test_without_catchup_the_first_run_covers_the_latest_interval_that_has_ended(timetable):
    before = pendulum.now("UTC")
    restriction = TimeRestriction(earliest=utc("2020-01-01"), latest=None, catchup=False)
    info = timetable().next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    following = timetable().infer_manual_data_interval(run_after=info.data_interval.end)
    assert info.data_interval.end <= pendulum.now("UTC")
    assert following.end > before
    assert info.data_interval == timetable().infer_manual_data_interval(run_after=info.data_interval.start)


@pytest.mark.parametrize("timetable", TIMETABLES)
def test_with_catchup_the_run_after_a_given_one_follows_without_a_gap(timetable):
    first = timetable().infer_manual_data_interval(run_after=utc("2023-05-10"))
    restriction = TimeRestriction(earliest=utc("2020-01-01"), latest=None, catchup=True)
    info = timetable().next_dagrun_info(last_automated_data_interval=first, restriction=restriction)
    assert info.data_interval == DataInterval(start=first.end, end=info.data_interval.end)
    assert info.data_interval.end > first.end


@pytest.mark.parametrize("timetable", TIMETABLES)
def test_airflow_restores_it_from_its_database(timetable):
    encoded = json.loads(json.dumps(encode_timetable(timetable())))
    restored = decode_timetable(encoded)
    assert type(restored).__name__ == timetable.__name__
    for text in ("2024-02-29T12:00:00", "2024-12-31T23:59:59"):
        expected = timetable().infer_manual_data_interval(run_after=utc(text))
        assert restored.infer_manual_data_interval(run_after=utc(text)) == expected
    assert encode_timetable(restored) == encoded
    assert restored.summary == timetable().summary


@pytest.mark.parametrize("timetable", TIMETABLES)
def test_the_web_ui_shows_its_own_description(timetable):
    assert timetable().description == timetable.description
    assert timetable.description.startswith("One run per")


@pytest.fixture(params=["utc", "UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Europe/London"])
def zone(request, monkeypatch):
    """`[core] default_timezone`, as Airflow reads a date without an offset in it."""
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", request.param)
    return request.param


def written(text, zone):
    """As `airflow … <text>` reads it, and as the metadata database gives it back."""
    return pendulum.parse(text, tz=zone.lower() if zone == "UTC" else zone).in_timezone("UTC")


class TestDefaultTimezone:
    """A date means the month or week that contains it, whatever Airflow's default time zone is."""

    @pytest.mark.parametrize("date", ["2023-01-01", "2023-02-01", "2023-02-15", "2023-02-28", "2023-07-31"])
    def test_a_manual_run_of_a_date(self, zone, date):
        month, monday = pendulum.parse(date).start_of("month"), pendulum.parse(date).start_of("week")
        for text in (written(date, zone), pendulum.parse(f"{date}T00:00:00+00:00")):
            assert written_dates(text) == {datetime.date.fromisoformat(date)}
            assert CalendarMonthTimetable().infer_manual_data_interval(run_after=text).start == month
            assert CalendarWeekTimetable().infer_manual_data_interval(run_after=text).start == monday

    def test_the_schedule_is_in_utc(self, zone):
        assert zone
        first = CalendarMonthTimetable(first=datetime.date(2023, 2, 1))
        found = scheduled(first, START_DATE.isoformat(), "2023-04-01")
        assert [days(info.data_interval)[:10] for info in found] == ["2023-02-01", "2023-03-01", "2023-04-01"]
        assert [written_dates(info.logical_date) for info in found] == [
            {datetime.date(2023, number, 1)} for number in (2, 3, 4)
        ]

    @pytest.mark.parametrize(("first", "last"), [("2023-01-01", "2023-03-01"), ("2023-01-15", "2023-03-31")])
    def test_a_backfill_includes_the_months_of_its_first_and_last_dates(self, zone, first, last):
        restriction = TimeRestriction(written(first, zone), written(last, zone), catchup=True)
        interval, found = None, []
        while info := CalendarMonthTimetable().next_dagrun_info(
            last_automated_data_interval=interval, restriction=restriction
        ):
            interval = info.data_interval
            found.append(days(interval)[:10])
        assert found == ["2023-01-01", "2023-02-01", "2023-03-01"]

    def test_an_ambiguous_moment_has_both_dates(self, monkeypatch):
        monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "America/New_York")
        assert written_dates(utc("2023-02-01T02:00:00")) == {datetime.date(2023, 1, 31), datetime.date(2023, 2, 1)}
        assert written_dates(utc("2023-02-01T12:00:00")) == {datetime.date(2023, 2, 1)}


class TestFirst:
    """A schedule may begin later than the DAG's start date, and a backfill may begin before the schedule."""

    first = CalendarMonthTimetable(first=datetime.date(2023, 2, 1))

    def test_the_schedule_begins_there(self):
        found = scheduled(self.first, START_DATE.isoformat(), "2023-04-01")
        assert [days(info.data_interval)[:10] for info in found] == ["2023-02-01", "2023-03-01", "2023-04-01"]

    def test_a_run_before_it_does_not_make_the_schedule_begin_earlier(self):
        before = DataInterval(utc("2021-01-01"), utc("2021-02-01"))
        restriction = TimeRestriction(earliest=START_DATE, latest=None, catchup=True)
        info = self.first.next_dagrun_info(last_automated_data_interval=before, restriction=restriction)
        assert days(info.data_interval) == "2023-02-01 2023-03-01"

    def test_a_backfill_may_begin_before_it(self):
        found = scheduled(self.first, "2022-12-01", "2023-01-01")
        assert [days(info.data_interval)[:10] for info in found] == ["2022-12-01", "2023-01-01"]

    def test_it_survives_serialization(self):
        assert decode_timetable(json.loads(json.dumps(encode_timetable(self.first)))).first == self.first.first


class TestAScheduleThatABackfillHoldsBack:
    """`make backfill` unpauses a paused DAG beside a running scheduler: only the requested runs may start."""

    @pytest.fixture(autouse=True)
    def note(self, tmp_path, monkeypatch):
        # Of the timetable that Airflow restores: its plugin manager may have another copy of the module than this test.
        restored = decode_timetable(encode_timetable(CalendarMonthTimetable()))
        monkeypatch.setitem(type(restored).next_dagrun_info.__globals__, "AIRFLOW_HOME", str(tmp_path))
        self.path = tmp_path / "backfill.json"

    def intervals(self, dag_id, first="2000-01-01"):
        timetable = decode_timetable(encode_timetable(CalendarMonthTimetable(datetime.date(2023, 1, 1), dag_id)))
        return len(scheduled(timetable, first, "2023-03-01"))

    def test_it_creates_no_run_while_the_command_is_running_and_resumes_afterwards(self):
        assert self.intervals("taxi_trips_green") == 3
        self.path.write_text(json.dumps({"dag_id": "taxi_trips_green", "was_paused": True}))
        assert self.intervals("taxi_trips_green") == 0
        self.path.unlink()
        assert self.intervals("taxi_trips_green") == 3

    def test_a_backfill_itself_gets_its_runs(self):
        self.path.write_text(json.dumps({"dag_id": "taxi_trips_green", "was_paused": True}))
        assert self.intervals("taxi_trips_green", first="2023-01-01") == 3

    @pytest.mark.parametrize(("dag_id", "was_paused"), [("taxi_trips_green", False), ("taxi_trips_yellow", True)])
    def test_a_dag_that_the_user_has_unpaused_and_other_dags_continue(self, dag_id, was_paused):
        self.path.write_text(json.dumps({"dag_id": dag_id, "was_paused": was_paused}))
        assert self.intervals("taxi_trips_green") == 3
