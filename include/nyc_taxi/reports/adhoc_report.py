"""Counts a borough's trips by weekday and hour of the day, and writes the numbers to a CSV file."""

import csv
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.errors import RequestError
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.months import Month, month_range
from include.nyc_taxi.reports import provenance
from include.nyc_taxi.reports.adhoc import Request

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLUMNS = ("fleet", "borough", "start_date", "end_date", "weekday", "hour", "num_trips")


@dataclass(frozen=True)
class Report:
    """The result of a count.

    Attributes:
        rows: the lines of the file without its header: 168, one for each weekday and hour.
        trips: the number of trips counted.
        csv_file: the file written.
    """

    rows: int
    trips: int
    csv_file: Path


def csv_path(outputs: Path, name: str) -> Path:
    """The path of a report's numbers in the outputs folder of requests."""
    return outputs / f"{name}.csv"


def count_trips(con: duckdb.DuckDBPyConnection, request: Request, outputs: Path) -> Report:
    """Count the trips of a request by weekday (Monday first) and hour of pickup (0 to 23), and write them as CSV.

    The file has one row for each of the 168 hours of a week, even if no trip began in it. Each row repeats the request,
    so that the picture can be drawn from the file alone. All loaded trips count, no matter which month's file they came
    in. A second file, beside the first, records where the trips come from.

    Call this function inside a transaction. If two reports have the same name, the later one replaces the file.

    Raises:
        RequestError: a month in the date range is not loaded (the message names it), or there are no zones.
    """
    _check_loaded(con, request)
    found = con.execute(
        warehouse.sql("trips_by_hour").format(table=catalogue.fleet(request.fleet).table),
        {
            "borough": request.borough,
            "start": datetime.combine(request.start_date, time.min),
            "end": datetime.combine(request.end_date + timedelta(days=1), time.min),
        },
    ).fetchall()
    trips = {(weekday, hour): num_trips for weekday, hour, num_trips in found}
    about = (request.fleet, request.borough, request.start_date, request.end_date)
    rows = [
        (*about, weekday, hour, trips.get((number, hour), 0))
        for number, weekday in enumerate(WEEKDAYS, start=1)
        for hour in range(24)
    ]
    path = csv_path(outputs, request.name)
    months = [month.first_day for month in _months(request)]
    where_from = provenance.of_months(con, request.fleet, months)
    with locked(provenance.lock_path(path)):
        provenance.write(where_from, path)
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
    return Report(rows=len(rows), trips=sum(trips.values()), csv_file=path)


def _months(request: Request) -> list[Month]:
    return month_range(Month.of(request.start_date), Month.of(request.end_date))


def _check_loaded(con: duckdb.DuckDBPyConnection, request: Request) -> None:
    loaded = {
        Month.of(start)
        for (start,) in con.execute(
            f"SELECT DISTINCT partition_month FROM {warehouse.readable(con, 'loads')} WHERE fleet = ?", [request.fleet]
        ).fetchall()
    }
    if missing := [month for month in _months(request) if month not in loaded]:
        raise RequestError(
            f"{request.fleet} {_spans(missing)} {'is' if len(missing) == 1 else 'are'} not loaded, but the request "
            f"{request.name!r} is about {request.start_date} to {request.end_date}: run taxi_trips_{request.fleet} for "
            "the missing months and clear this task, or send another request for days in loaded months"
        )
    if not con.execute(
        f"SELECT 1 FROM {warehouse.readable(con, 'zones')} WHERE borough = ? LIMIT 1", [request.borough]
    ).fetchone():
        raise RequestError(f"the warehouse has no zones of {request.borough}: run taxi_zones, then clear this task")


def _spans(months: list[Month]) -> str:
    """Join consecutive months: "2023-01, 2023-03 to 2023-05"."""
    spans: list[list[Month]] = []
    for month in months:
        if spans and spans[-1][-1].next == month:
            spans[-1].append(month)
        else:
            spans.append([month])
    return ", ".join(span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans)
