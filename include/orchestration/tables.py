"""Which DAG and task make a table, and the sensor for a task that needs one.

A DAG file says what its tasks need, and gets the sensor that fits:

    needs("green_trips", MONTH) >> report
    needs("marts.daily_trips", MONTH, fleet="green") >> report
    needs("zones") >> report

dbt's manifest says what makes each table, and the DAGs say what they wait for. `make dbt-manifest` and `make docs`
write both to tables.json, which a DAG file reads in a millisecond. Tests compare it with the manifest and the DAGs.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from airflow.providers.common.compat.sdk import TaskGroup

from include.nyc_taxi import catalogue, settings
from include.orchestration.defaults import WAREHOUSE_POOL
from include.orchestration.month_sensor import MonthLoadedSensor, TableSensor
from include.orchestration.table_sensors import MartBuiltSensor, RowsSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG

Waits: TypeAlias = "Mapping[str, Mapping[str, Sequence[str]]]"
"""By DAG that waits, the DAGs for which it waits, each with the tables that it needs."""

FILE = Path(__file__).with_name("tables.json")

LOADS = "loads"
"""The table that records which months are loaded. What the same task makes is there when the month is in it."""

POKE_INTERVAL = timedelta(minutes=5)
LIMITS = {"month": timedelta(days=150), "week": timedelta(days=150), None: timedelta(days=7)}
"""When a wait ends for good, by what one run makes. The TLC publishes a month about two months after its end, and
`taxi_trips_<fleet>` gives up after 120 days. A table that is made as a whole does not depend on that."""


class TableError(Exception):
    """A DAG cannot get what it needs: no such table, nothing that makes it, or DAGs that wait for each other."""


@dataclass(frozen=True)
class Maker:
    """What makes a table.

    Attributes:
        dag, task: their ids; "{fleet}" in them stands for each fleet.
        partition: what one run makes, "month" or "week"; None if every run makes the whole table.
    """

    dag: str
    task: str
    partition: str | None = None

    def of(self, fleet: str | None) -> Maker:
        """The maker of a fleet's part."""
        return replace(self, dag=self.dag.format(fleet=fleet), task=self.task.format(fleet=fleet))

    @property
    def has_fleets(self) -> bool:
        """Whether each fleet has a DAG of its own."""
        return "{fleet}" in self.dag


@dataclass(frozen=True)
class Table:
    """A table or view of the warehouse.

    Attributes:
        name: "zones", or with a schema "marts.daily_trips".
        file: the file that describes it.
        kind: "source" if a DAG writes it, else how dbt stores it: "incremental", "view", "table" or "seed".
        made_by: what makes it, or None if the file does not say.
        reads: the tables from which dbt makes it.
        column: the column with the first day of the month or week that a run makes, or None.
        fleet: the fleet, if it is a table of one fleet.
    """

    name: str
    file: str
    kind: str
    made_by: Maker | None
    reads: tuple[str, ...] = ()
    column: str | None = None
    fleet: str | None = None


class Registry:
    """All tables, and which DAGs wait for which.

    Args:
        content: the content of tables.json.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._tables: Mapping[str, Any] = content["tables"]
        self._waits: Waits = content["waits"]

    def __iter__(self) -> Iterator[Table]:
        for name in self._tables:
            if "{fleet}" in name:
                yield from (self.table(name.format(fleet=fleet)) for fleet in catalogue.FLEETS)
            else:
                yield self.table(name)

    def table(self, name: str) -> Table:
        """The table of this name.

        Raises:
            TableError: there is none.
        """
        facts, of_fleet = self._tables.get(name), None
        if facts is None:
            # A fleet that is in the catalogue has a table of trips, made as those of the other fleets.
            of_fleet = next((fleet.name for fleet in catalogue.FLEETS.values() if fleet.table == name), None)
            facts = self._tables.get(name.replace(of_fleet, "{fleet}", 1)) if of_fleet else None
        if facts is None:
            known = [table.name for table in self]
            meant = get_close_matches(name, [*known, *(f"{table.rpartition('.')[2]}" for table in known)], 1)
            meant = [table for table in known if meant and table.endswith(meant[0])]
            hint = f"did you mean {meant[0]}? " if meant else ""
            raise TableError(
                f"there is no table {name!r}: {hint}docs/reference/tables.md lists all tables, and after "
                "`make dbt-manifest` also a new model of the dbt project"
            )
        made_by = facts["made_by"]
        maker = Maker(**made_by).of(of_fleet) if made_by and of_fleet else made_by and Maker(**made_by)
        return Table(name, facts["file"], facts["kind"], maker, tuple(facts["reads"]), facts["column"], of_fleet)

    def maker(self, name: str) -> Maker:
        """What makes the table of this name.

        Raises:
            TableError: there is no such table, or its file does not say what makes it.
        """
        table = self.table(name)
        if table.kind == "ephemeral":
            raise TableError(
                f"{name} is a step within other queries ({table.file} is ephemeral), and no table that could be read: "
                "wait for the mart that is made from it"
            )
        if table.made_by is None:
            raise TableError(
                f"{table.file} does not say what makes {name}, so nothing could end the wait for it: add `meta: "
                "{made_by: {dag: …, task: …, partition: month}}` to the table's config, and run `make dbt-manifest`"
            )
        return table.made_by

    def sources(self, name: str) -> Iterator[Table]:
        """The tables that a model needs and dbt does not make; each may come several times."""
        for read in self.table(name).reads:
            if self.table(read).kind == "source":
                yield self.table(read)
            else:
                yield from self.sources(read)

    def recorded(self, name: str) -> Iterator[str]:
        """The names of the models with a record of their months that a model consists of, without the schema."""
        table = self.table(name)
        if table.kind == "incremental":
            yield name.rpartition(".")[2]
        elif table.kind != "source":
            for read in table.reads:
                yield from self.recorded(read)

    def waits(self, parsed: Waits) -> Waits:
        """Which DAG waits for which: because of its sensors, or because dbt reads what the other one makes.

        Args:
            parsed: the same of DAGs that have just been read, whose sensors may differ from those in tables.json.
        """
        found = {
            dag_id: {maker: list(tables) for maker, tables in makers.items()}
            for dag_id, makers in {**self._waits, **parsed}.items()
        }
        for table in self:
            if table.kind == "source" or table.made_by is None:
                continue
            for source in self.sources(table.name):
                for fleet in catalogue.FLEETS if table.made_by.has_fleets else (None,):
                    if source.made_by and source.fleet in (None, fleet):
                        dag_id, maker = table.made_by.of(fleet).dag, source.made_by.of(fleet).dag
                        needed = found.setdefault(dag_id, {}).setdefault(maker, [])
                        needed += [source.name] if source.name not in needed else []
        return found


_registry: Registry | None = None


def registry() -> Registry:
    """The registry: that of tables.json, which is read once in a process, unless `use` has set another one."""
    return _registry or use(json.loads(FILE.read_text(encoding="utf-8")))


def use(content: Mapping[str, Any]) -> Registry:
    """Use another content of tables.json from now on in this process: the next one, which is still to be written."""
    global _registry
    _registry = Registry(content)
    return _registry


_dags: WeakValueDictionary[str, DAG] = WeakValueDictionary()
"""The DAGs that need tables, by id. tables.json does not have those that are new, and one file may have several."""


def needs(
    table: str, partition: str | None = None, *, fleet: str | None = None, task_id: str | None = None, **options: Any
) -> TableSensor | TaskGroup:
    """Make the sensor that waits until a table is there, for a DAG file, within `with DAG(…)`.

    Args:
        table: its name, as docs/reference/tables.md has it: "zones", "green_trips", "marts.daily_trips".
        partition: the month or week that is needed, such as MONTH or WEEK (a template); None for a table that every
            run makes as a whole.
        fleet: the fleet that is needed. If None, and the table has several fleets, all fleets are needed.
        task_id: `wait_for_<table>` by default.
        options: more arguments of the sensor, such as `timeout`.

    Returns:
        A sensor, or if all fleets are needed, a group with a sensor for each.

    Raises:
        TableError: there is no such table, nothing makes it, or what makes it waits for this DAG.
    """
    task_id = task_id or f"wait_for_{table.rpartition('.')[2]}"
    try:
        fleets = _fleets(table, partition, fleet)
        if len(fleets) == 1:
            sensor = _sensor(table, partition, fleets[0], {"task_id": task_id, **options})
            _refuse_circle(sensor)
            return sensor
        with TaskGroup(group_id=task_id) as group:
            for each in fleets:
                given = {"task_id": str(each), "is_one_of_all": True, **options}
                _refuse_circle(_sensor(table, partition, each, given))
        return group
    except TableError as error:
        raise TableError(f"{_dag_file()}: needs({table!r}): {error}") from None


def needs_of(dag_id: str, fleet: str, month: str) -> list[TableSensor | TaskGroup]:
    """Make the sensors for what dbt reads in a DAG and other DAGs make, such as `wait_for_month` and `wait_for_zones`.

    There is one for each task that makes such tables. When one of its tables is there, the others are.

    Args:
        dag_id: the DAG, as `made_by` has it: with "{fleet}" in it.
        fleet, month: the fleet and month of a run (a template).

    Raises:
        TableError: the DAG makes no table, or as for `needs`.
    """
    made = [table for table in registry() if table.made_by and table.made_by.dag == dag_id]
    if not made:
        raise TableError(f"{_dag_file()}: needs_of({dag_id!r}): no table in include/dbt says that this DAG makes it")
    first: dict[Maker, str] = {}
    for table in made:
        for source in registry().sources(table.name):
            if source.fleet in (None, fleet):
                first.setdefault(registry().maker(source.name).of(fleet), source.name)
    return [
        needs(name, month, fleet=fleet, task_id=f"wait_for_{maker.partition}") if maker.partition else needs(name)
        for maker, name in first.items()
    ]


def _fleets(name: str, partition: str | None, fleet: str | None) -> Sequence[str | None]:
    """The fleets that are needed; one None if the table has no fleets."""
    table, maker = registry().table(name), registry().maker(name)
    if bool(partition) != bool(maker.partition):
        raise TableError(
            f"{maker.dag} makes it {maker.partition} by {maker.partition}: say which {maker.partition} is needed, "
            f"such as {maker.partition.upper()}"
            if maker.partition
            else f"{maker.dag} makes all of it in each run: leave out {partition!r}"
        )
    if fleet is not None:
        catalogue.fleet(fleet)
    if table.fleet or not maker.has_fleets:
        if fleet not in (None, table.fleet):
            raise TableError(f"it is not a table of the fleet {fleet}: leave out `fleet`")
        fleets: Sequence[str | None] = [table.fleet]
    else:
        fleets = [fleet] if fleet else settings.fleets()
    without = [each for each in fleets if each and each not in settings.fleets()]
    if without:
        raise TableError(
            f"NYC_TAXI_FLEETS leaves out {without[0]}, so no DAG makes it: add the fleet there, or take this DAG away"
        )
    return fleets


def _sensor(name: str, partition: str | None, fleet: str | None, options: Mapping[str, Any]) -> TableSensor:
    table, maker = registry().table(name), registry().maker(name).of(fleet)
    given = {
        "pool": WAREHOUSE_POOL,
        "mode": "reschedule",
        "poke_interval": POKE_INTERVAL,
        "timeout": LIMITS[maker.partition],
        **options,
    }
    if table.kind == "source" and maker == registry().maker(LOADS).of(fleet):
        return MonthLoadedSensor(table=name, fleet=str(fleet), month=str(partition), **given)
    of_maker = {"external_dag_id": maker.dag, "external_task_id": maker.task}
    if maker.partition is None:
        return RowsSensor(table=name, **of_maker, **given)
    if table.kind == "source":
        which = {maker.partition: partition, "column": table.column, "fleet": fleet}
        return RowsSensor(table=name, **which, **of_maker, **given)
    if table.kind not in ("incremental", "view"):
        raise TableError(
            f"{table.file} stores it as a {table.kind}, which has no record of its months: make it incremental, or a "
            "view"
        )
    marts = sorted({*registry().recorded(name)})
    loader = registry().maker(LOADS).of(fleet).dag
    return MartBuiltSensor(
        table=name, marts=marts, fleet=str(fleet), month=str(partition), loader=loader, **of_maker, **given
    )


def waits_of(dag: Any) -> dict[str, list[str]]:
    """The DAGs for which a DAG's sensors wait, each with the tables that they wait for."""
    found: dict[str, list[str]] = {}
    for task in dag.tasks:
        if isinstance(task, TableSensor) and task.table not in found.setdefault(task.external_dag_id, []):
            found[task.external_dag_id].append(task.table)
    return found


def refuse_circle(waits: Waits, dag_id: str) -> None:
    """Refuse a DAG that waits for itself, by way of others.

    Raises:
        TableError: it does; the message has the whole circle.
    """
    reached: dict[str, Mapping[str, Sequence[str]]] = {}
    todo = [dag_id]
    while todo:
        each = todo.pop()
        reached[each] = waits.get(each, {})
        todo += [maker for maker in reached[each] if maker not in reached]
    try:
        TopologicalSorter(reached).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        steps = [f"{reached[waiting][maker][0]} of {maker}" for waiting, maker in pairwise(circle)]
        raise TableError(
            f"{circle[0]} waits for {', which waits for '.join(steps)}, so none of them could ever begin: take one of "
            "these needs away, or read that table in a DAG of its own"
        ) from None


def _refuse_circle(sensor: TableSensor) -> None:
    if not sensor.has_dag():  # type: ignore[no-untyped-call]  # it has no types
        raise TableError("no DAG is being made: call it within `with DAG(…):`")
    dag = sensor.dag
    _dags[dag.dag_id] = dag
    of_file = {dag_id: waits_of(each) for dag_id, each in _dags.items() if each.fileloc == dag.fileloc}
    try:
        refuse_circle(registry().waits(of_file), dag.dag_id)
    except TableError:
        del _dags[dag.dag_id]  # it is no DAG of this process
        raise


def _dag_file() -> str:
    """The file that called this module, from the project's folder."""
    callers = (Path(frame.filename) for frame in inspect.stack(context=0))
    path = next((path for path in callers if path != Path(__file__)), Path(__file__))
    return str(path.relative_to(settings.PROJECT_ROOT) if path.is_relative_to(settings.PROJECT_ROOT) else path)
