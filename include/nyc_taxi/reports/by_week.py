"""Trips by week: the table `trips_by_week`, and a CSV file and a line chart made from it."""

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import date
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.audit import rules
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.months import WEEK, first_day, months_of_week
from include.nyc_taxi.reports import provenance

SUMS = ("total_amount", "trip_distance", "passenger_count")
CLEAN = ("clean_trips", "clean_total_amount", "clean_trip_distance")
HEADER = ("period", "num_trips", *SUMS, *CLEAN)


@dataclass(frozen=True)
class Week:
    """A week's figures; None is what the fleet's trips have no column for.

    Attributes:
        num_trips: trips whose pickup is in the week.
        total_amount: their fares with all that is added to them, in dollars.
        trip_distance: in miles.
        passenger_count: sum of what drivers entered; trips without a number add nothing.
        clean_trips, clean_total_amount, clean_trip_distance: the same of the trips in the view `trips_clean`: one that
            is recorded as thousands of miles long outweighs all others. None too where an older version has counted
            the week.
    """

    num_trips: int
    total_amount: float | None
    trip_distance: float | None
    passenger_count: int | None
    clean_trips: int | None
    clean_total_amount: float | None
    clean_trip_distance: float | None


@dataclass(frozen=True)
class Aggregate:
    """What an aggregation did: the week's figures, and the CSV file with that many weeks."""

    week: Week
    weeks: int
    csv_file: Path


def csv_path(outputs: Path) -> Path:
    """Where the CSV file of all weeks is, in the fleet's outputs folder."""
    return outputs / "trips_by_week.csv"


def chart_path(outputs: Path) -> Path:
    """Where the line chart of all weeks is, in the fleet's outputs folder."""
    return outputs / "trips_by_week.png"


def aggregate_week(con: duckdb.DuckDBPyConnection, fleet: str, monday: date, outputs: Path) -> Aggregate:
    """Replace a week's row in `trips_by_week`, in one transaction, and write the CSV file of all the fleet's weeks."""
    catalogue.fleet(fleet)

    def count() -> None:
        warehouse.ensure_tables(con)
        replace_weeks(con, fleet, [monday])

    warehouse.write(con, count)
    weeks = write_csv(con, fleet, outputs)
    return Aggregate(weeks[monday], len(weeks), csv_path(outputs))


def replace_weeks(con: duckdb.DuckDBPyConnection, fleet: str, mondays: Iterable[date]) -> None:
    """Count the weeks again from the trips that are loaded. Call it inside a transaction."""
    which = catalogue.fleet(fleet)
    types = {column.name: column.type for column in which.columns}

    def total(name: str, condition: str = "true") -> str:
        if name not in types:
            return "NULL"
        finite = f"isfinite({name})" if types[name] == "DOUBLE" else "true"
        return f"coalesce(sum({name}) FILTER ({condition} AND {finite}), 0)"

    sums = {name: total(name) for name in SUMS}
    sums |= {f"clean_{name}": total(name, "is_clean") for name in ("total_amount", "trip_distance")}
    for monday in mondays:
        con.execute("DELETE FROM trips_by_week WHERE fleet = ? AND period = ?", [fleet, monday])
        con.execute(
            warehouse.sql("replace_trips_by_week").format(table=which.table, is_clean=rules.is_clean(which), **sums),
            {"fleet": fleet, "monday": monday, "next_monday": monday + WEEK},
        )


def counted_weeks(con: duckdb.DuckDBPyConnection, fleet: str) -> dict[date, Week]:
    """What `trips_by_week` has of the fleet, by Monday, oldest first."""
    found = con.execute(f"SELECT {', '.join(HEADER)} FROM trips_by_week WHERE fleet = ? ORDER BY period", [fleet])
    return {monday: Week(*figures) for monday, *figures in found.fetchall()}


def weeks_in_month_file(con: duckdb.DuckDBPyConnection, fleet: str, start: date) -> set[date]:
    """The Mondays of all weeks in which a trip of one month's file was picked up, strays included."""
    found = con.execute(
        f"SELECT DISTINCT date_trunc('week', pickup_datetime)::DATE FROM {catalogue.fleet(fleet).table} "
        "WHERE partition_month = ? AND pickup_datetime IS NOT NULL",
        [start],
    ).fetchall()
    return {monday for (monday,) in found}


def write_csv(con: duckdb.DuckDBPyConnection, fleet: str, outputs: Path) -> dict[date, Week]:
    """Write all the fleet's weeks, oldest first, money (dollars) and miles rounded to 2; empty is what is not known.

    One process at a time writes what is then committed: of several, the last has seen the others' weeks. Where the
    trips of the weeks come from is written beside the file, for the chart.

    Returns:
        The weeks written, by Monday.
    """
    with locked(_lock(outputs)):
        weeks = counted_weeks(con, fleet)
        months = {first_day(month) for monday in weeks for month in months_of_week(monday)}
        # Before the CSV: should the process be killed in between, figures with a newer source are better than without.
        provenance.write(provenance.of_months(con, fleet, months), csv_path(outputs))
        with replacing(csv_path(outputs)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for monday, week in weeks.items():
                # Money and miles are the only figures that are not whole.
                writer.writerow((monday, *(f"{x:.2f}" if isinstance(x, float) else x for x in astuple(week))))
    return weeks


def _lock(outputs: Path) -> Path:
    return outputs / ".trips_by_week.lock"


def is_chart_old(outputs: Path) -> bool:
    """Whether the CSV file has changed since the chart was drawn. False where no week has been counted."""
    table, chart = csv_path(outputs), chart_path(outputs)
    return table.exists() and not (chart.exists() and chart.stat().st_mtime >= table.stat().st_mtime)


def draw_chart(fleet: str, outputs: Path) -> Path:
    """Draw the line chart of all weeks from the CSV file; returns its path.

    Raises:
        FileNotFoundError: no week has been counted yet.
    """
    from include.nyc_taxi.reports import charts  # slow to import, and of no use to those who count

    # Weeks are drawn side by side: without the lock one of them could put a picture of older figures over a newer.
    with locked(_lock(outputs)):
        with csv_path(outputs).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        charts.draw_weeks(
            catalogue.fleet(fleet).title,
            [date.fromisoformat(row["period"]) for row in rows],
            # A file of an older version has no figures of clean trips.
            {name: [float(row.get(name) or "nan") for row in rows] for name in HEADER[1:]},
            provenance.read(csv_path(outputs)),
            chart_path(outputs),
        )
    return chart_path(outputs)
