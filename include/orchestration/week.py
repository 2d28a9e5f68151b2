"""Which week a run is about: its partition key, as templates for tasks' arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Param

from calendar_timetables import written_dates
from include.nyc_taxi import months
from include.orchestration.month import has_ended, refuse_contradiction
from include.orchestration.retry_policy import no_retry_when_permanent

WEEK = "{{ logical_week(params, dag_run) }}"
"""Renders to the Monday of the run's week, "2023-01-30". Needs MACROS in the DAG's `user_defined_macros`."""

FIRST_MONTH = "{{ months_of_week(params, dag_run)[0] }}"
LAST_MONTH = "{{ months_of_week(params, dag_run)[-1] }}"
"""Render to the months of the week's first and last day: the same month for most weeks."""


def week_param() -> Param:
    """The form field of a manual trigger: empty means the week that contains the run's logical date."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Week",
        description=(
            "Any day of the week, Monday to Sunday, as YYYY-MM-DD; a week that has ended. "
            "Empty: the week of the logical date. Leave it empty in a backfill, whose runs each have their own week. "
            "Where the DAG is paused, unpausing it with the trigger also starts the catch-up on its schedule."
        ),
    )


@no_retry_when_permanent
def logical_week(params: Mapping[str, Any], dag_run: Any) -> str:
    """The Monday of the run's week: of `week` in its parameters, else of its logical date.

    Raises:
        AirflowFailException: the run has neither (a manual run without a logical date); `week` is no day; its date lies
            in one week in UTC and in another in Airflow's default time zone; it is a scheduled or backfill run whose
            `week` is another one than its date's; the week has not ended. No retry will help.
    """
    dates = written_dates(dag_run.logical_date) if dag_run.logical_date else set()
    own = sorted({months.monday_of(day).isoformat() for day in dates})
    if params.get("week"):
        monday = months.monday_of(str(params["week"]))
        refuse_contradiction(dag_run, "week", monday.isoformat(), own)
    elif len(own) == 1:
        monday = months.monday_of(own[0])
    elif own:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has the logical date {dag_run.logical_date}, which lies in the week of "
            f"{' or '.join(own)}, in UTC or in Airflow's default time zone: trigger it again with a date without a "
            f"""time, or with --conf '{{"week": "{own[0]}"}}'"""
        )
    else:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has no logical date and no week: trigger it again "
            """with a week in the form, or with --conf '{"week": "2023-01-30"}'"""
        )
    if not has_ended(monday + months.WEEK):
        raise AirflowFailException(
            f"the week of {monday} has not ended. Trigger it when it has, or leave it to the schedule"
        )
    return monday.isoformat()


def months_of_week(params: Mapping[str, Any], dag_run: Any) -> list[str]:
    """The months that the run's week touches, one or two, in order."""
    return months.months_of_week(months.monday_of(logical_week(params, dag_run)))


MACROS = {"logical_week": logical_week, "months_of_week": months_of_week}
