"""Parts that all pictures share: page, title, source line, mark for simulated data, numbers and legends.

Pictures are drawn with matplotlib's own fonts and without a display. Lengths are in pixels, at 100 pixels per inch.
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
"""Readable with every kind of colour blindness and in grey print, because the lightness always increases."""
NO_TRIPS: dict[str, Any] = {"facecolor": "0.93", "edgecolor": "0.7", "hatch": "////", "linewidth": 0.6}
"""The style of zones without trips. The hatching distinguishes it from the colours even in grey print."""
SIMULATED = "Simulated data"


def new_figure(width: int, height: int) -> Figure:
    """An empty white page. It avoids pyplot, which needs a display and shares state between figures."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, picture: Path) -> None:
    """Write the page as a PNG file. Equal figures give equal bytes."""
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def size(figure: Figure) -> tuple[int, int]:
    """The width and height of the page."""
    width, height = figure.get_size_inches() * figure.dpi
    return round(width), round(height)


def area(figure: Figure, left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
    """The rectangle for `Figure.add_axes`, from edges measured from the page's lower left corner."""
    width, height = size(figure)
    return left / width, bottom / height, (right - left) / width, (top - bottom) / height


def write(figure: Figure, x: float, y: float, text: str, **style: Any) -> Text:
    """Write text at a position measured from the page's lower left corner; shrink it if it does not fit the page."""
    width, height = size(figure)
    written = figure.text(x / width, y / height, text, **style)
    room = x - 10 if style.get("ha") == "right" else width - 10 - x
    while (taken := extent(written).width) > room:
        # The width is not quite proportional to the font size, so this takes several rounds.
        points = float(written.get_fontsize())
        written.set_fontsize(min(points * room / taken, points - 0.25))
    return written


def extent(text: Text) -> Any:
    """The bounding box of a text on the page."""
    return text.get_window_extent()


def head(figure: Figure, title: str, lead: str, provenance: Provenance) -> None:
    """Write the title and the line below it (`lead`) into the page's top 100 pixels, and the source at the bottom.

    For simulated trips, the mark "Simulated data" stands before the lead.
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
    """A number with its noun, such as "1 trip" or "1,234 trips"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def number(value: float) -> str:
    """A number for a legend or label: whole from 10 on, below that with two digits ("12,345", "2.5", "0.031")."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def colour(value: float, norm: Normalize) -> Any:
    """The colour of a value on the scale: red, green, blue and opacity, each from 0 to 1."""
    return colormaps[COLOURS](float(norm(value)))


def ink(background: Any) -> str:
    """Black or white, whichever has the higher contrast with the background according to WCAG 2."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"


def scale_ticks(norm: Normalize, apart: float, whole: bool) -> list[float]:
    """The numbers for a legend: its two ends, and round numbers between them.

    Args:
        apart: the smallest distance between two numbers, as a share of the legend's length.
        whole: whether to use only whole numbers.
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
    """Draw a vertical colour bar whose labels cover the whole range.

    Args:
        box: the left, bottom, right and top edges of the bar.
        title: the meaning of the colours, written above the bar.
        others: names and styles of other areas of the picture, shown below the bar.
        whole: whether to label only whole numbers.
        label: formats a number for its label.
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
