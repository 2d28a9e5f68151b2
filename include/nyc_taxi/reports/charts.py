"""Draw line charts, without a display and without the warehouse."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.ticker import FuncFormatter, MaxNLocator

from include.nyc_taxi.reports import pictures
from include.nyc_taxi.reports.provenance import Provenance

WIDTH_PIXELS = 1200
LEFT_PIXELS, RIGHT_PIXELS = 108, 40
HEAD_PIXELS, PANEL_PIXELS, GAP_PIXELS, AXIS_PIXELS, LINE_PIXELS, FOOT_PIXELS = 155, 228, 64, 88, 26, 40
MOST_TICKS = 8
TICK_STEPS = (1, 2, 3, 4, 6, 8, 13, 26, 39, 52, 78, 104)
"""The possible distances in weeks between two labels of the axis. Larger distances are multiples of 52 weeks."""


@dataclass(frozen=True)
class _Panel:
    """A panel of the chart.

    Attributes:
        figure: the figure that it shows.
        shown_with: the figure without which the panel is omitted. A fleet without amounts, for example, has no panel
            for the amounts of its clean trips.
        whole: whether the figure is a whole number.
        word: a word for the figure if it counts only clean trips; otherwise empty.
    """

    title: str
    figure: str
    shown_with: str
    whole: bool = False
    word: str = ""


PANELS = (
    _Panel("Trips (all)", "num_trips", "num_trips", whole=True),
    _Panel("Total amount of clean trips, dollars", "clean_total_amount", "total_amount", word="money"),
    _Panel("Distance of clean trips, miles", "clean_trip_distance", "trip_distance", word="miles"),
    _Panel("Passengers of all trips, as far as drivers entered them", "passenger_count", "passenger_count", whole=True),
)


def draw_weeks(
    title: str,
    mondays: Sequence[date],
    figures: Mapping[str, Sequence[float]],
    provenance: Provenance,
    picture: Path,
) -> None:
    """Draw weekly figures as lines, with one panel per figure. A missing week is a gap in the line.

    Amounts and distances include only clean trips, because the others make them meaningless: in green 2023-03, 53 of
    72,044 trips have 698,217 of its 896,913 miles. Notes below the panels say how many trips are left out. The picture
    is 1200 pixels wide, and its height depends on the number of panels.

    Args:
        title: the fleet's title, such as "Green taxis".
        mondays: the weeks, in order.
        figures: num_trips, total_amount, trip_distance, passenger_count, clean_trips, clean_total_amount and
            clean_trip_distance, each with one value per week. NaN makes a gap.
        provenance: the source of the trips.
        picture: the PNG file to write.
    """
    shown = [panel for panel in PANELS if any(not math.isnan(value) for value in figures[panel.shown_with])]
    notes = _notes(figures, [panel.word for panel in shown if panel.word])
    foot = AXIS_PIXELS + LINE_PIXELS * len(notes) + FOOT_PIXELS
    height = HEAD_PIXELS + len(shown) * (PANEL_PIXELS + GAP_PIXELS) - GAP_PIXELS + foot
    figure = pictures.new_figure(WIDTH_PIXELS, height)
    weeks = pictures.counted(len(mondays), "week")
    span = f"{mondays[0]}" if len(mondays) == 1 else f"{mondays[0]} to {mondays[-1]}"
    pictures.head(figure, f"{title} by week", f"{weeks}, each by its Monday: {span}", provenance)
    panels = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=LEFT_PIXELS / WIDTH_PIXELS,
        right=1 - RIGHT_PIXELS / WIDTH_PIXELS,
        top=1 - HEAD_PIXELS / height,
        bottom=foot / height,
        hspace=GAP_PIXELS / PANEL_PIXELS,
    )
    for axes, panel in zip(panels, shown, strict=True):
        _draw_panel(axes, panel, *_with_gaps(mondays, figures[panel.figure]))
    _label_mondays(panels[-1], mondays)
    for number, note in enumerate(reversed(notes)):
        pictures.write(figure, pictures.MARGIN, FOOT_PIXELS + 12 + LINE_PIXELS * number, note, fontsize=13)
    pictures.save(figure, picture)


def _notes(figures: Mapping[str, Sequence[float]], words: Sequence[str]) -> list[str]:
    """The notes about panels that include only clean trips; none if there are no such panels."""
    if not words:
        return []
    what, notes = " and ".join(words), []
    known = [not math.isnan(count) for count in figures["clean_trips"]]
    if any(known):
        trips = sum(int(count) for count, is_known in zip(figures["num_trips"], known, strict=True) if is_known)
        left_out = trips - sum(int(count) for count in figures["clean_trips"] if not math.isnan(count))
        share = pictures.number(100 * left_out / trips) if trips else "0"
        reason = "their fares, distances or times are implausible" if left_out else "all are plausible"
        counts = f"{left_out:,} of {pictures.counted(trips, 'trip')} ({share} %)"
        notes.append(f"{counts} left out of {what}: {reason} (view trips_clean)")
    if older := known.count(False):
        were = "1 week was" if older == 1 else f"{older:,} weeks were"
        again = "that week" if older == 1 else "those weeks"
        notes.append(f"{were} counted by an older version, without {what} of clean trips; run {again} again")
    return notes


def _with_gaps(mondays: Sequence[date], values: Sequence[float]) -> tuple[list[date], list[float]]:
    """All weeks from the first to the last, with NaN for missing ones, so that the line is interrupted there."""
    known = dict(zip(mondays, values, strict=True))
    count = (mondays[-1] - mondays[0]).days // 7 + 1
    weeks = [mondays[0] + timedelta(days=7 * n) for n in range(count)]
    return weeks, [known.get(week, float("nan")) for week in weeks]


def _draw_panel(axes: Axes, panel: _Panel, weeks: list[date], values: list[float]) -> None:
    # The markers show weeks between two gaps, which have no line. With many weeks, small markers suffice.
    axes.plot(
        np.array(weeks, dtype="datetime64[D]"),
        values,
        color="#2a6f97",
        linewidth=2,
        marker="o",
        markersize=5 if len(weeks) <= 60 else 2,
    )
    axes.set_title(panel.title, loc="left", fontsize=15)
    known = [value for value in values if not math.isnan(value)]
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    if low == high:  # all known values are 0
        high = 1
    room = 0.08 * (high - low)  # so that no marker is cut off at the edge
    axes.set_ylim(low - (room if low else 0), high + room)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=panel.whole))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    if not known:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not counted yet", transform=axes.transAxes, ha="center", fontsize=13, color=pictures.GREY)
    axes.tick_params(axis="y", labelsize=13, length=0)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _short(value: float) -> str:
    """A number for the labels of an axis, such as "2.5M", "300k", "20" or "0.5"."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _label_mondays(axes: Axes, mondays: Sequence[date]) -> None:
    """Label the axis with the full dates of Mondays."""
    first, last = mondays[0], mondays[-1]
    ticks = tick_mondays(first, last)
    axes.set_xticks(np.array(ticks, dtype="datetime64[D]"), [f"{monday}" for monday in ticks], fontsize=13)
    axes.tick_params(axis="x", pad=9)  # to clear the 0 of the other axis
    room = max(3.5, (last - first).days * 0.03)
    left, right = date2num([first, last])  # type: ignore[no-untyped-call]
    axes.set_xlim(left - room, right + room)
    axes.set_xlabel("Monday of the week", fontsize=13, labelpad=6)


def tick_mondays(first: date, last: date) -> list[date]:
    """The Mondays to label, at equal distances from the first on: at most `MOST_TICKS`, and all of them if they fit."""
    weeks = (last - first).days // 7 + 1
    step = next((step for step in TICK_STEPS if weeks <= step * MOST_TICKS), 0)
    step = step or 52 * math.ceil(weeks / MOST_TICKS / 52)
    return [first + timedelta(days=7 * n) for n in range(0, weeks, step)]
