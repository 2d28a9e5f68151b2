"""Copy a warehouse from a DuckDB file into a lake, or back, and verify that no row is lost or duplicated.

The list of tables and views is read from the database, so analysts' schemas, tables, columns and views are copied too.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.errors import MonthError, NycTaxiError
from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import lake, registry
from include.nyc_taxi.warehouse.sql_text import literal, quoted

FILE = "file"
"""The name of the DuckDB file in the connection to the lake."""

Name = tuple[str, str]
"""The schema and the name of a table or view."""


class MigrateError(NycTaxiError, permanent=True):
    """The warehouse cannot be copied, or the copy differs; the source is unchanged."""


_WRITE_COUNTER: Name = ("main", lake.WRITE_COUNTER)


@dataclass(frozen=True)
class Contents:
    """The number of rows of a table, or of a month in it, and a checksum over all columns that ignores their order."""

    rows: int
    checksum: int


@dataclass(frozen=True)
class Column:
    """A column of a table or view, as DuckDB describes it."""

    type: str
    nullable: bool
    default: str | None
    comment: str | None


@dataclass
class Relation:
    """A table or view: its comment, its SQL and its columns in order."""

    comment: str | None
    sql: str = ""
    columns: dict[str, Column] = field(default_factory=dict)


def migrate(con: duckdb.DuckDBPyConnection, path: str, *, into_lake: bool, say: Callable[[str], None]) -> int:
    """Copy all schemas, tables and views; return the number of rows in all tables of the copy.

    Trips are copied month by month, and each month is replaced as a whole. Months and tables that are identical already
    are skipped, so an interrupted copy continues where it stopped. Nobody may write to the source or the target
    meanwhile; the DuckDB file is locked. `say` reports what is not copied: indexes, keys, sequences, macros and custom
    types, and the columns whose type or default the target does not support.

    Args:
        con: a connection with the lake attached as the database `warehouse`, as `WarehouseHook` opens it.
        path: the DuckDB file.
        into_lake: True to copy from the file into the lake; False to copy from the lake into the file, which is created
            if it is missing.
        say: receives each line of the progress report.

    Raises:
        MigrateError: the target has tables, months or rows that the source lacks, cannot hold the source's tables or
            views, or differs from the source in the end.
    """
    source, target = (FILE, lake.DATABASE) if into_lake else (lake.DATABASE, FILE)
    try:
        with _attached(con, path, read_only=into_lake):
            con.execute(f"USE {target}")
            warehouse.make_ready(con)
            return _Copy(con, source, target, say).run()
    except duckdb.Error as error:
        # `from None`, because DuckDB's message can contain the text of the connection, and thus a password.
        reason = lake.without_passwords(str(error))
        raise MigrateError(f"the copy is incomplete: {reason}. Correct this, then run this again to continue") from None


@contextlib.contextmanager
def _attached(con: duckdb.DuckDBPyConnection, path: str, *, read_only: bool) -> Iterator[None]:
    try:
        con.execute(f"ATTACH {literal(path)} AS {FILE} ({'READ_ONLY' if read_only else 'READ_WRITE'})")
    except duckdb.IOException as error:
        raise MigrateError(f"{path} cannot be opened; is a task or a shell using it? {error}") from error
    try:
        yield
    finally:
        con.execute(f"USE {lake.DATABASE}")
        con.execute(f"DETACH {FILE}")


class _Copy:
    """One copy from the database `source` to the database `target`, which already has the project's own tables."""

    def __init__(self, con: duckdb.DuckDBPyConnection, source: str, target: str, say: Callable[[str], None]) -> None:
        self.con, self.source, self.target, self.say = con, source, target, say
        self.tables = _relations(con, source, "tables")
        if self.tables.pop(_WRITE_COUNTER, None) and source == FILE:
            raise MigrateError(
                f"{lake.WRITE_COUNTER}: expected no table of this name in the file, because a lake uses the name to "
                "serialize its writers; rename the table in the file, then run this again"
            )
        self.views = _relations(con, source, "views")
        self.months_of = {
            ("main", fleet.table): fleet for fleet in catalogue.FLEETS.values() if ("main", fleet.table) in self.tables
        }
        self.own_tables = {("main", table.name) for table in registry.tables()}
        self.own_views = {("main", view.name) for view in registry.views()}

    def run(self) -> int:
        self._check_other_tables()
        for schema in sorted({schema for schema, _ in [*self.tables, *self.views]} - {"main"}):
            self._write(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        for name in self.tables:
            self._ensure_table(name)
        self._check_months()
        for name in self.months_of:
            self._copy_months(name)
        others = sorted(self.tables.keys() - self.months_of.keys())
        for name in others:
            self._copy_table(name)
        self._copy_views()
        for kind, relations in (("TABLE", self.tables), ("VIEW", self.views)):
            self._copy_comments(kind, relations)
        self._report_omissions()
        return sum(self._compare(name) for name in [*others, *self.months_of])

    # -- before any row is written

    def _check_other_tables(self) -> None:
        """Raise MigrateError if the target has tables with rows that the source does not have."""
        others = _relations(self.con, self.target, "tables").keys() - self.tables.keys() - {_WRITE_COUNTER}
        full = sorted(name for name in others if self._count(self.target, name))
        if full:
            raise MigrateError(
                f"the target has tables that the source lacks: {', '.join(map(_label, full))}. Copy to a warehouse "
                "that is empty or contains a part of the source"
            )

    def _check_months(self) -> None:
        for name, fleet in self.months_of.items():
            wanted, existing = (self._months(database, name) for database in (self.source, self.target))
            if more := sorted(_month_label(start) for start in existing.keys() - wanted.keys()):
                raise MigrateError(
                    f"{fleet.name}: the target has months that the source lacks: {', '.join(more)}. Copy to a "
                    "warehouse that is empty or contains a part of the source"
                )

    # -- tables

    def _ensure_table(self, name: Name) -> None:
        """Create the table in the target, or add the source's columns that it lacks."""
        wanted = self.tables[name].columns
        existing = _relations(self.con, self.target, "tables").get(name)
        if existing and any(
            column in existing.columns
            and existing.columns[column].type not in (wanted[column].type, *_stand_ins(wanted[column].type))
            for column in wanted
        ):
            if self._count(self.target, name):
                raise MigrateError(
                    f"{_label(name)}: expected the source's column types in the target, found other types, and rows. "
                    "Drop the table in the target first"
                )
            self._write(f"DROP TABLE {quoted(*name)}")
            existing = None
        if existing is None:
            self._create(name)
            return
        for column, facts in wanted.items():
            if column not in existing.columns:
                self._add(name, column, facts)

    def _add(self, name: Name, column: str, facts: Column) -> None:
        for definition in _definitions(column, facts, not_null=False):
            try:
                self._write(f"ALTER TABLE {quoted(*name)} ADD COLUMN {definition}")
            except duckdb.Error as error:
                refusal = error
            else:
                return
        raise MigrateError(f"{_label(name)}.{column}: the column cannot be added in the target: {refusal}")

    def _create(self, name: Name) -> None:
        chosen: list[str] = []
        probe = (name[0], f"{name[1]} (copying)")
        # Try each column separately, to find the best definition that the target supports.
        for column, facts in self.tables[name].columns.items():
            best, *_ = definitions = _definitions(column, facts)
            for definition in definitions:
                try:
                    with self._rolled_back():
                        self.con.execute(f"CREATE TABLE {quoted(*probe)} ({definition})")
                except duckdb.Error as error:
                    refusal = error
                    continue
                if definition != best:
                    self.say(f"{_label(name)}: the column is {definition} instead of {best}")
                chosen.append(definition)
                break
            else:
                raise MigrateError(f"{_label(name)}.{column}: the column cannot be created in the target: {refusal}")
        self._write(f"CREATE TABLE {quoted(*name)} ({', '.join(chosen)})")
        if name in self.months_of and self.target == lake.DATABASE:
            warehouse.write(self.con, lambda: lake.partition(self.con, name[1]))

    def _copy_months(self, name: Name) -> None:
        fleet, table = self.months_of[name].name, self.tables[name]
        wanted, existing = (self._months(database, name) for database in (self.source, self.target))
        for start, contents in sorted(wanted.items(), key=lambda item: (item[0] is not None, item[0])):
            label = f"{fleet} {_month_label(start)}"
            if existing.get(start) == contents:
                self.say(f"{label}: identical already")
                continue
            query = f"SELECT {_names(table.columns)} FROM {self._at(self.source, name)} WHERE partition_month"
            if month := _month(start):
                with warehouse.replacement(self.con, name[1], month, lambda: None) as rows:
                    rows.stage(f"{query} = $month", {"month": start})
                    rows.publish(lambda _: None)
            else:
                day = literal(str(start)) if start else "NULL"
                others = f"IS NOT DISTINCT FROM CAST({day} AS DATE)"
                warehouse.write(
                    self.con, partial(self._replace, name, f"{query} {others}", f"partition_month {others}")
                )
            self.say(f"{label}: {contents.rows:,} trips")

    def _copy_table(self, name: Name) -> None:
        wanted, existing = (self._contents(database, name) for database in (self.source, self.target))
        if wanted == existing:
            return
        names = _names(self.tables[name].columns)
        if name not in self.own_tables and existing.rows:
            (more,) = self.con.execute(
                f"SELECT count(*) FROM (SELECT {self._values(name)} FROM {self._at(self.target, name)} EXCEPT ALL "
                f"SELECT {self._values(name)} FROM {self._at(self.source, name)})"
            ).fetchone() or (0,)
            if more:
                raise MigrateError(
                    f"{_label(name)}: the target has {more:,} rows that the source lacks. Drop the table in the target "
                    "first"
                )
        query = f"SELECT {names} FROM {self._at(self.source, name)} ORDER BY rowid"
        warehouse.write(self.con, lambda: self._replace(name, query))

    def _replace(self, name: Name, query: str, where: str = "TRUE") -> None:
        self.con.execute(f"DELETE FROM {quoted(*name)} WHERE {where}")
        self.con.execute(f"INSERT INTO {quoted(*name)} BY NAME {query}")

    def _compare(self, name: Name) -> int:
        wanted, found = (self._contents(database, name) for database in (self.source, self.target))
        if wanted != found:
            raise MigrateError(
                f"{_label(name)}: expected {wanted.rows:,} rows with the checksum {wanted.checksum}, found "
                f"{found.rows:,} with {found.checksum}. Has a task written meanwhile? Pause the DAGs, then run this "
                "again"
            )
        self.say(f"{_label(name)}: {wanted.rows:,} rows, checksum {wanted.checksum}, identical in source and target")
        return wanted.rows

    # -- views and comments

    def _copy_views(self) -> None:
        """Create the views that are not the project's own, in an order that satisfies their dependencies."""
        existing = _relations(self.con, self.target, "views")
        remaining = {
            name: view
            for name, view in self.views.items()
            if name not in self.own_views and (name not in existing or _definition(existing[name]) != _definition(view))
        }
        refusals: dict[Name, duckdb.Error] = {}
        while remaining:
            created = []
            for name, view in remaining.items():
                try:
                    self._write(f"CREATE OR REPLACE VIEW {quoted(*name)}{_definition(view)}")
                except duckdb.Error as error:
                    refusals[name] = error
                else:
                    created.append(name)
                    self.say(f"view {_label(name)}: copied")
            if not created:
                break
            for name in created:
                del remaining[name]
        for name in remaining:
            if self._can_be_read(self.source, name):
                raise MigrateError(f"the view {_label(name)} cannot be created in the target: {refusals[name]}")
            self.say(f"view {_label(name)}: not copied, because it cannot be read in the source either")

    def _can_be_read(self, database: str, name: Name) -> bool:
        try:
            self.con.execute(f"DESCRIBE {self._at(database, name)}")
        except duckdb.Error:
            return False
        return True

    def _copy_comments(self, kind: str, relations: dict[Name, Relation]) -> None:
        existing = _relations(self.con, self.target, "tables" if kind == "TABLE" else "views")
        for name, relation in relations.items():
            if name not in existing or name in self.own_views:
                continue
            comments = {f"{kind} {quoted(*name)}": (relation.comment, existing[name].comment)}
            for column, facts in relation.columns.items():
                if column in existing[name].columns:
                    pair = (facts.comment, existing[name].columns[column].comment)
                    comments[f"COLUMN {quoted(*name, column)}"] = pair
            for target, (comment, old_comment) in comments.items():
                if comment is not None and comment != old_comment:
                    try:
                        self._write(f"COMMENT ON {target} IS {literal(comment)}")
                    except (duckdb.NotImplementedException, duckdb.CatalogException):
                        self.say(f"{target}: its comment is not copied, because the target does not support it")

    def _report_omissions(self) -> None:
        """Report what is not copied. Queries return the same rows without it."""
        for kind, query in {
            "index": "SELECT schema_name, index_name FROM duckdb_indexes() WHERE database_name = $database",
            "sequence": "SELECT schema_name, sequence_name FROM duckdb_sequences() WHERE database_name = $database",
            "macro": "SELECT DISTINCT schema_name, function_name FROM duckdb_functions() "
            "WHERE database_name = $database AND NOT internal",
            "type": "SELECT schema_name, type_name FROM duckdb_types() "
            "WHERE database_name = $database AND NOT internal",
            "constraint": "SELECT schema_name, table_name || ': ' || constraint_text FROM duckdb_constraints() "
            "WHERE database_name = $database AND constraint_type <> 'NOT NULL'",
        }.items():
            for schema, name in sorted(self.con.execute(query, {"database": self.source}).fetchall()):
                self.say(f"not copied: {kind} {_label((schema, name))}")

    # -- helpers

    def _write(self, statement: str) -> None:
        warehouse.write(self.con, lambda: self.con.execute(statement))

    @contextlib.contextmanager
    def _rolled_back(self) -> Iterator[None]:
        self.con.execute("BEGIN TRANSACTION")
        try:
            yield
        finally:
            with contextlib.suppress(duckdb.TransactionException):
                self.con.execute("ROLLBACK")

    def _at(self, database: str, name: Name) -> str:
        return quoted(database, *name)

    def _count(self, database: str, name: Name) -> int:
        (rows,) = self.con.execute(f"SELECT count(*) FROM {self._at(database, name)}").fetchone() or (0,)
        return int(rows)

    def _values(self, name: Name) -> str:
        """SQL for the source's columns, cast to the types of the target so that both sides can be compared."""
        target = _relations(self.con, self.target, "tables")[name].columns
        return ", ".join(f"CAST({quoted(column)} AS {target[column].type})" for column in self.tables[name].columns)

    def _checksum(self, name: Name) -> str:
        return f"coalesce(sum(hash({self._values(name)})::HUGEINT), 0)"

    def _contents(self, database: str, name: Name) -> Contents:
        query = f"SELECT count(*), {self._checksum(name)} FROM {self._at(database, name)}"
        return Contents(*(self.con.execute(query).fetchone() or (0, 0)))

    def _months(self, database: str, name: Name) -> dict[date | None, Contents]:
        """The contents of a fleet's table by month."""
        query = f"SELECT partition_month, count(*), {self._checksum(name)} FROM {self._at(database, name)} GROUP BY ALL"
        return {start: Contents(*found) for start, *found in self.con.execute(query).fetchall()}


def _relations(con: duckdb.DuckDBPyConnection, database: str, kind: str) -> dict[Name, Relation]:
    """A database's tables or views in the order of their creation, with their columns."""
    singular = kind.removesuffix("s")
    found = {
        (schema, name): Relation(comment, sql or "")
        for schema, name, comment, sql in con.execute(
            f"SELECT schema_name, {singular}_name, comment, sql FROM duckdb_{kind}() "
            f"WHERE database_name = ? AND NOT internal ORDER BY {singular}_oid",
            [database],
        ).fetchall()
    }
    columns = con.execute(
        "SELECT schema_name, table_name, column_name, data_type, is_nullable, column_default, comment "
        "FROM duckdb_columns() WHERE database_name = ? AND NOT internal ORDER BY column_index",
        [database],
    )
    for schema, name, column, *facts in columns.fetchall():
        if relation := found.get((schema, name)):
            relation.columns[column] = Column(*facts)
    return found


def _definition(view: Relation) -> str:
    """The part of a view's SQL after the view's name, because a lake omits the schema from the name."""
    return re.sub(rf"^CREATE VIEW ({_NAME}\.)*{_NAME}", "", view.sql)


_NAME = r'(?:"(?:[^"]|"")*"|\w+)'


def _stand_ins(kind: str) -> list[str]:
    """Types that can hold a type's values if the target does not support the type, the best one first."""
    array = kind.rpartition("[")[0] + "[]" if kind.endswith("]") and not kind.endswith("[]") else None
    return [array, "VARCHAR"] if array else ["VARCHAR"]


def _definitions(name: str, column: Column, *, not_null: bool = True) -> list[str]:
    """Possible definitions of the column, the best one first."""
    rule = " NOT NULL" if not_null and not column.nullable else ""
    default = f" DEFAULT ({column.default})" if column.default not in (None, "NULL") else ""
    kinds = [column.type, *(kind for kind in _stand_ins(column.type) if kind != column.type)]
    return [f"{quoted(name)} {kind}{given}{rule}" for kind in kinds for given in dict.fromkeys((default, ""))]


def _names(columns: dict[str, Column]) -> str:
    return ", ".join(map(quoted, columns))


def _label(name: Name) -> str:
    """The name for a message, with its schema unless that is `main`."""
    return name[1] if name[0] == "main" else ".".join(name)


def _month(start: date | None) -> Month | None:
    """The month that begins on `start`; None if no month does, which rows that analysts insert make possible."""
    try:
        return Month.of(start) if start and start.day == 1 else None
    except MonthError:
        return None


def _month_label(start: date | None) -> str:
    return _month(start) or (str(start) if start else "without a month")
