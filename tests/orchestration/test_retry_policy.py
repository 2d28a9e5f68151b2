"""Errors that no retry can fix."""

import importlib
import inspect
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from include.nyc_taxi import errors
from include.nyc_taxi.audit import engine
from include.nyc_taxi.reports import marts, request_inbox
from include.nyc_taxi.source import download
from include.nyc_taxi.status import editions
from include.nyc_taxi.warehouse import compact, lake, migrate
from include.orchestration import dbt_failure
from include.orchestration.retry_policy import no_retry_when_permanent
from tests.conftest import ROOT

PERMANENT = [
    request_inbox.LedgerError,
    compact.CompactError,
    dbt_failure.DbtModelError,
    editions.AnswersError,
    errors.DamagedFileError,
    errors.FleetError,
    errors.LayoutError,
    errors.MissingDataError,
    errors.MonthError,
    errors.NotPublishedError,
    engine.QualityError,
    errors.RefusedError,
    errors.RequestError,
    errors.SettingError,
    errors.UnloadableFileError,
    errors.WeekError,
    errors.ZonesError,
    lake.LakeStateError,
    marts.MartError,
    migrate.MigrateError,
]
RETRIED = [
    dbt_failure.DbtError,
    download.TransientDownloadError,
    editions.SiteError,
    errors.DownloadError,
    errors.LoadError,
    lake.LakeError,
]


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


@pytest.mark.parametrize("kind", [*RETRIED, OSError, ValueError, KeyboardInterrupt])
def test_what_may_be_better_in_a_minute_comes_through_and_is_retried(kind):
    with pytest.raises(kind, match="not now"):
        raising(kind("not now"))()


def derived(kind):
    return {kind, *(each for direct in kind.__subclasses__() for each in derived(direct))}


def test_every_error_of_the_package_is_one_or_the_other():
    for path in Path(ROOT, "include", "nyc_taxi").rglob("*.py"):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    ours = {kind for kind in derived(errors.NycTaxiError) if kind.__module__.startswith("include.")}
    assert ours - {errors.NycTaxiError} == {*PERMANENT, *RETRIED}, "please add the new error to the list it belongs to"


def test_an_error_that_does_not_say_whether_a_retry_can_help_cannot_be_defined():
    with pytest.raises(TypeError, match="permanent"):
        type("NewError", (errors.LoadError,), {})


def test_a_task_that_succeeds_keeps_its_arguments_result_name_and_signature():
    @no_retry_when_permanent
    def load(fleet, month, outlet_events=None):
        """Load it."""
        return fleet, month, outlet_events

    assert load("green", month="2023-02") == ("green", "2023-02", None)
    assert load.__name__ == "load"
    # Airflow reads the signature to find out which parts of the context to pass.
    assert list(inspect.signature(load).parameters) == ["fleet", "month", "outlet_events"]
