"""Copy a warehouse from a DuckDB file into a lake, or back, and make sure that nothing is lost or doubled.

What there is to copy is read from the database: an analyst's schemas, tables, columns and views go along.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.months import Month
from include.nyc_taxi.warehouse import lake, registry
from include.nyc_taxi.warehouse.lake import quoted

FILE = "file"
"""What the DuckDB file is called in the connection that has the lake."""

Name = tuple[str, str]
"""Of a table or view: its schema and its own."""


class MigrateError(NycTaxiError, permanent=True):
    """The copy cannot be made, or is not equal to what was copied; what was copied from is as it was."""


@dataclass(frozen=True)
class Contents:
    """Of a table, or a month of it: number of rows, and a checksum over all columns, whatever the rows' order."""

    rows: int
    checksum: int


@dataclass(frozen=True)
class Column:
    """A table's or view's column, as DuckDB describes it."""

    type: str
    nullable: bool
    default: str | None
    comment: str | None


@dataclass
class Relation:
    """A table or view: its columns in order, its comment, a view's SQL."""

    comment: str | None
    sql: str = ""
    columns: dict[str, Column] = field(default_factory=dict)


def migrate(con: duckdb.DuckDBPyConnection, path: str, *, into_lake: bool, say: Callable[[str], None]) -> int:
    """Copy all schemas, tables and views; returns the number of rows that the copy then has, of all tables together.

    Trips are copied month by month, each replaced as a whole; months and tables that are the same already are passed
    over: an interrupted copy goes on where it was. Nobody may write on the other side meanwhile; a file is locked.
    What the other side cannot have (indexes, keys and some types in a lake, macros in either) is named by `say`.

    Args:
        con: has the lake attached as the database `warehouse`, as `WarehouseHook` opens it.
        path: the DuckDB file.
        into_lake: from the file into the lake; else from the lake into the file, which is made where it is missing.
        say: is told what has been done, a line each.

    Raises:
        MigrateError: the copy's side has months or rows that the other has not, or differs from it in the end.
    """
    with _attached(con, path, read_only=into_lake):
        source, target = (FILE, lake.DATABASE) if into_lake else (lake.DATABASE, FILE)
        con.execute(f"USE {target}")
        warehouse.make_ready(con)
        return _Copy(con, source, target, say).run()


@contextlib.contextmanager
def _attached(con: duckdb.DuckDBPyConnection, path: str, *, read_only: bool) -> Iterator[None]:
    literal = path.replace("'", "''")
    try:
        con.execute(f"ATTACH '{literal}' AS {FILE} ({'READ_ONLY' if read_only else 'READ_WRITE'})")
    except duckdb.IOException as error:
        raise MigrateError(f"{path} cannot be opened; is a task or a shell at it? {error}") from error
    try:
        yield
    finally:
        con.execute(f"USE {lake.DATABASE}")
        con.execute(f"DETACH {FILE}")


class _Copy:
    """One copy from the database `source` into the database `target`, which has the project's own tables already."""

    def __init__(self, con: duckdb.DuckDBPyConnection, source: str, target: str, say: Callable[[str], None]) -> None:
        self.con, self.source, self.target, self.say = con, source, target, say
        self.tables = _relations(con, source, "tables")
        self.tables.pop(("main", lake.WRITE_COUNTER), None)
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
            self._make(name)
        self._check_months()
        for name in self.months_of:
            self._copy_months(name)
        others = sorted(self.tables.keys() - self.months_of.keys())
        for name in others:
            self._copy_table(name)
        self._copy_views()
        for kind, relations in (("TABLE", self.tables), ("VIEW", self.views)):
            self._copy_comments(kind, relations)
        self._say_what_is_left()
        return sum(self._compare(name) for name in [*others, *self.months_of])

    # -- before anything is written

    def _check_other_tables(self) -> None:
        """Raise MigrateError where the copy's side has tables with rows that are not to be copied."""
        others = (
            _relations(self.con, self.target, "tables").keys() - self.tables.keys() - {("main", lake.WRITE_COUNTER)}
        )
        full = sorted(name for name in others if self._count(self.target, name))
        if full:
            raise MigrateError(
                f"the copy's side has tables that are not to be copied: {', '.join(map(_called, full))}. Copy into a "
                "warehouse that is empty, or has a part of the same tables"
            )

    def _check_months(self) -> None:
        for name, fleet in self.months_of.items():
            ours, theirs = (self._months(database, name) for database in (self.source, self.target))
            if more := sorted(Month.of(start) for start in theirs.keys() - ours.keys() if start):
                raise MigrateError(
                    f"{fleet.name}: the copy's side has months that are not to be copied: {', '.join(more)}. Copy into "
                    "a warehouse that is empty, or has a part of the same months"
                )

    # -- tables

    def _make(self, name: Name) -> None:
        """Have the table on the copy's side, with at least the columns that it has here."""
        wanted = self.tables[name].columns
        there = _relations(self.con, self.target, "tables").get(name)
        if there and any(
            column in there.columns
            and there.columns[column].type not in (wanted[column].type, *_stand_ins(wanted[column].type))
            for column in wanted
        ):
            if self._count(self.target, name):
                raise MigrateError(
                    f"{_called(name)}: its columns have other types on the copy's side, and rows. Drop it there first"
                )
            self._write(f"DROP TABLE {_sql(name)}")
            there = None
        if there is None:
            self._create(name)
            return
        for column, facts in wanted.items():
            if column not in there.columns:
                self._add(name, column, facts)

    def _add(self, name: Name, column: str, facts: Column) -> None:
        for definition in _definitions(column, facts, not_null=False):
            try:
                self._write(f"ALTER TABLE {_sql(name)} ADD COLUMN {definition}")
            except duckdb.Error as error:
                refused = error
            else:
                return
        raise MigrateError(f"{_called(name)}.{column}: the copy's side cannot have it: {refused}")

    def _create(self, name: Name) -> None:
        chosen: list[str] = []
        probe = (name[0], f"{name[1]} (copying)")
        # Column by column, to find for each what the other side can have.
        for column, facts in self.tables[name].columns.items():
            for definition in _definitions(column, facts):
                try:
                    with self._rolled_back():
                        self.con.execute(f"CREATE TABLE {_sql(probe)} ({definition})")
                except duckdb.Error as error:
                    refused = error
                    continue
                if definition != _definitions(column, facts)[0]:
                    self.say(f"{_called(name)}: the column {definition} in place of {_definitions(column, facts)[0]}")
                chosen.append(definition)
                break
            else:
                raise MigrateError(f"{_called(name)}.{column}: the copy's side cannot have it: {refused}")
        self._write(f"CREATE TABLE {_sql(name)} ({', '.join(chosen)})")
        if name in self.months_of and self.target == lake.DATABASE:
            warehouse.write(self.con, lambda: lake.partition(self.con, name[1]))

    def _copy_months(self, name: Name) -> None:
        fleet, table = self.months_of[name].name, self.tables[name]
        ours, theirs = (self._months(database, name) for database in (self.source, self.target))
        for start, contents in sorted(ours.items(), key=lambda item: (item[0] is not None, item[0])):
            called = f"{fleet} {Month.of(start) if start else 'without a month'}"
            if theirs.get(start) == contents:
                self.say(f"{called}: the same already")
                continue
            query = f"SELECT {_names(table.columns)} FROM {self._at(self.source, name)} WHERE partition_month"
            if start is None:
                without = partial(self._replace, name, f"{query} IS NULL", "partition_month IS NULL")
                warehouse.write(self.con, without)
            else:
                with warehouse.replacement(self.con, name[1], Month.of(start), lambda: None) as rows:
                    rows.stage(f"{query} = $month", {"month": start})
                    rows.publish(lambda _: None)
            self.say(f"{called}: {contents.rows:,} trips")

    def _copy_table(self, name: Name) -> None:
        ours, theirs = (self._contents(database, name) for database in (self.source, self.target))
        if ours == theirs:
            return
        names = _names(self.tables[name].columns)
        if name not in self.own_tables and theirs.rows:
            (more,) = self.con.execute(
                f"SELECT count(*) FROM (SELECT {self._values(name)} FROM {self._at(self.target, name)} EXCEPT ALL "
                f"SELECT {self._values(name)} FROM {self._at(self.source, name)})"
            ).fetchone() or (0,)
            if more:
                raise MigrateError(
                    f"{_called(name)}: the copy's side has {more:,} rows that are not to be copied. Drop it there first"
                )
        query = f"SELECT {names} FROM {self._at(self.source, name)} ORDER BY rowid"
        warehouse.write(self.con, lambda: self._replace(name, query))

    def _replace(self, name: Name, query: str, where: str = "TRUE") -> None:
        self.con.execute(f"DELETE FROM {_sql(name)} WHERE {where}")
        self.con.execute(f"INSERT INTO {_sql(name)} BY NAME {query}")

    def _compare(self, name: Name) -> int:
        ours, theirs = (self._contents(database, name) for database in (self.source, self.target))
        if ours != theirs:
            raise MigrateError(
                f"{_called(name)}: expected {ours.rows:,} rows with the checksum {ours.checksum}, found "
                f"{theirs.rows:,} with {theirs.checksum}. Has a task written meanwhile? Pause the DAGs, then run this "
                "again"
            )
        self.say(f"{_called(name)}: {ours.rows:,} rows, checksum {ours.checksum}, the same on both sides")
        return ours.rows

    # -- views and comments

    def _copy_views(self) -> None:
        """Make the views that are not the project's own, those first that others read."""
        there = _relations(self.con, self.target, "views")
        left = {
            name: view
            for name, view in self.views.items()
            if name not in self.own_views and (name not in there or _definition(there[name]) != _definition(view))
        }
        refused: dict[Name, duckdb.Error] = {}
        while left:
            made = []
            for name, view in left.items():
                try:
                    self._write(f"CREATE OR REPLACE VIEW {_sql(name)}{_definition(view)}")
                except duckdb.Error as error:
                    refused[name] = error
                else:
                    made.append(name)
                    self.say(f"view {_called(name)}")
            if not made:
                break
            for name in made:
                del left[name]
        for name in left:
            if self._can_be_read(self.source, name):
                raise MigrateError(f"the view {_called(name)} cannot be made on the copy's side: {refused[name]}")
            self.say(f"view {_called(name)}: not copied, it cannot be read here either")

    def _can_be_read(self, database: str, name: Name) -> bool:
        try:
            self.con.execute(f"DESCRIBE {self._at(database, name)}")
        except duckdb.Error:
            return False
        return True

    def _copy_comments(self, kind: str, relations: dict[Name, Relation]) -> None:
        there = _relations(self.con, self.target, "tables" if kind == "TABLE" else "views")
        for name, relation in relations.items():
            if name not in there or name in self.own_views:
                continue
            wanted = {f"{kind} {_sql(name)}": (relation.comment, there[name].comment)}
            for column, facts in relation.columns.items():
                if column in there[name].columns:
                    wanted[f"COLUMN {_sql(name)}.{quoted(column)}"] = (
                        facts.comment,
                        there[name].columns[column].comment,
                    )
            for what, (ours, theirs) in wanted.items():
                if ours is not None and ours != theirs:
                    literal = ours.replace("'", "''")
                    try:
                        self._write(f"COMMENT ON {what} IS '{literal}'")
                    except (duckdb.NotImplementedException, duckdb.CatalogException):
                        self.say(f"{what}: its comment is not copied, the copy's side cannot have it")

    def _say_what_is_left(self) -> None:
        """Name what a copy does not have: the results stay the same without it."""
        for what, query in {
            "index": "SELECT schema_name, index_name FROM duckdb_indexes() WHERE database_name = $database",
            "sequence": "SELECT schema_name, sequence_name FROM duckdb_sequences() WHERE database_name = $database",
            "macro": "SELECT DISTINCT schema_name, function_name FROM duckdb_functions() "
            "WHERE database_name = $database AND NOT internal",
            "constraint": "SELECT schema_name, table_name || ': ' || constraint_text FROM duckdb_constraints() "
            "WHERE database_name = $database AND constraint_type <> 'NOT NULL'",
        }.items():
            for schema, name in sorted(self.con.execute(query, {"database": self.source}).fetchall()):
                self.say(f"not copied: {what} {_called((schema, name))}")

    # -- small things

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
        return f"{quoted(database)}.{_sql(name)}"

    def _count(self, database: str, name: Name) -> int:
        (rows,) = self.con.execute(f"SELECT count(*) FROM {self._at(database, name)}").fetchone() or (0,)
        return int(rows)

    def _values(self, name: Name) -> str:
        """The table's columns here, in the types that they have on the copy's side: what can be compared."""
        there = _relations(self.con, self.target, "tables")[name].columns
        return ", ".join(f"CAST({quoted(column)} AS {there[column].type})" for column in self.tables[name].columns)

    def _checksum(self, name: Name) -> str:
        return f"coalesce(sum(hash({self._values(name)})::HUGEINT), 0)"

    def _contents(self, database: str, name: Name) -> Contents:
        query = f"SELECT count(*), {self._checksum(name)} FROM {self._at(database, name)}"
        return Contents(*(self.con.execute(query).fetchone() or (0, 0)))

    def _months(self, database: str, name: Name) -> dict[date | None, Contents]:
        """What a fleet's table has of each month."""
        query = f"SELECT partition_month, count(*), {self._checksum(name)} FROM {self._at(database, name)} GROUP BY ALL"
        return {start: Contents(*found) for start, *found in self.con.execute(query).fetchall()}


def _relations(con: duckdb.DuckDBPyConnection, database: str, kind: str) -> dict[Name, Relation]:
    """A database's tables or views, in the order in which they were made, with their columns."""
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
    """What comes after a view's name in its SQL: a lake leaves the schema out of the name."""
    return re.sub(rf"^CREATE VIEW ({_NAME}\.)*{_NAME}", "", view.sql)


_NAME = r'(?:"(?:[^"]|"")*"|\w+)'


def _stand_ins(kind: str) -> list[str]:
    """What can hold a type's values where there is no such type, as in a lake: the nearest first."""
    array = kind.rpartition("[")[0] + "[]" if kind.endswith("]") and not kind.endswith("[]") else None
    return [array, "VARCHAR"] if array else ["VARCHAR"]


def _definitions(name: str, column: Column, *, not_null: bool = True) -> list[str]:
    """How the column may be defined, the best way first."""
    rule = " NOT NULL" if not_null and not column.nullable else ""
    default = f" DEFAULT ({column.default})" if column.default not in (None, "NULL") else ""
    kinds = [column.type, *(kind for kind in _stand_ins(column.type) if kind != column.type)]
    return [f"{quoted(name)} {kind}{given}{rule}" for kind in kinds for given in dict.fromkeys((default, ""))]


def _names(columns: dict[str, Column]) -> str:
    return ", ".join(map(quoted, columns))


def _sql(name: Name) -> str:
    return ".".join(map(quoted, name))


def _called(name: Name) -> str:
    """The name as a reader knows it: with its schema where that is not the main one."""
    return name[1] if name[0] == "main" else ".".join(name)
