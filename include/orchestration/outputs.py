"""What the page's outputs need from Airflow's metadata database, read inside the web server."""

from __future__ import annotations

from typing import Any

from include.nyc_taxi.web import outputs
from include.orchestration import compat
from include.orchestration.page import MAY_NOT, Links, Rights
from output_pages import base_path

NEWEST_RUNS = 1000
"""How many runs of requests are looked at. Older results are shown without their run."""


def outputs_data(session: Any, rights: Rights, folder: str, page: str) -> dict[str, Any] | None:
    """The JSON of the outputs for a user with these rights.

    None if there is no such folder, or if the user may not see it.
    """
    return outputs.outputs(
        base_path(), outputs.visible(rights.readable), folder, page, requests(session, rights), Links(session)
    )


def requests(session: Any, rights: Rights) -> outputs.Requests | None:
    """The newest requests; None if the user may not read their DAG."""
    from sqlalchemy import select

    if outputs.REQUESTS_DAG not in rights.readable:
        return None
    run = compat.DagRun
    by = [run.triggering_user_name] if hasattr(run, "triggering_user_name") else []  # 2.11 does not record it
    rows = session.execute(
        select(run.run_id, run.state, run.conf, run.queued_at, run.start_date, *by)
        .where(run.dag_id == outputs.REQUESTS_DAG)
        .order_by(run.id.desc())
        .limit(NEWEST_RUNS)
    )
    may = outputs.REQUESTS_DAG in rights.startable
    return outputs.Requests(
        [
            outputs.RequestRun(
                run_id=row.run_id,
                state=str(getattr(row.state, "value", row.state)),
                conf=row.conf if isinstance(row.conf, dict) else {},
                asked_at=row.queued_at or row.start_date,
                by=row.triggering_user_name if by else None,
            )
            for row in rows
        ],
        may=may,
        why_not=None if may else MAY_NOT,
    )
