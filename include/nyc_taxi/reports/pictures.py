"""What all pictures share: page, title, source line, the mark on simulated data, numbers and legends.

Drawn with matplotlib's own fonts, without a display. Lengths are in pixels: a picture has 100 to the inch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from include.nyc_taxi.files import replacing
from include.nyc_taxi.reports.provenance import Provenance

DPI = 100
MARGIN = 40
GREY = "0.35"
COLOURS = "viridis"
"""Can be read with every kind of colour blindness and in print: lightness rises all the way, from few to many."""
NO_TRIPS: dict[str, Any] = {"facecolor": "0.93", "edgecolor": "0.7", "hatch": "////", "linewidth": 0.6}
"""Neither dark as few trips are nor yellow as many: in print, too, the hatching tells it apart."""
SIMULATED = "Simulated data"


def new_figure(width: int, height: int) -> Figure:
    """An empty white page. A Figure of its own, not pyplot: no display, no state shared between tasks."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, picture: Path) -> None:
    """Write the page as a PNG file; equal figures give equal bytes."""
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def size(figure: Figure) -> tuple[int, int]:
    """Width and height of the page."""
    width, height = figure.get_size_inches() * figure.dpi
    return round(width), round(height)


def area(figure: Figure, left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
    """What `Figure.add_axes` takes for the area between these edges, counted from the page's lower left corner."""
    width, height = size(figure)
    return left / width, bottom / height, (right - left) / width, (top - bottom) / height


def write(figure: Figure, x: float, y: float, text: str, **style: Any) -> Text:
    """Write text at a place counted from the page's lower left corner, smaller where it would leave the page."""
    width, height = size(figure)
    written = figure.text(x / width, y / height, text, **style)
    room = x - 10 if style.get("ha") == "right" else width - 10 - x
    while (taken := extent(written).width) > room:
        # Letters do not shrink quite in proportion; each round comes nearer.
        points = float(written.get_fontsize())
        written.set_fontsize(min(points * room / taken, points - 0.25))
    return written


def extent(text: Text) -> Any:
    """The box that a text covers on the page."""
    return text.get_window_extent()


def head(figure: Figure, title: str, lead: str, provenance: Provenance) -> None:
    """Write the title and the line below it, into the page's uppermost 100 pixels, and the source at its foot.

    The mark "Simulated data" stands before the lead: whoever sees the figures sees it.
    """
    _, height = size(figure)
    write(figure, MARGIN, height - 58, title, fontsize=25, weight="bold")
    x: float = MARGIN
    if provenance.simulated:
        box = {"boxstyle": "round,pad=0.3", "facecolor": "#a63603", "edgecolor": "none"}
        mark = write(figure, x + 6, height - 92, SIMULATED, fontsize=15, weight="bold", color="white", bbox=box)
        x = extent(mark).x1 + 18
    write(figure, x, height - 92, lead, fontsize=16, color=GREY)
    if provenance.source:
        write(figure, MARGIN, 20, f"Source: {provenance.source}", fontsize=11, color=GREY)


def counted(count: int, what: str) -> str:
    """A number with its noun ("1 trip", "1,234 trips")."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def number(value: float) -> str:
    """A number of a legend or a label: whole from 10 on, with two digits below ("12,345", "2.5", "0.031")."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def colour(value: float, norm: Normalize) -> Any:
    """The colour of a value on the scale, as red, green, blue and opacity from 0 to 1."""
    return colormaps[COLOURS](float(norm(value)))


def ink(background: Any) -> str:
    """Black or white, whichever can be read better on the colour (the contrast as WCAG 2 counts it)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"


def scale_ticks(norm: Normalize, apart: float, whole: bool) -> list[float]:
    """Numbers for a legend: its two ends, and between them round ones that lie well apart.

    Args:
        apart: the least distance of two, as a share of the legend's length.
        whole: only whole numbers.
    """
    low, high = float(norm.vmin or 0), float(norm.vmax or 0)
    chosen, places = [low, high], [0.0, 1.0]
    if not isinstance(norm, PowerNorm):
        between = [float(value) for value in MaxNLocator(6, integer=whole).tick_values(low, high)]
        return [low, *(value for value in between if low < value and float(norm(value)) <= 1 - apart), high]
    power = 10 ** len(str(int(high)))
    while power >= 1 if whole else power > high / 1e4:
        for step in (5, 2, 1):
            value = float(f"{step * power:.3g}")
            place = float(norm(value))
            if low < value < high and all(abs(place - other) >= apart for other in places):
                chosen.append(value)
                places.append(place)
        power /= 10
    return sorted(chosen)


def legend(
    figure: Figure,
    box: Sequence[float],
    norm: Normalize,
    title: str,
    others: Sequence[tuple[str, dict[str, Any]]] = (),
    whole: bool = False,
    label: Callable[[float], str] = number,
) -> Axes:
    """Draw an upright colour bar whose labels cover the whole range, with what its colours mean above it.

    Args:
        box: left, bottom, right and top of the bar.
        others: what is drawn in no colour of the bar: name and style of each; they stand below it.
        whole: no number between two whole ones is of use.
        label: how the bar's numbers are written.
    """
    left, bottom, right, top = box
    axes = figure.add_axes(area(figure, left, bottom, right, top))
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), cax=axes)
    bar.outline.set_visible(False)
    ticks = scale_ticks(norm, 26 / (top - bottom), whole)
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.yaxis.set_major_formatter(FixedFormatter([label(tick) for tick in ticks]))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=14, length=0)
    if isinstance(norm, PowerNorm):
        write(figure, left, top + 16, "(square-root scale)", fontsize=12, color=GREY)
        write(figure, left, top + 38, title, fontsize=15)
    else:
        write(figure, left, top + 18, title, fontsize=15)
    width, height = size(figure)
    for place, (name, style) in enumerate(others):
        y = bottom - 44 - 34 * place
        swatch = Rectangle(
            (left / width, y / height), (right - left) / width, 22 / height, transform=figure.transFigure, **style
        )
        figure.add_artist(swatch)
        write(figure, right + 6, y + 5, name, fontsize=13)
    return axes
