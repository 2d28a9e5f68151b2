"""A report's picture, drawn from the CSV file that `adhoc_report` writes. Needs no warehouse."""

import csv
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from include.nyc_taxi import tlc
from include.nyc_taxi.files import locked, replacing

WIDTH_PIXELS, HEIGHT_PIXELS, DPI = 1400, 900, 100
COLOURS = ("#08306b", "#08519c", "#2171b5", "#4292c6", "#9ecae1", "#fd8d3c", "#d94801")
"""Of Monday to Sunday: working days in blue, the weekend in orange."""


@dataclass(frozen=True)
class Chart:
    """A picture, and what it shows: lines of the CSV file without its header, and the trips in them."""

    picture: Path
    rows: int
    trips: int


def draw_report(figures: Path) -> Chart:
    """Draw a report's stacked bars, 1400 pixels wide, beside its CSV file `figures`.

    One bar an hour of the day, in it one part a weekday. What the picture says of fleet, borough and dates is what the
    file says, so the two agree also where another request of the same name has written the file since.

    Raises:
        FileNotFoundError: `count` has not written the file.
    """
    picture = figures.with_suffix(".png")
    # Runs are side by side: without the lock one could put a picture of older figures over a newer.
    with locked(figures.parent / ".charts.lock"):
        with figures.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        figure = _figure(rows)
        with replacing(picture) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
    return Chart(picture, len(rows), sum(int(row["num_trips"]) for row in rows))


def _figure(rows: list[dict[str, str]]) -> Figure:
    # A Figure of its own, not pyplot: no display, no state shared between tasks.
    figure = Figure(figsize=(WIDTH_PIXELS / DPI, HEIGHT_PIXELS / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.115, 0.1, 0.725, 0.74))
    hours, below = list(range(24)), [0] * 24
    for weekday, colour in zip(dict.fromkeys(row["weekday"] for row in rows), COLOURS, strict=True):
        trips = [int(row["num_trips"]) for row in rows if row["weekday"] == weekday]
        axes.bar(hours, trips, bottom=below, width=0.8, color=colour, label=weekday)
        below = [low + high for low, high in zip(below, trips, strict=True)]

    axes.set_xticks(hours)
    axes.set_xlim(-0.6, 23.6)
    axes.set_ylim(0, max(1, *below) * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(labelsize=14, length=0)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("Hour of pickup", fontsize=15, labelpad=8)
    axes.set_ylabel("Trips", fontsize=15, labelpad=8)
    # Monday is at the bottom of each bar, so it is at the bottom of the list.
    axes.legend(reverse=True, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=15)

    about = rows[0]
    title = f"{tlc.fleet(about['fleet']).title}, {about['borough']}, {about['start_date']} to {about['end_date']}"
    figure.text(0.03, 0.935, title, fontsize=25, weight="bold")
    lead = f"{sum(below):,} trips that began there, by hour of the day and weekday"
    figure.text(0.03, 0.885, lead, fontsize=17, color="0.35")
    return figure
