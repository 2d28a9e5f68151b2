"""The week of a run, which is its partition key, as templates for the arguments of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Param

from calendar_timetables import written_dates
from include.nyc_taxi import months
from include.nyc_taxi.errors import WeekError
from include.orchestration.month import has_ended, is_for_its_date, of_its_date, refuse_contradiction
from include.orchestration.retry_policy import no_retry_when_permanent

WEEK = "{{ logical_week(params, dag_run) }}"
"""Renders as the Monday of the run's week, "2023-01-30", if the DAG has MACROS in its `user_defined_macros`."""

FIRST_MONTH = "{{ months_of_week(params, dag_run)[0] }}"
LAST_MONTH = "{{ months_of_week(params, dag_run)[-1] }}"
"""Render as the months of the week's first and last day, which are the same month for most weeks."""


def week_param() -> Param:
    """The form field `week`. If it is empty, the run counts the week that contains its logical date."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Week",
        description=(
            "Any day of a week (Monday to Sunday) that has ended, as YYYY-MM-DD. If empty, the week that contains the "
            "logical date. Leave this empty in a backfill, because each of its runs has its own week. "
            "If the DAG is paused, unpausing it here also starts the catch-up on its schedule."
        ),
    )


@no_retry_when_permanent
def logical_week(params: Mapping[str, Any], dag_run: Any) -> str:
    """Return the Monday of the run's week: of `week` in its parameters, or else of its logical date.

    Raises:
        AirflowFailException: no retry can help. The run has neither a week nor a logical date; `week` is not a date;
            the logical date is in different weeks in UTC and in Airflow's default time zone; it is a scheduled or
            backfill run whose `week` contradicts its date; or the week has not ended.
    """
    dates = written_dates(dag_run.logical_date) if dag_run.logical_date else set()
    own = sorted({months.monday_of(day).isoformat() for day in dates})
    if params.get("week"):
        monday = months.monday_of(str(params["week"]))
        refuse_contradiction(dag_run, "week", monday.isoformat(), own)
    else:
        monday = months.monday_of(of_its_date(dag_run, "week", own, "2023-01-30"))
    if not has_ended(monday + months.WEEK):
        raise AirflowFailException(
            f"the week of {monday} has not ended. Trigger it when it has, or leave it to the schedule"
        )
    return monday.isoformat()


def week_of_run(dag_run: Any) -> str | None:
    """Return the Monday of any run's week, or None if no single week can be told from its form and its logical date."""
    is_own = dag_run.logical_date and is_for_its_date(dag_run)
    chosen = None if is_own else (dag_run.conf or {}).get("week")
    if chosen:
        try:
            return months.monday_of(str(chosen)).isoformat()
        except WeekError:
            return None
    own = {months.monday_of(day) for day in written_dates(dag_run.logical_date)} if dag_run.logical_date else set()
    return own.pop().isoformat() if len(own) == 1 else None


def months_of_week(params: Mapping[str, Any], dag_run: Any) -> list[str]:
    """Return the one or two months that the run's week touches, in order."""
    return [*months.months_of_week(months.monday_of(logical_week(params, dag_run)))]


MACROS = {"logical_week": logical_week, "months_of_week": months_of_week}
