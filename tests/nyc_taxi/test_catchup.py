"""Where a fleet's catch-up begins."""

from datetime import date, timedelta

import pytest

from include.nyc_taxi import catalogue, catchup
from include.nyc_taxi.errors import SettingError


@pytest.mark.parametrize(
    ("setting", "fleet", "start", "monday"),
    [
        (None, "green", date(2023, 1, 1), date(2023, 1, 2)),  # 2023-01-01 is in a week of 2022-12
        ("2024-01", "green", date(2024, 1, 1), date(2024, 1, 1)),  # a Monday itself
        ("2009-01", "green", date(2014, 1, 1), date(2014, 1, 6)),  # the TLC's first green file is of 2014-01
        ("2009-01", "yellow", date(2009, 1, 1), date(2009, 1, 5)),
    ],
)
def test_it_begins_with_the_first_month_and_the_first_week_entirely_in_it(monkeypatch, setting, fleet, start, monday):
    if setting:
        monkeypatch.setenv("NYC_TAXI_FIRST_MONTH", setting)
    assert catchup.start(fleet) == start
    assert catchup.first_monday(fleet) == monday


@pytest.mark.parametrize("fleet", catalogue.FLEETS)
@pytest.mark.parametrize("month", range(1, 13))
def test_no_week_is_left_out_and_none_needs_an_earlier_month(monkeypatch, fleet, month):
    monkeypatch.setenv("NYC_TAXI_FIRST_MONTH", f"2023-{month:02}")
    start, monday = catchup.start(fleet), catchup.first_monday(fleet)
    assert monday.weekday() == 0
    assert timedelta(0) <= monday - start < timedelta(days=7)


def test_a_setting_that_is_no_month_is_refused(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_FIRST_MONTH", "January")
    with pytest.raises(SettingError, match="NYC_TAXI_FIRST_MONTH"):
        catchup.start("green")
