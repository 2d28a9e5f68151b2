"""Draw maps of Manhattan from the GeoJSON files that `aggregate` writes, without the warehouse."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke
from matplotlib.transforms import IdentityTransform
from shapely.geometry import shape

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.files import locked
from include.nyc_taxi.months import Month, month_range, span_label
from include.nyc_taxi.reports import pictures
from include.nyc_taxi.reports.by_zone import (
    month_density_map_path,
    month_map_path,
    month_stats_path,
    overall_stats_path,
)
from include.nyc_taxi.reports.geography import areas_km2, on_the_ground
from include.nyc_taxi.reports.provenance import Provenance

WIDTH_PIXELS, HEIGHT_PIXELS = 1000, 1300
NAMED_ZONES = 5
LEGEND = (800, 120, 825, 440)
"""The left, bottom, right and top edges of the legend's bar. It is at the lower right, where Manhattan leaves room."""
_AROUND_LEGEND = shapely.box(LEGEND[0] - 20, 0, WIDTH_PIXELS, LEGEND[3] + 75)


@dataclass(frozen=True)
class Maps:
    """The maps drawn: of the month, and of all months counted so far.

    Attributes:
        density_month_file, density_overall_file: the same with trips per km²; None unless the setting asks for them.
    """

    month_file: Path
    overall_file: Path
    density_month_file: Path | None = None
    density_overall_file: Path | None = None


def draw_maps(month: Month, outputs: Path) -> Maps:
    """Draw the maps of a month and of all months from the GeoJSON files in the fleet's outputs folder.

    If the setting `NYC_TAXI_MAP_DENSITY` is on, two more maps show trips per km².

    Raises:
        FileNotFoundError: `aggregate` has not written one of the GeoJSON files.
        SettingError: the setting is invalid.
    """
    density = settings.map_density()
    month_file, overall_file = month_map_path(outputs, month), outputs / "manhattan_map.png"
    done = Maps(month_file, overall_file)
    if density:
        done = Maps(
            month_file, overall_file, month_density_map_path(outputs, month), outputs / "manhattan_map_density.png"
        )
    draw_map(month_stats_path(outputs, month), done.month_file, done.density_month_file)
    # Without the lock, one of several concurrent runs could replace the map by one with older figures.
    with locked(outputs / ".manhattan_map.lock"):
        draw_map(overall_stats_path(outputs), done.overall_file, done.density_overall_file)
    return done


def draw_map(stats: Path, picture: Path, density_picture: Path | None = None) -> None:
    """Draw a choropleth of trips by pickup zone from a GeoJSON file of `aggregate`. The picture is 1000 pixels wide.

    Args:
        density_picture: the file for a second map, with trips per km²; None for no such map.
    """
    collection = json.loads(stats.read_text(encoding="utf-8"))
    # Projected to feet, the island keeps its true shape.
    shapes = on_the_ground([shape(feature["geometry"]) for feature in collection["features"]])
    zones = [feature["properties"] for feature in collection["features"]]
    trips = [int(zone["num_trips"]) for zone in zones]
    pictures.save(_figure(collection, shapes, trips, "Trips", "by pickup zone"), picture)
    if density_picture:
        # Computed from the shapes, because files from older versions lack `trips_per_km2`.
        density = [count / area for count, area in zip(trips, areas_km2(shapes), strict=True)]
        pictures.save(_figure(collection, shapes, density, "Trips per km²", "per km² of pickup zone"), density_picture)


def _figure(collection: dict[str, Any], shapes: Any, values: Sequence[float], what: str, how: str) -> Figure:
    zones = [feature["properties"] for feature in collection["features"]]
    figure = pictures.new_figure(WIDTH_PIXELS, HEIGHT_PIXELS)
    total = pictures.counted(sum(int(zone["num_trips"]) for zone in zones), "trip")
    period, gap = _period(collection)
    pictures.head(
        figure,
        f"{catalogue.fleet(collection['fleet']).title}, {period}",
        f"{total} that began in Manhattan, {how}{gap}",
        # Files from older versions lack these members.
        Provenance(collection.get("simulated"), collection.get("source")),
    )
    axes = figure.add_axes(
        pictures.area(figure, pictures.MARGIN, 60, WIDTH_PIXELS - pictures.MARGIN, HEIGHT_PIXELS - 130)
    )
    highest = max(values)
    whole = all(isinstance(value, int) for value in values)
    # A few zones have most of the trips: on a linear scale, all other zones would look the same.
    # The legend of counts begins at 1, because zones without trips have their own style.
    norm = PowerNorm(gamma=0.5, vmin=1 if whole and highest > 1 else 0, vmax=highest or 1)
    _draw_zones(axes, shapes, np.asarray(values), norm)
    pictures.legend(figure, LEGEND, norm, what, others=[("No trips", pictures.NO_TRIPS)], whole=whole)
    _name_busiest(figure, axes, shapes, zones, values)
    return figure


def _draw_zones(axes: Axes, shapes: Any, values: Any, norm: PowerNorm) -> None:
    outlines = [_outline(polygon) for polygon in shapes]
    with_trips = [outline for outline, value in zip(outlines, values, strict=True) if value > 0]
    without = [outline for outline, value in zip(outlines, values, strict=True) if not value > 0]
    coloured = PathCollection(with_trips, cmap=pictures.COLOURS, norm=norm, edgecolor="white", linewidth=0.6)
    coloured.set_array(values[values > 0])
    for zones in (coloured, PathCollection(without, **pictures.NO_TRIPS)):
        zones.set_transform(axes.transData)
        axes.add_collection(zones)
    west, south, east, north = shapely.total_bounds(shapes)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _outline(polygon: Any) -> Outline:
    """A zone as a path for matplotlib. Holes stay white because their rings run in the opposite direction."""
    rings = [
        Outline(np.asarray(ring.coords)[:, :2], closed=True)
        for part in shapely.get_parts(shapely.orient_polygons(polygon))
        for ring in (part.exterior, *part.interiors)
    ]
    return Outline.make_compound_path(*rings)


def _period(collection: dict[str, Any]) -> tuple[str, str]:
    first, last, count = Month(collection["first_month"]), Month(collection["last_month"]), collection["months"]
    between = len(month_range(first, last))
    gap = "" if count == between else f" ({count} of {between} months)"
    return span_label(first, last), gap


# -- Labels of the busiest zones

GAP, LABEL_GAP, LINE = 26, 14, 21
"""The distances between the island and a label, between two labels, and between the lines of a label."""
LABEL_SIZE = 13


@dataclass
class _Label:
    """A label beside the island.

    Attributes:
        point: a point in the zone.
        left, bottom, width, height: the box around the text.
        is_left: whether the label is to the left of the island.
    """

    lines: list[str]
    point: tuple[float, float]
    width: float
    height: float
    left: float = 0
    bottom: float = 0
    is_left: bool = False

    @property
    def middle(self) -> float:
        return self.bottom + self.height / 2

    @property
    def box(self) -> Any:
        return shapely.box(self.left, self.bottom, self.left + self.width, self.bottom + self.height)

    @property
    def leader(self) -> Any:
        """The line from the label to its zone."""
        end = self.left + self.width + 6 if self.is_left else self.left - 6
        return shapely.LineString([(end, self.middle), self.point])


def _name_busiest(
    figure: Figure, axes: Axes, shapes: Any, zones: Sequence[dict[str, Any]], values: Sequence[float]
) -> None:
    """Write the names and values of the busiest zones beside the island, each with a line to its zone."""
    axes.apply_aspect()
    on_page = shapely.transform(shapes, axes.transData.transform)
    order = sorted(range(len(zones)), key=lambda i: (-values[i], zones[i]["zone_id"]))
    labels = [
        _measured(figure, [*textwrap.wrap(zones[i]["zone"], 20), pictures.number(values[i])], _inside(on_page[i]))
        for i in order[:NAMED_ZONES]
        if values[i] > 0
    ]
    _place(labels, shapely.get_coordinates(on_page))
    for label in labels:
        _draw_label(figure, label)


def _inside(zone: Any) -> tuple[float, float]:
    """A point in the zone's largest part: its centroid, unless that lies outside."""
    largest = max(shapely.get_parts(zone), key=lambda part: part.area)
    point = largest.centroid if largest.contains(largest.centroid) else largest.representative_point()
    return point.x, point.y


def _measured(figure: Figure, lines: list[str], point: tuple[float, float]) -> _Label:
    width = 0.0
    for line in lines:
        text = figure.text(0, 0, line, fontsize=LABEL_SIZE)
        width = max(width, float(pictures.extent(text).width))
        text.remove()
    return _Label(lines, point, width, LINE * len(lines))


def _draw_label(figure: Figure, label: _Label) -> None:
    halo: list[Any] = [withStroke(linewidth=3, foreground="white")]
    xs, ys = np.asarray(label.leader.coords).T
    line = Line2D(xs, ys, color="0.15", linewidth=1.1, transform=IdentityTransform())
    line.set_path_effects(halo)
    figure.add_artist(line)
    x, y = ([value] for value in label.point)
    dot: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": "0.15", "markeredgecolor": "white"}
    figure.add_artist(Line2D(x, y, transform=IdentityTransform(), **dot))
    for number, text in enumerate(reversed(label.lines)):
        pictures.write(
            figure,
            label.left + label.width if label.is_left else label.left,
            label.bottom + LINE * number + 5,
            text,
            fontsize=LABEL_SIZE,
            color="black" if number else pictures.GREY,
            ha="right" if label.is_left else "left",
            path_effects=halo,
        )


def _place(labels: list[_Label], coast: Any) -> None:
    """Place the labels without overlaps, each on the nearer side of the island if there is room.

    Args:
        coast: the corners of all zones, in pixels.
    """

    def island(bottom: float, top: float) -> tuple[float, float]:
        at = coast[(coast[:, 1] >= bottom) & (coast[:, 1] <= top)]
        return (at[:, 0].min(), at[:, 0].max()) if len(at) else (WIDTH_PIXELS / 2, WIDTH_PIXELS / 2)

    for label in labels:
        x, y = label.point
        west, east = island(y - label.height / 2, y + label.height / 2)
        fits_left = west - GAP - label.width >= pictures.MARGIN
        fits_right = east + GAP + label.width <= WIDTH_PIXELS - pictures.MARGIN
        label.is_left = bool(x - west < east - x if fits_left == fits_right else fits_left)
    for is_left in (True, False):
        column = sorted((label for label in labels if label.is_left is is_left), key=lambda label: label.point[1])
        # If a label would cover the legend on the right, the labels of that side go above the legend.
        for lowest in (60, LEGEND[3] + 80):
            _spread(column, lowest, HEIGHT_PIXELS - 130)
            for label in column:
                west, east = island(label.bottom - 8, label.bottom + label.height + 8)
                label.left = west - GAP - label.width if is_left else east + GAP
            # If a line would cross another label, all labels of the side are aligned at one edge.
            if any(a is not b and a.leader.intersects(b.box) for a in column for b in column):
                edge = min(a.left + a.width for a in column) if is_left else max(a.left for a in column)
                for label in column:
                    label.left = edge - label.width if is_left else edge
            for label in column:
                label.left = min(max(label.left, 10), WIDTH_PIXELS - 10 - label.width)
            if not any(label.box.intersects(_AROUND_LEGEND) for label in column):
                break


def _spread(column: list[_Label], lowest: float, highest: float) -> None:
    """Place labels, ordered from the lowest up, as close to the heights of their zones as possible without overlaps."""
    for label in column:
        label.bottom = label.point[1] - label.height / 2
    for _ in range(100):
        for lower, upper in pairwise(column):
            if (short := lower.bottom + lower.height + LABEL_GAP - upper.bottom) > 0:
                lower.bottom -= short / 2
                upper.bottom += short / 2
    floor = lowest
    for label in column:
        label.bottom = max(label.bottom, floor)
        floor = label.bottom + label.height + LABEL_GAP
    ceiling = highest
    for label in reversed(column):
        label.bottom = min(label.bottom, ceiling - label.height)
        ceiling = label.bottom - LABEL_GAP
