"""Which month a run is about: its partition key, as a template for every task's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Param

from calendar_timetables import written_dates
from include.nyc_taxi.months import PATTERN, Month
from include.orchestration.retry_policy import no_retry_when_permanent

OWN_DATE = ("scheduled", "backfill")
"""The types of runs that Airflow makes for a date, which decides. A run made by hand may have any date and a month."""

MAY_BEGIN_EARLY = timedelta(hours=1)
"""A scheduled run is made in its month's or week's last second (see calendar_timetables): that counts as ended."""

MONTH = "{{ logical_month(params, dag_run) }}"
"""Renders to the run's month, "2023-02". Needs MACROS in the DAG's `user_defined_macros`."""


def month_param() -> Param:
    """The form field of a manual trigger: empty means the month that contains the run's logical date."""
    return Param(
        None,
        type=["null", "string"],
        pattern=PATTERN,
        title="Month",
        description=(
            "YYYY-MM, for example 2023-02; a month that has ended. Empty: the month that contains the logical date. "
            "Leave it empty in a backfill, whose runs each have their own month. "
            "Where the DAG is paused, unpausing it with the trigger also starts the catch-up on its schedule."
        ),
    )


def accept_param() -> Param:
    """The form field that has a refused edition loaded all the same, for the runs that it is filled in for."""
    return Param(
        False,
        type="boolean",
        title="Accept this edition",
        description=(
            "Load the file even if the audit refuses it. Only for a month whose file you have looked at: the log "
            "of the refused load, and `make quality`, say what is wrong with it."
        ),
    )


@no_retry_when_permanent
def logical_month(params: Mapping[str, Any], dag_run: Any) -> str:
    """The run's month: `month` of its parameters, else the month that contains its logical date.

    Not its data interval: on 3.3 `airflow dags trigger --logical-date` makes that from the time of the call.

    Raises:
        AirflowFailException: the run has neither (a manual run without a logical date); its date lies in one month in
            UTC and in another in Airflow's default time zone; it is a scheduled or backfill run whose `month` is
            another one than its date's; the month has not ended. No retry will help.
    """
    own = _months_of(dag_run.logical_date) if dag_run.logical_date else []
    if params.get("month"):
        month = str(params["month"])
        refuse_contradiction(dag_run, "month", month, own)
    elif len(own) == 1:
        month = own[0]
    elif own:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has the logical date {dag_run.logical_date}, which lies in "
            f"{' or '.join(own)}, in UTC or in Airflow's default time zone: trigger it again with a date without a "
            f"""time, or with --conf '{{"month": "{own[0]}"}}'"""
        )
    else:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has no logical date and no month: trigger it again "
            """with a month in the form, or with --conf '{"month": "2023-02"}'"""
        )
    if not has_ended(Month(month).end):
        raise AirflowFailException(
            f"{month} has not ended: the TLC publishes a month about two months after its end. "
            "Trigger it then, or leave it to the schedule"
        )
    return month


def refuse_contradiction(dag_run: Any, name: str, chosen: str, own: list[str]) -> None:
    """Refuse a run that Airflow has made for a date, and whose parameters say another month or week than that date's.

    The form of the web UI's backfill has the DAG's fields too, and hands what is filled in on to each of its runs.

    Args:
        name: the parameter's.
        chosen: what the run is to be about.
        own: what its logical date may say.

    Raises:
        AirflowFailException: they differ.
    """
    run_type = getattr(dag_run.run_type, "value", dag_run.run_type)
    if run_type in OWN_DATE and chosen not in own:
        raise AirflowFailException(
            f"{dag_run.run_id} is the run of {' or '.join(own)}, but its `{name}` says {chosen}: leave that field of "
            f"the form empty in a backfill (in --dag-run-conf too), or trigger the DAG by hand for {chosen}"
        )


def has_ended(end: date) -> bool:
    """Whether a month or week with this exclusive end has ended (UTC)."""
    return end <= (datetime.now(UTC) + MAY_BEGIN_EARLY).date()


def is_backfill_or_cleared(dag_run: Any, task: Any, ti: Any) -> bool:
    """Whether somebody has asked for this very run: it is a backfill's, or its task has been cleared after a try."""
    # A retry leaves `max_tries` as it was; clearing counts from there on.
    return getattr(dag_run.run_type, "value", dag_run.run_type) == "backfill" or ti.max_tries > task.retries


def month_of_run(dag_run: Any) -> str | None:
    """The month that a run is about, seen from outside; None: it has neither a month nor a logical date."""
    is_own = dag_run.logical_date and getattr(dag_run.run_type, "value", dag_run.run_type) in OWN_DATE
    return chosen_month({} if is_own else dag_run.conf or {}, dag_run.logical_date)


def chosen_month(conf: Mapping[str, Any], logical_date: datetime | None) -> str | None:
    """`month` of a run's configuration, else the month that contains its logical date, else None."""
    if chosen := conf.get("month"):
        return str(chosen)
    return " or ".join(_months_of(logical_date)) if logical_date else None


def _months_of(moment: datetime) -> list[str]:
    return sorted({Month.of(day) for day in written_dates(moment)})


MACROS = {"logical_month": logical_month}
