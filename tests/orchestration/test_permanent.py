"""Errors that no retry can mend."""

import inspect

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from include.nyc_taxi import errors
from include.orchestration.permanent import no_retry_when_permanent

PERMANENT = [
    errors.DamagedFileError,
    errors.FleetError,
    errors.LayoutError,
    errors.MonthError,
    errors.QualityError,
    errors.RequestError,
    errors.SettingError,
    errors.WeekError,
    errors.ZonesError,
]
RETRIED = [errors.DownloadError, errors.NotPublishedError, errors.LoadError, OSError, ValueError, KeyboardInterrupt]


def raising(error):
    @no_retry_when_permanent
    def task():
        raise error

    return task


@pytest.mark.parametrize("kind", PERMANENT)
def test_a_wrong_input_fails_the_task_for_good_with_its_own_words(kind):
    with pytest.raises(AirflowFailException, match="what is wrong") as error:
        raising(kind("what is wrong"))()
    assert isinstance(error.value.__cause__, kind)


@pytest.mark.parametrize("kind", RETRIED)
def test_what_may_be_better_in_a_minute_comes_through_and_is_retried(kind):
    with pytest.raises(kind, match="not now"):
        raising(kind("not now"))()


def test_every_error_of_the_package_is_one_or_the_other():
    ours = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)} - {errors.NycTaxiError}
    assert ours <= {*PERMANENT, *RETRIED}, "please add the new error here, and to permanent.py if no retry can mend it"


def test_a_task_that_succeeds_keeps_its_arguments_result_name_and_signature():
    @no_retry_when_permanent
    def load(fleet, month, outlet_events=None):
        """Load it."""
        return fleet, month, outlet_events

    assert load("green", month="2023-02") == ("green", "2023-02", None)
    assert load.__name__ == "load"
    # Airflow reads the signature to know which parts of the context to hand in.
    assert list(inspect.signature(load).parameters) == ["fleet", "month", "outlet_events"]
