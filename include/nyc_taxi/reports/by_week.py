"""Trips by week: the table `trips_by_week`, and the CSV file and line chart made from it."""

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import date
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.audit import rules
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.months import WEEK, Month, months_of_week
from include.nyc_taxi.reports import provenance

SUMS = ("total_amount", "trip_distance", "passenger_count")
CLEAN = ("clean_trips", "clean_total_amount", "clean_trip_distance")
HEADER = ("period", "num_trips", *SUMS, *CLEAN)


@dataclass(frozen=True)
class Week:
    """A week's figures; a figure is None if the fleet's trips lack its column.

    Attributes:
        num_trips: the trips whose pickup is in the week.
        total_amount: the sum of their total amounts, in dollars.
        trip_distance: the sum of their distances, in miles.
        passenger_count: the sum of the numbers that drivers entered.
        clean_trips, clean_total_amount, clean_trip_distance: the same for the trips in the view `trips_clean`, because
            a single trip recorded with thousands of miles can outweigh all others. They are also None if an older
            version of this project counted the week.
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
    """The result of an aggregation: the week's figures, and the CSV file with its number of weeks."""

    week: Week
    weeks: int
    csv_file: Path


def csv_path(outputs: Path) -> Path:
    """The path of the CSV file with all weeks; `outputs` is the fleet's outputs folder."""
    return outputs / "trips_by_week.csv"


def chart_path(outputs: Path) -> Path:
    """The path of the line chart of all weeks; `outputs` is the fleet's outputs folder."""
    return outputs / "trips_by_week.png"


def aggregate_week(con: duckdb.DuckDBPyConnection, fleet: str, monday: date, outputs: Path) -> Aggregate:
    """Replace a week's row in `trips_by_week` in one transaction; then write the CSV file of all the fleet's weeks.

    Raises:
        FleetError: there is no such fleet.
    """
    catalogue.fleet(fleet)

    def count() -> None:
        warehouse.ensure_tables(con)
        replace_weeks(con, fleet, [monday])

    warehouse.write(con, count)
    weeks = write_csv(con, fleet, outputs)
    return Aggregate(weeks[monday], len(weeks), csv_path(outputs))


def replace_weeks(con: duckdb.DuckDBPyConnection, fleet: str, mondays: Iterable[date]) -> None:
    """Recount the weeks from the loaded trips. Call it within a transaction."""
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
    """The fleet's rows in `trips_by_week`, by Monday, oldest first."""
    weeks = warehouse.readable(con, "trips_by_week")
    found = con.execute(f"SELECT {', '.join(HEADER)} FROM {weeks} WHERE fleet = ? ORDER BY period", [fleet])
    return {monday: Week(*figures) for monday, *figures in found.fetchall()}


def weeks_with_trips(con: duckdb.DuckDBPyConnection, fleet: catalogue.Fleet, month: Month) -> set[date]:
    """The Mondays of all weeks that contain a pickup of the month's file, including its strays."""
    found = con.execute(
        f"SELECT DISTINCT date_trunc('week', pickup_datetime)::DATE FROM {fleet.table} "
        "WHERE partition_month = ? AND pickup_datetime IS NOT NULL",
        [month.first_day],
    ).fetchall()
    return {monday for (monday,) in found}


def write_csv(con: duckdb.DuckDBPyConnection, fleet: str, outputs: Path) -> dict[date, Week]:
    """Write all the fleet's committed weeks to the CSV file, oldest first, and their provenance to a file beside it.

    Amounts (in dollars) and distances (in miles) have two decimals. Unknown figures are empty. One process writes at a
    time, so that the last of several writers includes the weeks of the others.

    Returns:
        The weeks in the file, by Monday.
    """
    with locked(_lock(outputs)):
        weeks = counted_weeks(con, fleet)
        months = {month.first_day for monday in weeks for month in months_of_week(monday)}
        # The provenance comes first: if the process is killed in between, too new a provenance is better than none.
        provenance.write(provenance.of_months(con, fleet, months), csv_path(outputs))
        with replacing(csv_path(outputs)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for monday, week in weeks.items():
                # Only amounts and distances are floats.
                writer.writerow((monday, *(f"{x:.2f}" if isinstance(x, float) else x for x in astuple(week))))
    return weeks


def _lock(outputs: Path) -> Path:
    return outputs / ".trips_by_week.lock"


def is_chart_old(outputs: Path) -> bool:
    """Whether the CSV file has changed since the chart was drawn. False if no week has been counted."""
    table, chart = csv_path(outputs), chart_path(outputs)
    return table.exists() and not (chart.exists() and chart.stat().st_mtime >= table.stat().st_mtime)


def draw_chart(fleet: str, outputs: Path) -> Path:
    """Draw the line chart of all weeks from the CSV file, and return its path.

    Raises:
        FleetError: there is no such fleet.
        FileNotFoundError: no week has been counted yet.
    """
    from include.nyc_taxi.reports import charts  # slow to import, and not needed for counting

    # Without the lock, one of several concurrent runs could replace the chart by one with older figures.
    with locked(_lock(outputs)):
        with csv_path(outputs).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        charts.draw_weeks(
            catalogue.fleet(fleet).title,
            [date.fromisoformat(row["period"]) for row in rows],
            # Files from older versions have no figures about clean trips.
            {name: [float(row.get(name) or "nan") for row in rows] for name in HEADER[1:]},
            provenance.read(csv_path(outputs)),
            chart_path(outputs),
        )
    return chart_path(outputs)
