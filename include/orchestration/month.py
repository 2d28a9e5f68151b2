"""The month of a run, which is its partition key, as a template for the arguments of tasks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Param

from calendar_timetables import written_dates
from include.nyc_taxi.months import PATTERN, Month
from include.orchestration.retry_policy import no_retry_when_permanent

OWN_DATE = ("scheduled", "backfill")
"""The types of runs that Airflow creates for a date, which determines their month. Manual runs may name any month."""

MAY_BEGIN_EARLY = timedelta(hours=1)
"""A scheduled run is created in the last second of its month or week (see calendar_timetables)."""

MONTH = "{{ logical_month(params, dag_run) }}"
"""Renders as the run's month, "2023-02", if the DAG has MACROS in its `user_defined_macros`."""


def month_param() -> Param:
    """The form field `month`. If it is empty, the run loads the month that contains its logical date."""
    return Param(
        None,
        type=["null", "string"],
        pattern=PATTERN,
        title="Month",
        description=(
            "A month that has ended, as YYYY-MM, for example 2023-02. If empty, the month that contains the logical "
            "date. Leave this empty in a backfill, because each of its runs has its own month. "
            "If the DAG is paused, unpausing it here also starts the catch-up on its schedule."
        ),
    )


def accept_param() -> Param:
    """The form field `accept`, with which a run loads an edition that the audit has refused."""
    return Param(
        False,
        type="boolean",
        title="Accept this edition",
        description=(
            "Load the file even if the audit refuses it. Look at the file first: the log of the refused load and "
            "`make quality` say what is wrong with it."
        ),
    )


def again_param() -> Param:
    """The form field `again`, with which a run of a month that is up to date loads it again."""
    return Param(
        False,
        type="boolean",
        title="Load again",
        description="Load the month again even if it is loaded and the TLC has published nothing new since.",
    )


@no_retry_when_permanent
def logical_month(params: Mapping[str, Any], dag_run: Any) -> str:
    """Return the run's month: `month` in its parameters, or else the month that contains its logical date.

    The data interval is not used, because 3.3's `airflow dags trigger --logical-date` derives it from the time of the
    call.

    Raises:
        AirflowFailException: no retry can help. The run has neither a month nor a logical date; its date is in
            different months in UTC and in Airflow's default time zone; it is a scheduled or backfill run whose `month`
            contradicts its date; or the month has not ended.
    """
    own = _months_of(dag_run.logical_date) if dag_run.logical_date else []
    if params.get("month"):
        month = str(params["month"])
        refuse_contradiction(dag_run, "month", month, own)
    else:
        month = of_its_date(dag_run, "month", own, "2023-02")
    if not has_ended(Month(month).end):
        raise AirflowFailException(
            f"{month} has not ended: the TLC publishes a month about two months after its end. "
            "Trigger it then, or leave it to the schedule"
        )
    return month


def of_its_date(dag_run: Any, name: str, own: list[str], example: str) -> str:
    """Return the one month or week that the run's logical date means.

    Args:
        name: "month" or "week".
        own: the months or weeks that the date can mean; none if there is no date.
        example: a month or week for the message.

    Raises:
        AirflowFailException: there is none, or more than one.
    """
    if len(own) == 1:
        return own[0]
    if own:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has the logical date {dag_run.logical_date}, which is in the {name} "
            f"{' or '.join(own)}, in UTC or in Airflow's default time zone: trigger it again with a date without a "
            f"""time, or with --conf '{{"{name}": "{own[0]}"}}'"""
        )
    raise AirflowFailException(
        f"the run {dag_run.run_id} has no logical date and no {name}: trigger it again "
        f"""with a {name} in the form, or with --conf '{{"{name}": "{example}"}}'"""
    )


def refuse_contradiction(dag_run: Any, name: str, chosen: str, own: list[str]) -> None:
    """Refuse a scheduled or backfill run whose parameters name a month or week other than that of its date.

    The web UI's form for backfills also has the DAG's fields, and passes their values to every run of the backfill.

    Args:
        name: the name of the parameter.
        chosen: the month or week that the parameter names.
        own: the months or weeks that the run's logical date can mean.

    Raises:
        AirflowFailException: `chosen` is not in `own`.
    """
    if is_for_its_date(dag_run) and chosen not in own:
        raise AirflowFailException(
            f"{dag_run.run_id} is the run of {' or '.join(own)}, but its `{name}` says {chosen}: leave that field of "
            f"the form empty in a backfill (and in --dag-run-conf), or trigger the DAG by hand for {chosen}"
        )


def has_ended(end: date) -> bool:
    """Whether a month or week has ended (UTC), given the first day after it."""
    return end <= (datetime.now(UTC) + MAY_BEGIN_EARLY).date()


def is_backfill_or_cleared(dag_run: Any, task: Any, ti: Any) -> bool:
    """Whether somebody wants the task's work done again: the run is a backfill's, or the task has been cleared."""
    # Clearing a task raises `max_tries`, and a retry does not.
    return _run_type(dag_run) == "backfill" or int(ti.max_tries) > int(task.retries)


def is_for_its_date(dag_run: Any) -> bool:
    """Whether Airflow has created the run for its date, so that its parameters may not name another month or week."""
    return _run_type(dag_run) in OWN_DATE


def _run_type(dag_run: Any) -> str:
    return str(getattr(dag_run.run_type, "value", dag_run.run_type))


def month_of_run(dag_run: Any) -> str | None:
    """Return the month of any run, or None if it has neither a month nor a logical date."""
    is_own = dag_run.logical_date and is_for_its_date(dag_run)
    return chosen_month({} if is_own else dag_run.conf or {}, dag_run.logical_date)


def chosen_month(conf: Mapping[str, Any], logical_date: datetime | None) -> str | None:
    """Return `month` in a run's configuration, or else the month that contains its logical date, or else None."""
    if chosen := conf.get("month"):
        return str(chosen)
    return " or ".join(_months_of(logical_date)) if logical_date else None


def _months_of(moment: datetime) -> list[str]:
    return [*_months_of_date(moment)]


@functools.lru_cache(maxsize=10_000)  # the runs of all fleets have the same dates, and each takes a tenth of a ms
def _months_of_date(moment: datetime) -> tuple[str, ...]:
    return tuple(sorted({Month.of(day) for day in written_dates(moment)}))


MACROS = {"logical_month": logical_month}
