"""Which month a run is about: its partition key, as a template for every task's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Param

from include.nyc_taxi.months import PATTERN, month_of, next_first_day

OWN_DATE = ("scheduled", "backfill")
"""The types of runs that Airflow makes for a date, which decides. A run made by hand may have any date and a month."""

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


def logical_month(params: Mapping[str, Any], dag_run: Any) -> str:
    """The run's month: `month` of its parameters, else the month that contains its logical date.

    Not its data interval: on 3.3 `airflow dags trigger --logical-date` makes that from the time of the call.

    Raises:
        AirflowFailException: the run has neither (a manual run without a logical date); it is a scheduled or backfill
            run whose `month` is another one than its date's; the month has not ended. No retry will help.
    """
    month = chosen_month(params, dag_run.logical_date)
    refuse_contradiction(dag_run, "month", month, dag_run.logical_date and month_of(dag_run.logical_date))
    if month is not None and next_first_day(month) > datetime.now(UTC).date():
        raise AirflowFailException(
            f"{month} has not ended: the TLC publishes a month about two months after its end. "
            "Trigger it then, or leave it to the schedule"
        )
    if month is None:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has no logical date and no month: trigger it again "
            """with a month in the form, or with --conf '{"month": "2023-02"}'"""
        )
    return month


def refuse_contradiction(dag_run: Any, name: str, chosen: str | None, own: str | None) -> None:
    """Refuse a run that Airflow has made for a date, and whose parameters say another month or week than that date's.

    The form of the web UI's backfill has the DAG's fields too, and hands what is filled in on to each of its runs.

    Args:
        name: the parameter's.
        chosen, own: what the run is to be about, and what its logical date says.

    Raises:
        AirflowFailException: they differ.
    """
    run_type = getattr(dag_run.run_type, "value", dag_run.run_type)
    if run_type in OWN_DATE and chosen != own:
        raise AirflowFailException(
            f"{dag_run.run_id} is the run of {own}, but its `{name}` says {chosen}: leave that field of the form empty "
            f"in a backfill (in --dag-run-conf too), or trigger the DAG by hand for {chosen}"
        )


def is_backfill_or_cleared(dag_run: Any, task: Any, ti: Any) -> bool:
    """Whether somebody has asked for this very run: it is a backfill's, or its task has been cleared after a try."""
    # A retry leaves `max_tries` as it was; clearing counts from there on.
    return getattr(dag_run.run_type, "value", dag_run.run_type) == "backfill" or ti.max_tries > task.retries


def month_of_run(dag_run: Any) -> str | None:
    """The month that a run is about, seen from outside; None: it has neither a month nor a logical date."""
    is_own = dag_run.logical_date and getattr(dag_run.run_type, "value", dag_run.run_type) in OWN_DATE
    return chosen_month({} if is_own else dag_run.conf or {}, dag_run.logical_date)


def chosen_month(conf: Mapping[str, Any], logical_date: date | None) -> str | None:
    """`month` of a run's configuration, else the month that contains its logical date, else None."""
    if chosen := conf.get("month"):
        return str(chosen)
    return month_of(logical_date) if logical_date else None


MACROS = {"logical_month": logical_month}
