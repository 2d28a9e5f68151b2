"""A report's numbers: a borough's trips by weekday and hour of day, from the warehouse into a CSV file."""

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
    """What a count did.

    Attributes:
        rows: lines of the file without its header: 168, one for each weekday and hour.
        trips: the trips counted.
        csv_file: the file written.
    """

    rows: int
    trips: int
    csv_file: Path


def csv_path(outputs: Path, name: str) -> Path:
    """Where a report's numbers are, in the requests' outputs folder."""
    return outputs / f"{name}.csv"


def count_trips(con: duckdb.DuckDBPyConnection, request: Request, outputs: Path) -> Report:
    """Count a request's trips by weekday (Monday first) and hour of pickup (0 to 23), and write them as CSV.

    The file has a row for each of the 168 hours of a week, with 0 where no trip began, and each row says what the
    request was: a picture is drawn from the file alone. Counts what is loaded, whichever month's file it came in.
    Beside the file it writes where the trips come from, for the picture.
    Call it inside a transaction: of two reports of one name, the later one's file stays.

    Raises:
        RequestError: a month that the dates touch is not loaded, or the zones are not; the message names the months.
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
            f"{request.fleet} {_spans(missing)} not loaded, but the request {request.name!r} is about "
            f"{request.start_date} to {request.end_date}: run taxi_trips_{request.fleet} for what is missing and clear "
            "this task, or ask again for days of months that are loaded"
        )
    if not con.execute(
        f"SELECT 1 FROM {warehouse.readable(con, 'zones')} WHERE borough = ? LIMIT 1", [request.borough]
    ).fetchone():
        raise RequestError(f"the warehouse has no zones of {request.borough}: run taxi_zones, then clear this task")


def _spans(months: list[Month]) -> str:
    """Months in order, as a reader would say them: "2023-01, 2023-03 to 2023-05"."""
    spans: list[list[Month]] = []
    for month in months:
        if spans and spans[-1][-1].next == month:
            spans[-1].append(month)
        else:
            spans.append([month])
    return ", ".join(span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans)
