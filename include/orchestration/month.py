"""Which month a run is about: its partition key, as a template for every task's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Param

from calendar_timetables import written_dates
from include.nyc_taxi.months import PATTERN, month_of

MONTH = "{{ logical_month(params, dag_run) }}"
"""Renders to the run's month, "2023-02". Needs MACROS in the DAG's `user_defined_macros`."""


def month_param() -> Param:
    """The form field of a manual trigger: empty means the month that contains the run's logical date."""
    return Param(
        None,
        type=["null", "string"],
        pattern=PATTERN,
        title="Month",
        description="YYYY-MM, for example 2023-02. Empty: the month that contains the logical date.",
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


def logical_month(params: Mapping[str, Any], dag_run: Any) -> str:
    """The run's month: `month` of its parameters, else the month that contains its logical date.

    Not its data interval: on 3.3 `airflow dags trigger --logical-date` makes that from the time of the call.

    Raises:
        AirflowFailException: the run has neither (a manual run without a logical date), or its date lies in one month
            in UTC and in another in Airflow's default time zone; no retry will help.
    """
    if params.get("month"):
        return str(params["month"])
    if dag_run.logical_date is None:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has no logical date and no month: trigger it again "
            """with a month in the form, or with --conf '{"month": "2023-02"}'"""
        )
    months = _months_of(dag_run.logical_date)
    if len(months) > 1:
        raise AirflowFailException(
            f"the run {dag_run.run_id} has the logical date {dag_run.logical_date}, which lies in "
            f"{' or '.join(months)}, in UTC or in Airflow's default time zone: trigger it again with a date without a "
            f"""time, or with --conf '{{"month": "{months[0]}"}}'"""
        )
    return months[0]


def chosen_month(conf: Mapping[str, Any], logical_date: datetime | None) -> str | None:
    """`month` of a run's configuration, else the month that contains its logical date, else None."""
    if chosen := conf.get("month"):
        return str(chosen)
    return " or ".join(_months_of(logical_date)) if logical_date else None


def _months_of(moment: datetime) -> list[str]:
    return sorted({month_of(day) for day in written_dates(moment)})


MACROS = {"logical_month": logical_month}
