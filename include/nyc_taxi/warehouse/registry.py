"""All tables and views of the warehouse, as data. `tables` creates them; `migrate` and the documentation read them too.

The tables of trips are derived from the catalogue, the views of trips from the catalogue and the audit's rules.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from include.nyc_taxi import catalogue
from include.nyc_taxi.audit import rules


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: the DuckDB type.
        meaning: an explanation beyond the name, with the unit.
        nullable: whether nulls are allowed. They must be in columns that a later version added.
    """

    type: str
    meaning: str = ""
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A table. Tables have no keys, because DuckDB refuses to insert a key that the same transaction has deleted.

    Attributes:
        row: the meaning of one row.
        columns: the columns by name, in order.
        has_months: whether it is a table of trips, which are replaced month by month. A lake stores each month in
            separate files.
    """

    name: str
    row: str
    columns: Mapping[str, Column]
    has_months: bool = False

    @property
    def ddl(self) -> str:
        """The statement that creates the table."""
        columns = (
            f"{name} {column.type}{'' if column.nullable else ' NOT NULL'}" for name, column in self.columns.items()
        )
        return f"CREATE TABLE {self.name} ({', '.join(columns)})"


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        row: the meaning of one row.
        query: the view's SELECT.
        comment: the view's comment in the database.
    """

    name: str
    row: str
    query: str
    comment: str | None = None


FARES = {"fare_amount": ("fare_amount", "base_passenger_fare"), "tip_amount": ("tip_amount", "tips")}
"""Amounts that fleets publish under different names: our name, and the names in the tables of trips."""

_FLEET = Column("VARCHAR")
_MONTH = Column("DATE", "the month's first day")

_SHARED = (
    Table(
        "zones",
        "a taxi zone, IDs 1 to 265",
        {
            "zone_id": Column("SMALLINT"),
            "zone": Column("VARCHAR"),
            "borough": Column("VARCHAR"),
            "service_zone": Column("VARCHAR"),
            "geometry": Column("VARCHAR", 'WKT, WGS84; null for 264 "Unknown" and 265 "Outside of NYC"', nullable=True),
        },
    ),
    Table(
        "trips_by_zone",
        "a fleet, month and pickup zone",
        {
            "fleet": _FLEET,
            "partition_month": _MONTH,
            "zone_id": Column("SMALLINT"),
            "num_trips": Column("BIGINT"),
        },
    ),
    Table(
        "trips_by_week",
        "a fleet and week",
        {
            "fleet": _FLEET,
            "period": Column("DATE", "the week's Monday"),
            "num_trips": Column("BIGINT"),
            "total_amount": Column("DOUBLE", "dollars; null if the fleet's trips have no amounts", nullable=True),
            "trip_distance": Column("DOUBLE", "miles; null if the fleet's trips have no distances", nullable=True),
            "passenger_count": Column("BIGINT", "null if the fleet's trips do not have it", nullable=True),
            "clean_trips": Column("BIGINT", "like the next two, of the trips in the view `trips_clean`", nullable=True),
            "clean_total_amount": Column("DOUBLE", "dollars", nullable=True),
            "clean_trip_distance": Column("DOUBLE", "miles", nullable=True),
        },
    ),
    Table(
        "loads",
        "one load of an edition of a month",
        {
            "fleet": _FLEET,
            "partition_month": _MONTH,
            "source_url": Column("VARCHAR", "without a login"),
            "etag": Column("VARCHAR", nullable=True),
            "last_modified": Column("VARCHAR", nullable=True),
            "bytes": Column("BIGINT", "the file's size"),
            "rows_in_file": Column("BIGINT", "according to the file's footer"),
            "rows_loaded": Column("BIGINT"),
            "quality": Column("JSON", "numbers of implausible rows, by kind"),
            "loaded_at": Column("TIMESTAMP", "UTC"),
            "run_id": Column("VARCHAR", "Airflow's"),
            "changes": Column("JSON", "name to [old, new]; null for a month's first edition", nullable=True),
            "unknown_columns": Column("JSON", "names of the file's columns that were not loaded", nullable=True),
            "simulated": Column("BOOLEAN", "whether the file says that its trips are simulated", nullable=True),
        },
    ),
    Table(
        "quality_checks",
        "a fleet, month and rule of the audit",
        {
            "fleet": _FLEET,
            "partition_month": _MONTH,
            "rule": Column("VARCHAR"),
            "severity": Column("VARCHAR", "`error` or `warn`"),
            "at_most": Column("DOUBLE", "the rule's limit"),
            "value": Column("DOUBLE", "null if the rule does not apply", nullable=True),
            "passed": Column("BOOLEAN"),
            "detail": Column("VARCHAR"),
            "published": Column("BOOLEAN", "false if the month was refused and the loaded edition kept"),
            "checked_at": Column("TIMESTAMP", "UTC"),
            "run_id": Column("VARCHAR", "Airflow's"),
        },
    ),
)


def tables() -> list[Table]:
    """All tables: the shared ones, and one for the trips of each fleet in the catalogue."""
    return [*_SHARED, *map(_trips_table, catalogue.FLEETS.values())]


def table(name: str) -> Table:
    """The table called `name`; KeyError if there is none."""
    shared = {table.name: table for table in _SHARED}
    return shared[name] if name in shared else {table.name: table for table in tables()}[name]


def _trips_table(fleet: catalogue.Fleet) -> Table:
    columns = {name: Column(kind, nullable=True) for name, kind in fleet.table_columns.items()}
    return Table(fleet.table, f"a trip of {fleet.title.lower()}", columns, has_months=True)


def views() -> list[View]:
    """All views, in an order in which they can be created."""
    flagged = _flagged_trips()
    return [
        View("trips", "a trip of any fleet; columns that the fleet lacks are null", _all_trips()),
        View("trips_flagged", "a trip, with the rules that it breaks", flagged),
        View(
            "trips_clean",
            "a clean trip: it breaks no rule that marks rows which are not real trips",
            "SELECT * EXCLUDE is_clean FROM trips_flagged WHERE is_clean",
            _clean_comment(flagged),
        ),
        View("latest_loads", "a loaded month: its latest row in `loads`", latest_loads("loads")),
    ]


def latest_loads(loads: str) -> str:
    """The query for the latest row of each month in a relation with the columns of the table `loads`."""
    latest = "row_number() OVER (PARTITION BY fleet, partition_month ORDER BY loaded_at DESC) = 1"
    return f"SELECT * FROM {loads} QUALIFY {latest}"


def _all_trips(*more_columns: Callable[[catalogue.Fleet], str]) -> str:
    """The query for the fleets' common columns and some more, with one SELECT per fleet."""
    selects = []
    for fleet in catalogue.FLEETS.values():
        shared = [
            name if name in fleet.column_names else f"CAST(NULL AS {kind}) AS {name}"
            for name, kind in catalogue.COMMON_COLUMNS
        ]
        columns = ", ".join([*shared, *(column(fleet) for column in more_columns)])
        selects.append(f"SELECT '{fleet.name}' AS fleet, partition_month, {columns} FROM {fleet.table}")
    return " UNION ALL ".join(selects)


def _fare(fleet: catalogue.Fleet, name: str) -> str:
    column = next((column for column in FARES[name] if column in fleet.column_names), "CAST(NULL AS DOUBLE)")
    return f"{column} AS {name}"


def _flagged_trips() -> str:
    return _all_trips(
        *(partial(_fare, name=name) for name in FARES),
        lambda fleet: f"{rules.flags(fleet)} AS flags",
        lambda fleet: f"({rules.is_clean(fleet)}) AS is_clean",
    )


def _clean_comment(flagged: str) -> str:
    """The comment of `trips_clean`: it names the rules, and contains a digest that reveals any change of a rule.

    Args:
        flagged: the query of the view `trips_flagged`.
    """
    broken = "; or ".join(f"{rule.breaks} ({rule.name})" for rule in rules.TRIP_RULES if not rule.is_clean)
    digest = hashlib.sha256(flagged.encode()).hexdigest()[:12]
    return f"The trips of the view trips, except those that {broken}. [definition {digest}]"
