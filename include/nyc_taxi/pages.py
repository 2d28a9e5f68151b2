"""What the web UI shows of the outputs folder: which files, and the pages about them.

Knows no web framework: a function here answers a request, and `plugins/output_pages.py` passes the answer on. Who may
ask is that plugin's business too.
"""

import base64
import csv
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from include.nyc_taxi import months, settings, tlc
from include.nyc_taxi.errors import FleetError

if TYPE_CHECKING:
    from jinja2 import Environment

MEDIA_TYPES = {".png": "image/png", ".csv": "text/csv; charset=utf-8", ".geojson": "application/geo+json"}
"""The kinds of files that are shown at all."""
PICTURE = ".png"
TABLE_ROWS, TABLE_BYTES = 100, 10_000_000

_KIND = re.compile(r"_(map|stats|chart)(_density)?(?=_|$)")
_MONTH = re.compile(r"_(" + months.PATTERN.strip("^$") + r")$")
_HTML = Path(__file__).with_name("html")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",  # a month that is made again has the same address
}


@dataclass(frozen=True)
class Answer:
    """What to send to the browser."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Output:
    """A file of the outputs folder.

    Attributes:
        path: below the outputs folder, as pages and links name it ("green/manhattan_map_2023-02.png").
        file: where it is.
        bytes, made_at: its size, and when it was last made (UTC).
    """

    path: str
    file: Path
    bytes: int
    made_at: datetime

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def folder(self) -> str:
        """The folder's path below the outputs folder; empty for a file that is in no other."""
        return "" if "/" not in self.path else self.path.rpartition("/")[0]

    @property
    def is_picture(self) -> bool:
        return self.file.suffix == PICTURE

    @property
    def title(self) -> str:
        """The name as a reader would say it ("Manhattan map, February 2023")."""
        stem = PurePosixPath(self.path).stem
        if self.folder == "requests":
            return stem  # somebody has called it so
        month = _MONTH.search(stem)
        words = _MONTH.sub("", stem).replace("_", " ").strip() or stem
        return f"{words[:1].upper()}{words[1:]}" + (f", {months.title(month[1])}" if month else "")

    @property
    def subject(self) -> str:
        """The same for files that show the same figures: a map and its GeoJSON, a chart and its CSV."""
        return _KIND.sub("", PurePosixPath(self.path).stem)

    @property
    def series(self) -> str:
        """The same for the files that differ in their month only; empty for a file that is of no month."""
        stem = PurePosixPath(self.path).stem
        return _MONTH.sub("", stem) + self.file.suffix if _MONTH.search(stem) else ""


def relative_path(file: Path | str) -> str:
    """The path below the outputs folder, with slashes, of a file that a task has made.

    Raises:
        ValueError: the file is not in the outputs folder, so that no page could show it.
    """
    root = settings.outputs_root()
    try:
        return Path(os.path.normpath(root / file)).relative_to(root).as_posix()
    except ValueError:
        raise ValueError(f"{file} is not in the outputs folder {root}: the web UI shows only what is there") from None


def find(path: str) -> Output | None:
    """The file that a request names, or None where there is none to show.

    That is also the answer for another kind of file, a hidden one, and a path or symbolic link that leads out of the
    outputs folder.
    """
    parts = path.split("/")
    if not _may_be_shown(parts):
        return None
    root = settings.outputs_root()
    try:
        real_root = root.resolve()
        real = real_root.joinpath(*parts).resolve(strict=True)
        if not real.is_relative_to(real_root) or not _may_be_shown(real.relative_to(real_root).parts):
            return None
        facts = real.stat()
        if not real.is_file():
            return None
    except (OSError, RuntimeError):  # it is not there, or its name is too long, or links go round in a circle
        return None
    return Output(path, root.joinpath(*parts), facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))


def _may_be_shown(parts: Sequence[str]) -> bool:
    named = all(part and part.isprintable() and not part.startswith(".") and "\\" not in part for part in parts)
    return named and PurePosixPath(*parts).suffix in MEDIA_TYPES


def list_outputs(folder: str | None = None) -> list[Output]:
    """All files to show, or those of one folder, ordered by folder and name."""
    root = settings.outputs_root()
    found = []
    for where, folders, names in os.walk(root if folder is None else root / folder):
        folders[:] = [] if folder is not None else [name for name in folders if not name.startswith(".")]
        below = Path(where).relative_to(root)
        found += [output for name in names if (output := find((below / name).as_posix()))]
    return sorted(found, key=lambda output: (output.folder, _without_month_first(output)))


def _without_month_first(output: Output) -> tuple[str, str, str]:
    stem = PurePosixPath(output.path).stem
    month = _MONTH.search(stem)
    return _MONTH.sub("", output.subject), month[1] if month else "", output.path


def folder_title(folder: str) -> str:
    """A folder as a reader would say it: a fleet's title ("Green taxis"), or its own name."""
    try:
        return tlc.fleet(folder).title
    except FleetError:
        words = folder.replace("_", " ") or "others"
        return f"{words[:1].upper()}{words[1:]}"


def index_page(base: str) -> Answer:
    """The page that lists all outputs. `base` is the path before `/outputs` and `/files` ("/nyc-taxi")."""
    folders = [
        (folder, folder_title(folder), _groups(outputs))
        for folder, outputs in groupby(list_outputs(), key=lambda output: output.folder)
    ]
    return _page("index.html", base, folders=folders, root=settings.outputs_root())


def output_page(base: str, path: str, task: tuple[str, str] | None = None) -> Answer:
    """The page about one file: the picture or the figures, what belongs to it, the months before and after.

    Args:
        task: the task that the page was opened from: its name, and its own page's path on the web server.
    """
    output = find(path)
    if output is None:
        return _missing(base)
    beside = list_outputs(output.folder)
    series = [other for other in beside if output.series and other.series == output.series]
    place = next((number for number, other in enumerate(series) if other.path == path), 0)
    return _page(
        "output.html",
        base,
        output=output,
        folder_title=folder_title(output.folder),
        together=[other for other in beside if other.subject == output.subject and other.path != path],
        before=series[place - 1] if place else None,
        after=series[place + 1] if place + 1 < len(series) else None,
        groups=_groups(beside),
        table=_table(output),
        task=task,
    )


def file_answer(base: str, path: str) -> Answer:
    """The file itself: a picture to look at, anything else to download."""
    output = find(path)
    try:
        content = output.file.read_bytes() if output else None
    except OSError:  # it went this very moment
        content = None
    if output is None or content is None:
        return _missing(base)
    how = "inline" if output.is_picture else "attachment"
    headers = {
        "Content-Type": MEDIA_TYPES[output.file.suffix],
        "Content-Disposition": f"{how}; filename*=UTF-8''{quote(output.name, safe='')}",
        # Whatever is in the file, it runs nothing and loads nothing; styles are the browser's own for a picture.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox",
    }
    return Answer(200, _HEADERS | headers, content)


def _missing(base: str) -> Answer:
    return _page("missing.html", base, status=404)


def _groups(outputs: Iterable[Output]) -> list[list[Output]]:
    """Files that show the same figures together, the picture first."""
    return [
        sorted(group, key=lambda output: (not output.is_picture, output.name))
        for _, group in groupby(outputs, key=lambda output: output.subject)
    ]


@dataclass(frozen=True)
class Table:
    """The first rows of a file of figures, as text; `more` rows are not among them."""

    columns: list[str]
    rows: list[list[str]]
    more: int


def _table(output: Output) -> Table | None:
    """The first rows of a CSV file, or the properties in a GeoJSON file; None where it cannot be shown as a table."""
    if output.is_picture or output.bytes > TABLE_BYTES:
        return None
    try:
        with output.file.open(encoding="utf-8", newline="") as file:
            if output.file.suffix == ".csv":
                lines = csv.reader(file)
                columns = next(lines, [])
                rows = list(islice(lines, TABLE_ROWS))
                return Table(columns, rows, sum(1 for _ in lines)) if columns else None
            features = [feature["properties"] for feature in json.load(file)["features"]]
            columns = list(features[0])
            rows = [[str(properties.get(name, "")) for name in columns] for properties in features[:TABLE_ROWS]]
            return Table(columns, rows, len(features) - len(rows))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error):
        return None  # a file that is damaged can still be downloaded


def _page(template: str, base: str, status: int = 200, **values: Any) -> Answer:
    environment, style, style_hash = _templates()
    html = environment.get_template(template).render(base=base, style=style, **values)
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        # No script at all, and no style but our own. The web UI of Airflow 3 shows the list in a frame.
        "Content-Security-Policy": (
            f"default-src 'none'; img-src 'self'; style-src '{style_hash}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
        ),
    }
    return Answer(status, _HEADERS | headers, html.encode())


@functools.cache
def _templates() -> tuple["Environment", str, str]:
    """The templates, the style sheet, and the hash by which a browser knows it."""
    import jinja2  # not for the tasks, which only import the paths above
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HTML),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["path"] = lambda path: quote(path)
    environment.filters["size"] = _size
    style = (_HTML / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment, Markup(style), f"sha256-{digest}"  # noqa: S704 - a file of our own


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:,.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:,.1f} MB"
