"""What the page of the warehouse needs from Airflow's metadata database, read inside the web server.

Each function needs a few queries, whatever the number of fleets and months. None of them opens the warehouse.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import AirflowException

from include.nyc_taxi import settings
from include.nyc_taxi.months import Month
from include.nyc_taxi.web import grid, month, outputs, resource, snapshot
from include.orchestration import assets, compat
from include.orchestration.compat import IS_AIRFLOW_3
from include.orchestration.defaults import WAREHOUSE_POOL
from include.orchestration.month import OWN_DATE, is_for_its_date, month_of_run
from include.orchestration.month_runs import FAILED, MonthRun
from include.orchestration.week import week_of_run
from output_pages import PREFIX, base_path

TAG = "nyc_taxi"
"""The tag of all DAGs of the project."""
WAITING = "wait_for_"
"""How the ids of sensors begin that wait for a month."""
NOT_WELL = ("queued", "running", "failed")
"""The states of runs that have not ended well."""
CHUNK = 500
"""How many values a condition has at most: databases have a limit."""
STEPS = {
    "download": assets.trips_file,
    "load": assets.trips,
    "aggregate": assets.manhattan_stats,
    "map": assets.manhattan_map,
}
"""The tasks of a month, each with the asset whose events have its seconds."""
MAY_NOT = "You may read this DAG, but not start or clear its runs. An administrator can change that."


@dataclass(frozen=True)
class Rights:
    """What the user may do.

    Attributes:
        readable: the ids of the DAGs whose runs the user may read.
        startable: the ids of the DAGs of which the user may start runs.
    """

    readable: frozenset[str]
    startable: frozenset[str]


class Links:
    """The addresses of pages of the web UI, as paths on this web server."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._root = base_path().removesuffix(PREFIX)
        self._dates: dict[tuple[str, str], str | None] = {}

    def dag(self, dag_id: str) -> str:
        """The page of a DAG."""
        return f"{self._root}/dags/{quote(dag_id)}" + ("" if IS_AIRFLOW_3 else "/grid")

    def run(self, dag_id: str, run_id: str) -> str:
        """The page of a run."""
        if IS_AIRFLOW_3:
            return f"{self.dag(dag_id)}/runs/{quote(run_id, safe='')}"
        return f"{self.dag(dag_id)}?{urlencode(self._in_grid(dag_id, run_id))}"

    def task(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The page of a task of a run."""
        if IS_AIRFLOW_3:
            return f"{self.run(dag_id, run_id)}/tasks/{quote(task_id)}"
        return f"{self.dag(dag_id)}?{urlencode(self._in_grid(dag_id, run_id) | {'task_id': task_id})}"

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> str:
        """The log of a try of a task."""
        if IS_AIRFLOW_3:
            return f"{self.task(dag_id, run_id, task_id)}?{urlencode({'try_number': attempt})}"
        return f"{self.task(dag_id, run_id, task_id)}&tab=logs"

    def _in_grid(self, dag_id: str, run_id: str) -> dict[str, str]:
        """The query for 2.11's grid, which shows the runs up to a date, by default up to the newest."""
        from sqlalchemy import select

        if (dag_id, run_id) not in self._dates:
            run = compat.DagRun
            date = self._session.scalar(select(compat.logical_date()).where(run.dag_id == dag_id, run.run_id == run_id))
            self._dates[dag_id, run_id] = date and date.isoformat()
        date = self._dates[dag_id, run_id]
        return {"dag_run_id": run_id} | ({"base_date": date} if date else {})


def dag_ids() -> frozenset[str]:
    """The DAGs that the grid shows."""
    return frozenset(name(fleet) for fleet in settings.fleets() for name in (grid.months_dag_id, grid.weeks_dag_id))


def month_dag_ids(fleet: str) -> frozenset[str]:
    """The DAGs that the panel of a month of this fleet is about; none if there is no such fleet here."""
    names = (grid.months_dag_id, grid.weeks_dag_id, outputs.marts_dag_id)
    return frozenset(name(fleet) for name in names) if fleet in settings.fleets() else frozenset()


def project_dag_ids(session: Any) -> frozenset[str]:
    """The DAGs of the project that Airflow knows."""
    from sqlalchemy import select

    return frozenset(session.scalars(select(compat.DagTag.dag_id).where(compat.DagTag.name == TAG)))


def grid_data(session: Any, rights: Rights) -> dict[str, Any]:
    """The JSON of the grid for a user with these rights."""
    found = dags(session, dag_ids() & rights.readable, rights)
    contents = snapshot.read()
    return grid.grid(settings.fleets(), contents, found, datetime.now(UTC), None if contents else _hint())


def month_data(session: Any, rights: Rights, fleet: str, text: str) -> dict[str, Any] | None:
    """The JSON of a month; None if there is no such month, or if the user may not read its DAG.

    Raises:
        MonthError: `text` is not a month, or it is before the fleet's first one.
    """
    dag_id = grid.months_dag_id(fleet)
    if fleet not in settings.fleets() or dag_id not in rights.readable:
        return None
    chosen = Month(text)
    dag = replace(dags(session, {dag_id}, rights)[dag_id], runs=tuple(_runs_of_month(session, dag_id, chosen)))
    contents = snapshot.read()
    facts = month.Facts(
        links=Links(session),
        base=base_path(),
        line=3 if IS_AIRFLOW_3 else 2,
        seconds=_seconds(session, fleet, month.shown_loads(fleet, chosen, contents)),
        site=_places()[1],
        failed=_failed_tasks(session, dag_id, [run.run_id for run in dag.runs]),
        may_see=outputs.visible(rights.readable),
    )
    if contents and grid.weeks_dag_id(fleet) not in rights.readable:
        contents = replace(contents, weeks={})
    return month.month_page(fleet, chosen, contents, dag, facts, datetime.now(UTC))


def resource_data(session: Any, rights: Rights) -> dict[str, Any]:
    """The JSON of the shared resources for a user with these rights."""
    declared = declared_uses(session, rights.readable)
    contents = snapshot.read()
    database, site, problems = _places()
    hint = " ".join(problems) or (None if contents else _hint())
    return resource.resource(
        contents,
        Path(database) if database.startswith("/") else None,
        site,
        _pool(session),
        [use for use, _ in declared if use],
        [use for _, use in declared if use],
        Links(session),
        rights.readable,
        hint,
    )


def _hint() -> str | None:
    """Why there is no snapshot, and what to run."""
    database, _, problems = _places()
    if problems:
        return " ".join(problems)
    if database.startswith("/") and not Path(database).exists():
        return (
            f"There is no warehouse yet at {database}. The first load creates it: start a backfill, or run `make demo`."
        )
    return snapshot.problem()


def _places() -> tuple[str, str, list[str]]:
    """The warehouse's database, the address of the TLC's site, and what is wrong with the settings of either."""
    from include.nyc_taxi.errors import NycTaxiError
    from tlc_hook import TlcHook
    from warehouse_hook import WarehouseHook

    problems = []

    def asked(question: Callable[[], str]) -> str:
        try:
            return question()
        except (NycTaxiError, AirflowException) as error:
            problems.append(f"{error}.")
            return ""

    return asked(lambda: WarehouseHook().get_database()), asked(lambda: TlcHook().url("")), problems


def dags(session: Any, ids: Collection[str], rights: Rights) -> dict[str, grid.Dag]:
    """The DAGs, with the runs that their states depend on.

    A DAG that Airflow does not know yet counts as paused and has no runs.
    """
    from sqlalchemy import select

    model = compat.DagModel
    found = session.execute(select(model.dag_id, model.is_paused).where(model.dag_id.in_(ids)))
    paused = {dag_id: bool(is_paused) for dag_id, is_paused in found}
    runs = _runs(session, ids)
    return {
        dag_id: grid.Dag(
            dag_id,
            is_paused=paused.get(dag_id, True),
            may_trigger=dag_id in rights.startable and dag_id in paused,
            why_not=_why_not(dag_id, dag_id in paused, rights),
            runs=tuple(runs.get(dag_id, ())),
        )
        for dag_id in ids
    }


def _why_not(dag_id: str, is_known: bool, rights: Rights) -> str | None:
    if not is_known:
        return f"Airflow has not read the DAG {dag_id} yet."
    return None if dag_id in rights.startable else MAY_NOT


def _runs(session: Any, ids: Collection[str]) -> dict[str, list[grid.Run]]:
    """The runs of each DAG that the states of its months or weeks depend on, ordered by their start.

    These are the runs that have not ended well, and the successful runs that started after the first of them, because
    only these can make it history. Airflow's database keeps the runs of years, most of which are neither.
    """
    from sqlalchemy import and_, select

    run, task = compat.DagRun, compat.TaskInstance
    bad = _read_runs(session, [and_(run.dag_id.in_(ids), run.state.in_(NOT_WELL))])
    failed_tasks = session.execute(
        select(task.dag_id, task.run_id).where(task.dag_id.in_(ids), task.state.in_(FAILED)).distinct()
    )
    known = {(dag_id, each.run_id) for dag_id, runs in bad.items() for each in runs}
    others = sorted({run_id for dag_id, run_id in failed_tasks if (dag_id, run_id) not in known})
    by_id = (run.run_id.in_(others[start : start + CHUNK]) for start in range(0, len(others), CHUNK))
    for dag_id, runs in _read_runs(
        session, [and_(run.dag_id.in_(ids), run.state == "success", these) for these in by_id]
    ).items():
        bad.setdefault(dag_id, []).extend(runs)
    good = _successes(session, bad)
    return {dag_id: _by_start([*good.get(dag_id, ()), *runs]) for dag_id, runs in bad.items()}


def _successes(session: Any, bad: Mapping[str, Sequence[grid.Run]]) -> dict[str, list[grid.Run]]:
    """The successful runs of the months or weeks of the runs `bad` that started after the first of them, by DAG.

    The runs that Airflow made for other dates are left out by the database. Which month a run by hand is about is only
    known here.
    """
    from sqlalchemy import and_, case, or_, select

    run, date = compat.DagRun, compat.logical_date()
    conditions, wanted = [], {}
    for dag_id, runs in bad.items():
        wanted[dag_id] = {each.partition for each in runs if each.partition}
        starts = [each.started for each in runs if each.started]
        days = {day for partition in wanted[dag_id] if (day := _midnight(partition))}
        of_days = [or_(date.in_(sorted(days)), run.run_type.not_in(OWN_DATE))] if len(days) <= CHUNK else []
        if starts:
            conditions.append(and_(run.dag_id == dag_id, run.start_date >= min(starts), *of_days))
    form = case((run.run_type.not_in(OWN_DATE), run.conf)).label("conf")
    query = select(run.dag_id, run.run_id, run.run_type, run.start_date, form, date.label("logical_date"))
    found: dict[str, list[grid.Run]] = {}
    for row in session.execute(query.where(run.state == "success", or_(*conditions))) if conditions else ():
        partition = _partition_of(row)
        if partition in wanted[row.dag_id]:
            found.setdefault(row.dag_id, []).append(grid.Run(row.run_id, partition, "success", row.start_date))
    return found


def _midnight(partition: str) -> datetime | None:
    """The logical date of the run that Airflow makes for a month or a week; None if a user's form names neither."""
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(f"{partition}-01"[: len("2023-01-01")]).replace(tzinfo=UTC)
    return None


def _runs_of_month(session: Any, dag_id: str, chosen: Month) -> list[grid.Run]:
    """All runs of a month, ordered by their start. Runs that Airflow made for dates of other months are not read."""
    from sqlalchemy import and_, or_

    run = compat.DagRun
    first, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (chosen.first_day, chosen.end))
    about = timedelta(days=2)  # the same date in another time zone is at most a day away
    may_be = or_(compat.logical_date().between(first - about, end + about), run.run_type.not_in(OWN_DATE))
    found = _read_runs(session, [and_(run.dag_id == dag_id, may_be)])
    return _by_start(each for each in found.get(dag_id, ()) if each.partition == chosen)


def _by_start(runs: Iterable[grid.Run]) -> list[grid.Run]:
    distinct = {run.run_id: run for run in runs}  # the last one of each id, which is the one with its tasks
    return sorted(distinct.values(), key=lambda run: (run.started is None, str(run.started)))


def _read_runs(session: Any, conditions: Iterable[Any]) -> dict[str, list[grid.Run]]:
    """The runs that any of the conditions selects, by DAG, in no order."""
    from sqlalchemy import and_, case, or_, select

    run, task = compat.DagRun, compat.TaskInstance
    form = case((run.run_type.not_in(OWN_DATE), run.conf)).label("conf")  # the others' says nothing about their date
    columns = (run.dag_id, run.run_id, run.run_type, run.state, form, run.start_date, run.end_date)
    runs = select(*columns, compat.logical_date().label("logical_date"))
    tasks = (
        select(task.dag_id, task.run_id, task.task_id, task.state)
        .join(run, and_(task.dag_id == run.dag_id, task.run_id == run.run_id))
        .where(or_(task.state.is_(None), task.state != "success"))
    )
    found: dict[str, list[grid.Run]] = {}
    for condition in conditions:
        unsettled: dict[tuple[str, str], dict[str, str]] = {}
        for dag_id, run_id, task_id, state in session.execute(tasks.where(condition)):
            unsettled.setdefault((dag_id, run_id), {})[task_id] = str(state or "none")
        for row in session.execute(runs.where(condition)):
            states = unsettled.get((row.dag_id, row.run_id), {})
            found.setdefault(row.dag_id, []).append(_as_run(row, _partition_of(row), states))
    return found


def _partition_of(row: Any) -> str | None:
    """The month or the week of a run."""
    is_month = row.dag_id.startswith(grid.months_dag_id(""))
    if row.conf and not is_for_its_date(row):
        return (month_of_run if is_month else week_of_run)(row)
    return _partition_of_date(is_month, row.logical_date)


@functools.lru_cache(maxsize=10_000)  # the runs of all fleets have the same dates, and each takes a tenth of a ms
def _partition_of_date(is_month: bool, logical_date: datetime | None) -> str | None:
    row = SimpleNamespace(logical_date=logical_date, run_type="manual", conf=None)
    return (month_of_run if is_month else week_of_run)(row)


def _as_run(row: Any, partition: str | None, tasks: Mapping[str, str]) -> grid.Run:
    state = str(getattr(row.state, "value", row.state))
    unsettled = {name: state for name, state in tasks.items() if state != "skipped"}
    started = row.start_date or (row.end_date if state == "failed" else None)
    run = MonthRun(row.run_id, partition, state, started, unsettled, "skipped" in tasks.values())
    return grid.Run(
        run_id=row.run_id,
        partition=partition,
        state=state,
        started=run.started,
        failed=run.failed,
        cancelled=run.cancelled,
        waits=any(name.startswith(WAITING) and task == "up_for_reschedule" for name, task in tasks.items()),
        ended=row.end_date,
        date=row.logical_date,
        is_backfill=str(getattr(row.run_type, "value", row.run_type)) == "backfill",
        accepts=isinstance(row.conf, dict) and bool(row.conf.get("accept")),
    )


def _failed_tasks(session: Any, dag_id: str, run_ids: Collection[str]) -> dict[str, list[month.FailedTask]]:
    from sqlalchemy import select

    task = compat.TaskInstance
    found: dict[str, list[month.FailedTask]] = {}
    for run_id, task_id, attempt in session.execute(
        select(task.run_id, task.task_id, task.try_number)
        .where(task.dag_id == dag_id, task.run_id.in_(run_ids), task.state.in_(FAILED))
        .order_by(task.start_date)
    ):
        found.setdefault(run_id, []).append(month.FailedTask(task_id, attempt))
    return found


def _seconds(session: Any, fleet: str, loads: Mapping[str, snapshot.Loaded]) -> dict[str, dict[str, float]]:
    """The seconds of each task's work, by month and task, from the newest event of each.

    Only the events of the runs that have loaded these months are read: the fleet may have had thousands.
    """
    from sqlalchemy import select

    event, asset, key = compat.asset_models()
    steps = {of_fleet(fleet).uri: task for task, of_fleet in STEPS.items()}
    found: dict[str, dict[str, float]] = {}
    for uri, extra in session.execute(
        select(asset.uri, event.extra)
        .join(asset, asset.id == key)
        .where(asset.uri.in_(steps), event.source_run_id.in_({load.run_id for load in loads.values()}))
        .order_by(event.timestamp)
    ):
        if extra and "month" in extra and "seconds" in extra:
            found.setdefault(str(extra["month"]), {})[steps[uri]] = extra["seconds"]
    return found


def _pool(session: Any) -> list[resource.PoolTask]:
    """The tasks that run in the pool `warehouse`, or wait for a slot of it."""
    from sqlalchemy import select

    task = compat.TaskInstance
    ids = (task.dag_id, task.run_id, task.task_id)
    rows = session.execute(
        select(*ids, task.state, task.pid, task.hostname, task.start_date, task.queued_dttm).where(
            task.pool == WAREHOUSE_POOL, task.state.in_(["running", "queued", "scheduled"])
        )
    )
    return [
        resource.PoolTask(
            *(row.dag_id, row.run_id, row.task_id),
            is_running=row.state == "running",
            pid=row.pid if row.state == "running" else None,
            since=row.start_date if row.state == "running" else row.queued_dttm,
            is_here=not row.hostname or row.hostname in _names_of_this_machine(),
        )
        for row in rows
    ]


@functools.cache  # asking may take as long as the network's name server
def _names_of_this_machine() -> frozenset[str]:
    return frozenset({socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1"})


Uses = tuple[resource.DeclaredUse | None, resource.DeclaredUse | None]
"""How a task uses the warehouse, and the TLC's site; None if it does not."""


def declared_uses(session: Any, readable: Collection[str]) -> list[Uses]:
    """For each task of the project, how it uses the warehouse and the TLC's site, according to its DAG.

    A task that opens the warehouse stands in the pool `warehouse`; a task that runs dbt opens it in dbt's own process,
    and stands in a pool of its own if the warehouse is a lake. A task that asks the site is a sensor for its files, or
    makes an asset of them.
    """
    ids = sorted(project_dag_ids(session) & set(readable))
    return [use for dag_id in ids for use in _uses_of_dag(session, dag_id)]


def uses_of(task: Any, dag_id: str) -> Uses:
    """How a task uses the warehouse and the TLC's site; None if it does not."""
    is_dbt = task.task_type.startswith("Dbt")
    use = resource.DeclaredUse(
        dag_id, task.task_id, writes=is_dbt or bool(task.outlets), program="dbt" if is_dbt else None
    )
    files = any(f"://{assets.RAW_FILES}/" in str(getattr(outlet, "uri", "")) for outlet in task.outlets)
    return (
        use if task.pool == WAREHOUSE_POOL or is_dbt else None,
        use if files or task.task_type == "TlcFileSensor" else None,
    )


_known_uses: dict[str, tuple[str, list[Uses]]] = {}
"""By DAG, the hash of its version and the uses of its tasks: restoring all DAGs at each poll would cost too much."""


def _uses_of_dag(session: Any, dag_id: str) -> list[Uses]:
    """`uses_of` each task of a DAG as Airflow has stored it: the web server does not read DAG files."""
    stored = compat.SerializedDagModel.get(dag_id, session=session)
    if not stored:
        return []
    if dag_id not in _known_uses or _known_uses[dag_id][0] != stored.dag_hash:
        _known_uses[dag_id] = stored.dag_hash, [uses_of(task, dag_id) for task in stored.dag.tasks]
    return _known_uses[dag_id][1]
