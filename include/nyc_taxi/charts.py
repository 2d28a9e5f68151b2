"""Line charts, drawn without a display. Needs no warehouse."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from include.nyc_taxi.files import replacing

WIDTH_PIXELS, DPI = 1200, 100
HEAD_PIXELS, PANEL_PIXELS, GAP_PIXELS, FOOT_PIXELS = 145, 228, 64, 63
TITLES = {
    "num_trips": "Trips",
    "total_amount": "Total amount, dollars",
    "trip_distance": "Distance, miles",
    "passenger_count": "Passengers",
}


def draw_weeks(title: str, mondays: Sequence[date], figures: Mapping[str, Sequence[float]], picture: Path) -> None:
    """Draw weekly figures as lines, one panel a figure, 1200 pixels wide; a week that is missing is a gap in the line.

    The picture is as high as it has panels.

    Args:
        title: what the figures are of ("Green taxis").
        mondays: the weeks, in order.
        figures: some of TITLES, each with as many values as there are weeks; NaN is a gap too.
        picture: the PNG file to write.
    """
    shown = [name for name in TITLES if name in figures]
    height = HEAD_PIXELS + len(shown) * (PANEL_PIXELS + GAP_PIXELS) - GAP_PIXELS + FOOT_PIXELS
    figure = Figure(figsize=(WIDTH_PIXELS / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.09,
        right=0.97,
        top=1 - HEAD_PIXELS / height,
        bottom=FOOT_PIXELS / height,
        hspace=GAP_PIXELS / PANEL_PIXELS,
    )
    for axes, name in zip(panels, shown, strict=True):
        _draw_panel(axes, TITLES[name], *_with_gaps(mondays, figures[name]))
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    panels[-1].xaxis.set_major_locator(locator)
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]
    panels[-1].tick_params(axis="x", labelsize=13)
    weeks = "1 week" if len(mondays) == 1 else f"{len(mondays)} weeks"
    figure.text(0.03, 1 - 58 / height, f"{title} by week", fontsize=24, weight="bold")
    figure.text(
        0.03,
        1 - 91 / height,
        f"{weeks}, by the Monday, {mondays[0]:%Y-%m-%d} to {mondays[-1]:%Y-%m-%d}",
        fontsize=15,
        color="0.35",
    )
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _with_gaps(mondays: Sequence[date], values: Sequence[float]) -> tuple[list[date], list[float]]:
    """The points of a line that breaks where a week is missing."""
    known = dict(zip(mondays, values, strict=True))
    count = (mondays[-1] - mondays[0]).days // 7 + 1
    weeks = [mondays[0] + timedelta(days=7 * n) for n in range(count)]
    return weeks, [known.get(week, float("nan")) for week in weeks]


def _draw_panel(axes: Axes, label: str, weeks: list[date], values: list[float]) -> None:
    # A week between two gaps has no line to either side: the marker shows it. Many weeks need none.
    axes.plot(
        np.array(weeks, dtype="datetime64[D]"),
        values,
        color="#2a6f97",
        linewidth=2,
        marker="o",
        markersize=5 if len(weeks) <= 60 else 2,
    )
    axes.set_title(label, loc="left", fontsize=15)
    low, high = axes.get_ylim()
    bottom = min(0, low)
    axes.set_ylim(bottom, high + 0.05 * (high - bottom))  # a marker at the top is not cut in two
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(axis="y", labelsize=13, length=0)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
