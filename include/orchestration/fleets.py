"""For which fleets a DAG file makes DAGs."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import get_parsing_context

from include.nyc_taxi import settings


def fleets_of(prefix: str) -> list[str]:
    """The fleets whose DAGs `<prefix>_<fleet>` the file has to make.

    A task reads the whole file to get one DAG. Airflow tells which, so the others need not be made.
    """
    fleets, wanted = settings.fleets(), get_parsing_context().dag_id
    return [fleet for fleet in fleets if f"{prefix}_{fleet}" == wanted] or fleets
