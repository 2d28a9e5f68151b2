"""Draws a report from the CSV file that `adhoc_report` has written, without opening the warehouse."""

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from include.nyc_taxi import catalogue
from include.nyc_taxi.files import locked
from include.nyc_taxi.reports import pictures, provenance
from include.nyc_taxi.reports.provenance import Provenance

WIDTH_PIXELS, HEIGHT_PIXELS = 1400, 800
HEAT = (150, 120, 1200, 660)
"""The left, bottom, right and top edge of the heat map, in pixels."""
HOURS = 24
NO_TRIPS: dict[str, Any] = {"facecolor": pictures.NO_TRIPS["facecolor"], "edgecolor": "white", "linewidth": 1}
"""Without the hatching that maps use, because the cells contain numbers."""
NO_SUCH_DAY: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.8", "linewidth": 0.8, "clip_on": False}


@dataclass(frozen=True)
class Chart:
    """A picture, with the number of lines in the CSV file (without its header) and the number of trips in them."""

    picture: Path
    rows: int
    trips: int


def draw_report(figures: Path) -> Chart:
    """Draw a report as a heat map, 1400 pixels wide, beside its CSV file `figures`.

    Each row is a weekday, and each column an hour of the day. A cell shows the average number of trips per hour, so
    that a weekday that occurs five times in the date range is comparable with one that occurs four times. Fleet,
    borough and dates are taken from the file, so that the picture matches it even if another request with the same
    name has replaced it in the meantime.

    Raises:
        FileNotFoundError: `count` has not written the file.
    """
    picture = figures.with_suffix(".png")
    # Without this lock, a concurrent run could replace the picture by one of older figures.
    with locked(figures.parent / ".charts.lock"):
        with locked(provenance.lock_path(figures)):
            with figures.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            where_from = provenance.read(figures)
        pictures.save(_figure(rows, where_from), picture)
    return Chart(picture, len(rows), sum(int(row["num_trips"]) for row in rows))


def days_of_weekdays(start: date, end: date) -> list[int]:
    """Count how often each weekday (Monday first) occurs from `start` to `end`, both included."""
    weeks, rest = divmod((end - start).days + 1, 7)
    more = {(start + timedelta(days=n)).weekday() for n in range(rest)}
    return [weeks + (weekday in more) for weekday in range(7)]


def _figure(rows: list[dict[str, str]], where_from: Provenance) -> Figure:
    about = rows[0]
    start, end = (date.fromisoformat(about[name]) for name in ("start_date", "end_date"))
    days = days_of_weekdays(start, end)
    names = list(dict.fromkeys(row["weekday"] for row in rows))  # Monday first
    trips = {(names.index(row["weekday"]), int(row["hour"])): int(row["num_trips"]) for row in rows}
    averages = {(weekday, hour): count / days[weekday] for (weekday, hour), count in trips.items() if days[weekday]}

    figure = pictures.new_figure(WIDTH_PIXELS, HEIGHT_PIXELS)
    span = f"{start}" if start == end else f"{start} to {end}"
    total = pictures.counted(sum(trips.values()), "trip")
    pictures.head(
        figure,
        f"{catalogue.fleet(about['fleet']).title}, {about['borough']}, {span}",
        f"Average trips per hour that began there, by weekday and hour of pickup ({total} in "
        f"{pictures.counted(sum(days), 'day')})",
        where_from,
    )
    norm = Normalize(0, max(averages.values()) or 1)
    axes = figure.add_axes(pictures.area(figure, *HEAT))
    for weekday in range(7):
        if days[weekday]:
            for hour in range(HOURS):
                _draw_cell(axes, weekday, hour, averages[weekday, hour], norm)
        else:
            _draw_no_such_day(axes, weekday, names[weekday])
    axes.set_xlim(0, HOURS)
    axes.set_ylim(7, 0)  # Monday is at the top
    axes.set_xticks([hour + 0.5 for hour in range(HOURS)], [str(hour) for hour in range(HOURS)])
    axes.set_yticks([weekday + 0.5 for weekday in range(7)], _row_labels(names, days))
    axes.tick_params(labelsize=13, length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Hour of pickup (8 is from 8:00 to before 9:00)", fontsize=14, labelpad=8)
    left, bottom, right, top = HEAT[2] + 34, HEAT[1] + 80, HEAT[2] + 59, HEAT[3] - 60
    pictures.legend(
        figure,
        (left, bottom, right, top),
        norm,
        "Average trips\nper hour",
        label=lambda value: short(value).removesuffix(".0"),
        others=[("No trips", NO_TRIPS), ("No such day", NO_SUCH_DAY)],
    )
    return figure


def _row_labels(names: list[str], days: list[int]) -> list[str]:
    """Return each weekday with the number of days that its averages cover."""
    return [f"{weekday}\n{pictures.counted(count, 'day')}" for weekday, count in zip(names, days, strict=True)]


def _draw_cell(axes: Axes, weekday: int, hour: int, average: float, norm: Normalize) -> None:
    colour = pictures.colour(average, norm) if average else to_rgb(NO_TRIPS["facecolor"])
    axes.add_patch(Rectangle((hour, weekday), 1, 1, **(NO_TRIPS | {"facecolor": colour})))
    text = short(average)
    axes.text(
        hour + 0.5,
        weekday + 0.5,
        text,
        ha="center",
        va="center",
        fontsize=10.5 if len(text) <= 4 else 9.5,
        color=pictures.ink(colour),
    )


def _draw_no_such_day(axes: Axes, weekday: int, name: str) -> None:
    axes.add_patch(Rectangle((0, weekday), HOURS, 1, **NO_SUCH_DAY))
    text = f"no such day: no {name} in the days asked for"
    axes.text(HOURS / 2, weekday + 0.5, text, ha="center", va="center", fontsize=12, color=pictures.GREY)


def short(average: float) -> str:
    """Format an average in at most five characters ("<0.05", "2.5", "123", "9,876", "12.3k"); "0" is exactly 0."""
    if average == 0:
        return "0"
    if average < 0.05:
        return "<0.05"
    if average < 9999.5:
        return f"{average:.1f}" if average < 99.95 else f"{average:,.0f}"
    return f"{average / 1000:.3g}k"
