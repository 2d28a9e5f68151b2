"""Maps of Manhattan, drawn from the GeoJSON files that `aggregate` writes. Needs no warehouse."""

import json
from dataclasses import dataclass
from pathlib import Path

import geopandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from include.nyc_taxi import months, tlc
from include.nyc_taxi.aggregate import month_map_path, month_stats_path, overall_stats_path
from include.nyc_taxi.files import locked, replacing

WIDTH_PIXELS, HEIGHT_PIXELS, DPI = 1000, 1300, 100


@dataclass(frozen=True)
class Maps:
    """The pictures drawn: of the month, and of all months loaded so far."""

    month_file: Path
    overall_file: Path


def draw_maps(month: str, outputs: Path) -> Maps:
    """Draw a map of a month and one over all months, from the GeoJSON files in a fleet's folder `outputs`.

    Raises:
        FileNotFoundError: `aggregate` has not written one of them.
    """
    month_file, overall_file = month_map_path(outputs, month), outputs / "manhattan_map.png"
    draw_map(month_stats_path(outputs, month), month_file)
    # Months are drawn side by side: without the lock one of them could put a picture of older figures over a newer.
    with locked(outputs / ".manhattan_map.lock"):
        draw_map(overall_stats_path(outputs), overall_file)
    return Maps(month_file, overall_file)


def draw_map(stats: Path, picture: Path) -> None:
    """Draw the choropleth of trips by pickup zone from a GeoJSON file of `aggregate`, 1000 pixels wide."""
    collection = json.loads(stats.read_text(encoding="utf-8"))
    frame = geopandas.GeoDataFrame.from_features(collection["features"], crs="EPSG:4326")
    # Feet on the ground in place of degrees: the island keeps its true shape.
    frame = frame.to_crs("EPSG:2263")

    # A Figure of its own, not pyplot: no display, no state shared between tasks.
    figure = Figure(figsize=(WIDTH_PIXELS / DPI, HEIGHT_PIXELS / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.03, 0.02, 0.78, 0.87))
    highest = max(1, int(frame["num_trips"].max()))
    # A square-root scale: a few zones have most of the trips, and on a linear one all others would look alike.
    scale = PowerNorm(gamma=0.5, vmin=0, vmax=highest)
    frame.plot(column="num_trips", cmap="viridis", norm=scale, ax=axes, edgecolor="white", linewidth=0.6)
    axes.set_axis_off()
    axes.set_aspect("equal")

    bar = figure.colorbar(axes.collections[0], cax=figure.add_axes((0.85, 0.2, 0.025, 0.5)))
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(nbins=6, integer=True)
    bar.formatter = FuncFormatter(lambda value, _: f"{value:,.0f}")
    bar.ax.tick_params(labelsize=15, length=0)
    bar.ax.set_title("Trips", fontsize=16, loc="left", pad=14)
    bar.update_ticks()

    period, gap = _period(collection)
    size = 26 if collection["months"] == 1 else 23
    figure.text(0.04, 0.955, f"{tlc.fleet(collection['fleet']).title}, {period}", fontsize=size, weight="bold")
    total = int(frame["num_trips"].sum())
    figure.text(0.04, 0.925, f"{total:,} trips that began in Manhattan, by pickup zone{gap}", fontsize=17, color="0.35")
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _period(collection: dict[str, object]) -> tuple[str, str]:
    first, last, count = str(collection["first_month"]), str(collection["last_month"]), collection["months"]
    if count == 1:
        return months.title(first), ""
    between = len(months.month_range(first, last))
    gap = "" if count == between else f" ({count} of {between} months)"
    return f"{months.title(first)} to {months.title(last)}", gap
