"""Draw bar charts from the figures that `marts` has written, without opening the warehouse."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from include.nyc_taxi import catalogue
from include.nyc_taxi.files import locked
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import marts, pictures, provenance
from include.nyc_taxi.reports.provenance import Provenance

WIDTH_PIXELS = 1200
HEAD_PIXELS, BAR_PIXELS, GAP_PIXELS, AXIS_PIXELS, LEGEND_PIXELS, FOOT_PIXELS = 125, 34, 26, 80, 44, 44
LEFT_PIXELS, RIGHT_PIXELS = 330, 150
BOROUGHS = ("Manhattan", "Queens", "Brooklyn", "Bronx", "Staten Island", "EWR")
ELSEWHERE = "elsewhere or unknown"
ELSEWHERE_COLOUR = "0.8"


def draw_airports(figures: Path) -> Path:
    """Draw a month's trips from and to each airport as bars, divided by the borough at the other end.

    Args:
        figures: the CSV file that `marts.write_airports` has written. The picture is beside it.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with locked(marts.lock_path(figures)):
        rows, where_from = _read(figures)
        bars: dict[tuple[str, str], dict[str, float]] = {}
        for row in rows:
            parts = bars.setdefault((row["airport"], row["direction"]), {})
            other = row["other_borough"] if row["other_borough"] in BOROUGHS else ELSEWHERE
            parts[other] = parts.get(other, 0) + int(row["num_trips"])
        trips = {airport: sum(sum(p.values()) for (a, _), p in bars.items() if a == airport) for airport, _ in bars}
        order = sorted(bars, key=lambda bar: (-trips[bar[0]], bar))
        fleet, month = figures.parent.name, Month(figures.stem.rpartition("_")[2])
        figure = _bars(
            title=f"{catalogue.fleet(fleet).title}: airport trips, {month.label}",
            lead="Trips from and to each airport, by the borough at the other end, as published",
            bars=[(_label(*bar), bars[bar]) for bar in order],
            parts=[*BOROUGHS, ELSEWHERE],
            axis="Trips",
            where_from=where_from,
        )
        return _save(figure, figures)


def draw_shares(figures: Path) -> Path:
    """Draw each fleet's share of a month's pickups in each borough as bars that add up to 100 percent.

    Args:
        figures: the CSV file that `marts.write_shares` has written. The picture is beside it.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with locked(marts.lock_path(figures)):
        rows, where_from = _read(figures)
        shares: dict[str, dict[str, float]] = {}
        trips: dict[str, int] = {}
        for row in rows:
            shares.setdefault(row["borough"], {})[_title(row["fleet"])] = float(row["share_percent"])
            trips[row["borough"]] = trips.get(row["borough"], 0) + int(row["num_trips"])
        month = Month(figures.stem.rpartition("_")[2])
        figure = _bars(
            title=f"Market share by borough, {month.label}",
            lead="Each fleet's share of the pickups of all fleets that are loaded for the month",
            bars=[
                (f"{borough}\n{pictures.counted(trips[borough], 'trip')}", shares[borough])
                for borough in sorted(shares, key=lambda name: -trips[name])
            ],
            parts=[_title(fleet) for fleet in catalogue.FLEETS],
            axis="Percent of the pickups",
            where_from=where_from,
            whole=100,
        )
        return _save(figure, figures)


def _title(fleet: str) -> str:
    return catalogue.fleet(fleet).title


def _label(airport: str, direction: str) -> str:
    return f"{direction} {airport}"


def _read(figures: Path) -> tuple[list[dict[str, str]], Provenance]:
    with figures.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), provenance.read(figures)


def _save(figure: Figure, figures: Path) -> Path:
    picture = figures.with_suffix(".png")
    pictures.save(figure, picture)
    return picture


def _bars(
    *,
    title: str,
    lead: str,
    bars: Sequence[tuple[str, Mapping[str, float]]],
    parts: Sequence[str],
    axis: str,
    where_from: Provenance,
    whole: float | None = None,
) -> Figure:
    """A page with horizontal bars, each a sum of parts, and a legend of the parts.

    Args:
        bars: the label of each bar, and the sizes of its parts.
        parts: the names of the parts in their order; those that no bar has are left out.
        axis: the meaning of the sizes.
        whole: the size of all bars, if they are shares; else each bar's total is written beside it.
    """
    parts = [part for part in parts if any(sizes.get(part) for _, sizes in bars)]
    body = max(len(bars), 2) * (BAR_PIXELS + GAP_PIXELS)
    height = HEAD_PIXELS + body + AXIS_PIXELS + LEGEND_PIXELS + FOOT_PIXELS
    figure = pictures.new_figure(WIDTH_PIXELS, height)
    pictures.head(figure, title, lead, where_from)
    bottom = FOOT_PIXELS + LEGEND_PIXELS + AXIS_PIXELS
    axes = figure.add_axes(
        pictures.area(figure, LEFT_PIXELS, bottom, WIDTH_PIXELS - RIGHT_PIXELS, height - HEAD_PIXELS)
    )
    if not bars:
        axes.axis("off")
        axes.text(0.5, 0.5, "no trips", transform=axes.transAxes, ha="center", fontsize=15, color=pictures.GREY)
        return figure
    colours = dict(zip(parts, _colours(parts), strict=True))
    drawn: dict[str, Any] = {}
    for place, (_, sizes) in enumerate(bars):
        left = 0.0
        for part in parts:
            if size := sizes.get(part):
                style = {"color": colours[part], "edgecolor": "white", "linewidth": 0.8}
                drawn[part] = axes.barh(place, size, left=left, height=BAR_PIXELS / (BAR_PIXELS + GAP_PIXELS), **style)
                if whole and size >= 0.06 * whole:
                    ink = pictures.ink(colormaps["Greys"](0.25) if part == ELSEWHERE else colours[part])
                    shown = f"{size:.1f}"
                    axes.text(left + size / 2, place, shown, ha="center", va="center", fontsize=13, color=ink)
                left += size
        if not whole:
            axes.annotate(f"{left:,.0f}", (left, place), (6, 0), textcoords="offset points", va="center", fontsize=13)
    _finish(axes, [label for label, _ in bars], axis, whole)
    figure.legend(
        [drawn[part] for part in parts],
        parts,
        loc="lower left",
        bbox_to_anchor=(pictures.MARGIN / WIDTH_PIXELS - 0.01, FOOT_PIXELS / height),
        ncols=len(parts),
        frameon=False,
        fontsize=13,
        handlelength=1.2,
        columnspacing=1.4,
    )
    return figure


def _colours(parts: Sequence[str]) -> list[Any]:
    """A colour for each part, from the scale that all pictures use; grey for what is elsewhere."""
    known = [part for part in parts if part != ELSEWHERE]
    steps = [0.12 + 0.82 * place / max(len(known) - 1, 1) for place in range(len(known))]
    scale = colormaps[pictures.COLOURS]
    return [*(scale(step) for step in steps), *([ELSEWHERE_COLOUR] if ELSEWHERE in parts else [])]


def _finish(axes: Axes, labels: Sequence[str], axis: str, whole: float | None) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=14)
    axes.invert_yaxis()  # the first bar on top
    axes.set_xlabel(axis, fontsize=13, labelpad=6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if whole:
        axes.set_xlim(0, whole)
    axes.tick_params(axis="x", labelsize=13, length=0, pad=6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
