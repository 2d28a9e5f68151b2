"""What the web UI shows of the outputs folder: which files, and the pages about them.

Knows no web framework: a function here answers a request, and `plugins/output_pages.py` passes the answer on. Who may
ask is that plugin's business too.
"""

import base64
import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from include.nyc_taxi import catalogue, months, settings
from include.nyc_taxi.errors import FleetError

if TYPE_CHECKING:
    from jinja2 import Environment

MEDIA_TYPES = {".png": "image/png", ".csv": "text/csv; charset=utf-8", ".geojson": "application/geo+json"}
"""The kinds of files that are shown at all."""
PICTURE = ".png"
TABLE_ROWS, TABLE_BYTES = 100, 10_000_000
TABLE_COLUMNS, CELL_CHARACTERS = 200, 500
CHUNK_BYTES = 256 * 1024
"""So much of a file is in memory while it is sent."""

NOT_MODIFIED = 304

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
    """What to send to the browser; the body of a file comes piece by piece."""

    status: int
    headers: dict[str, str]
    body: "bytes | Content" = field(repr=False)

    def without_body(self) -> "Answer":
        """The answer to HEAD: as that to GET, with the length of the body in place of the body."""
        if isinstance(self.body, bytes):
            length = {"Content-Length": str(len(self.body))} if self.status != NOT_MODIFIED else {}
        else:
            self.body.close()
            length = {}
        return replace(self, headers=self.headers | length, body=b"")


class Content(Iterator[bytes]):
    """A part of an open file, read when it is sent. The file is closed at its end, or when nobody wants the rest."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._left = file, length
        file.seek(start)

    def __next__(self) -> bytes:
        chunk = self._file.read(min(self._left, CHUNK_BYTES)) if self._left else b""
        self._left -= len(chunk)
        if not chunk:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Close the file."""
        self._left = 0
        self._file.close()


@dataclass(frozen=True)
class Output:
    """A file of the outputs folder.

    Attributes:
        path: below the outputs folder, as pages and links name it ("green/manhattan_map_2023-02.png").
        bytes, made_at: its size, and when it was last made (UTC).
    """

    path: str
    bytes: int
    made_at: datetime

    @classmethod
    def of(cls, path: str, facts: os.stat_result) -> "Output":
        return cls(path, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))

    @property
    def file(self) -> Path:
        """Where it is."""
        return settings.outputs_root() / self.path

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @functools.cached_property
    def suffix(self) -> str:
        """The kind of file, with its point; one of `MEDIA_TYPES`."""
        return "." + self.name.rpartition(".")[2]

    @functools.cached_property
    def _stem_and_month(self) -> tuple[str, str]:
        """The name without its suffix and month, and the month; empty for a file that is of no month."""
        stem = self.name.removesuffix(self.suffix)
        month = _MONTH.search(stem)
        return (stem[: month.start()], month[1]) if month else (stem, "")

    @property
    def folder(self) -> str:
        """The folder's path below the outputs folder; empty for a file that is in no other."""
        return "" if "/" not in self.path else self.path.rpartition("/")[0]

    @property
    def is_picture(self) -> bool:
        return self.suffix == PICTURE

    @property
    def title(self) -> str:
        """The name as a reader would say it ("Manhattan map, February 2023")."""
        whole = self.name.removesuffix(self.suffix)
        if self.folder == "requests":
            return whole  # somebody has called it so
        stem, month = self._stem_and_month
        words = stem.replace("_", " ").strip() or whole
        return f"{words[:1].upper()}{words[1:]}" + (f", {months.Month(month).label}" if month else "")

    @functools.cached_property
    def subject(self) -> str:
        """The same for files that show the same figures: a map and its GeoJSON, a chart and its CSV."""
        return _KIND.sub("", self.name.removesuffix(self.suffix))

    @property
    def series(self) -> str:
        """The same for the files that differ in their month only; empty for a file that is of no month."""
        stem, month = self._stem_and_month
        return stem + self.suffix if month else ""

    @property
    def order(self) -> tuple[str, str, str, str]:
        """By folder, then what it is of, then the month."""
        subject, month = _MONTH.sub("", self.subject), self._stem_and_month[1]
        return self.folder, subject, month, self.path


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

    That is also the answer for another kind of file, a hidden one, a symbolic link to another kind of file, and a path
    or link that leads out of the outputs folder.
    """
    opened = _open(path)
    if opened is None:
        return None
    with opened as file:
        return Output.of(path, os.fstat(file.fileno()))


def _open(path: str) -> BinaryIO | None:
    """Open the file that `find` would find.

    What is opened is what was looked at: links are followed first, and none while the real path is opened, name by
    name. Whoever swaps a folder or the file for a link in between gets nothing.
    """
    parts = path.split("/")
    if not _may_be_shown(parts):
        return None
    try:
        real_root = settings.outputs_root().resolve()
        real = real_root.joinpath(*parts).resolve(strict=True)
        inside = real.relative_to(real_root).parts
        if not _may_be_shown(inside) or real.suffix != PurePosixPath(path).suffix:
            return None
        with contextlib.ExitStack() as stack:
            folder = _opened(stack, real_root, os.O_DIRECTORY)
            for name in inside[:-1]:
                folder = _opened(stack, name, os.O_DIRECTORY | os.O_NOFOLLOW, folder)
            # Where it has become a pipe meanwhile: not to wait for its other end.
            file = os.open(inside[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        if stat.S_ISREG(os.fstat(file).st_mode):
            return os.fdopen(file, "rb")
        os.close(file)
    # It is not there, or leads out, or its name is too long, or links go round in a circle.
    except (OSError, RuntimeError, ValueError):
        pass
    return None


def _opened(stack: contextlib.ExitStack, name: str | Path, flags: int, folder: int | None = None) -> int:
    """Open a folder, to be closed with the stack."""
    opened = os.open(name, os.O_RDONLY | flags, dir_fd=folder)
    stack.callback(os.close, opened)
    return opened


def _may_be_shown(parts: Sequence[str]) -> bool:
    return all(map(_may_be_named, parts)) and PurePosixPath(*parts).suffix in MEDIA_TYPES


def _may_be_named(name: str) -> bool:
    return bool(name) and name.isprintable() and not name.startswith(".") and "\\" not in name


def list_outputs(folder: str | None = None) -> list[Output]:
    """All files to show, or those of one folder, ordered by folder and name."""
    root = settings.outputs_root()
    if folder is None:
        found = list(_below(root, ""))
    else:
        found = list(_below(root / folder, f"{folder}/" if folder else "", deep=False)) if _is_inside(folder) else []
    return sorted(found, key=lambda output: output.order)


def _is_inside(folder: str) -> bool:
    real_root = settings.outputs_root().resolve()
    real = (real_root / folder).resolve()
    return real.is_relative_to(real_root) and all(map(_may_be_named, real.relative_to(real_root).parts))


def _below(folder: Path | str, prefix: str, *, deep: bool = True) -> Iterator[Output]:
    """The files of a folder that are to be shown, and of the folders in it; does not follow links to folders.

    A file that is no link is where it seems to be: to look at each as `find` does takes ten times as long.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = prefix + entry.name
        if not _may_be_named(entry.name):
            continue
        with contextlib.suppress(OSError):  # it went this very moment
            if entry.is_symlink():
                if output := find(path):
                    yield output
            elif entry.is_dir(follow_symlinks=False):
                if deep:
                    yield from _below(entry.path, path + "/")
            elif entry.is_file(follow_symlinks=False) and entry.name.endswith(tuple(MEDIA_TYPES)):
                yield Output.of(path, entry.stat(follow_symlinks=False))


def folder_title(folder: str) -> str:
    """A folder as a reader would say it: a fleet's title ("Green taxis"), or its own name."""
    try:
        return catalogue.fleet(folder).title
    except FleetError:
        words = folder.replace("_", " ") or "others"
        return f"{words[:1].upper()}{words[1:]}"


def index_page(base: str) -> Answer:
    """The page that lists all outputs. `base` is the path before `/outputs` and `/files` ("/nyc-taxi")."""
    folders = [
        (folder, folder_title(folder), _groups(outputs))
        for folder, outputs in groupby(list_outputs(), key=lambda output: output.folder)
    ]
    return _page("index.html", base, folders=folders)


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


def file_answer(base: str, path: str, asked: Mapping[str, str] | None = None) -> Answer:
    """The file itself: a picture to look at, anything else to download; or the part of it that is asked for.

    Args:
        asked: the headers of the request. Heeded are If-None-Match, If-Modified-Since, Range (one range; for more, the
            whole file is sent) and If-Range (with an ETag).
    """
    asked = asked or {}
    file = _open(path)
    if file is None:
        return _missing(base)
    facts = os.fstat(file.fileno())
    output = Output.of(path, facts)
    etag = f'"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"'
    about = {"ETag": etag, "Last-Modified": formatdate(facts.st_mtime, usegmt=True)}
    how = "inline" if output.is_picture else "attachment"
    headers = {
        "Content-Type": MEDIA_TYPES[output.suffix],
        "Content-Disposition": f"{how}; filename*=UTF-8''{quote(output.name, safe='')}",
        "Accept-Ranges": "bytes",
        # Whatever is in the file, it runs nothing and loads nothing; styles are the browser's own for a picture.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox",
    }
    if _has_it(asked, etag, facts.st_mtime):
        file.close()
        return Answer(NOT_MODIFIED, _HEADERS | about, b"")
    start, end, status = 0, facts.st_size, 200
    if asked.get("If-Range", etag) == etag and (part := _range(asked.get("Range", ""), facts.st_size)):
        start, end = part
        if start >= end:
            file.close()
            refused = {"Content-Type": "text/plain", "Content-Range": f"bytes */{facts.st_size}"}
            return Answer(416, _HEADERS | about | refused, b"")
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{facts.st_size}"
    headers["Content-Length"] = str(end - start)
    return Answer(status, _HEADERS | about | headers, Content(file, start, end - start))


def _has_it(asked: Mapping[str, str], etag: str, modified: float) -> bool:
    """Whether the browser has the file already."""
    if (tags := asked.get("If-None-Match")) is not None:
        return tags.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))
    try:
        return int(modified) <= parsedate_to_datetime(asked.get("If-Modified-Since", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return False


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Where the part that is asked for begins and ends (not included); None for the whole file.

    Also None for what is no range, and for several: a server may ignore them. A part that is not in the file ends where
    it begins.
    """
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", text.strip(), re.IGNORECASE)
    if not found or found[0].endswith("=-"):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return start, min(int(last) + 1, size) if last else size


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
    opened = _open(output.path)
    if opened is None:
        return None
    try:
        with io.TextIOWrapper(opened, encoding="utf-8", newline="") as file:
            columns, rows, count = (_read_csv if output.suffix == ".csv" else _read_geojson)(file)
    # A file that is damaged, or nested too deep for Python, can still be downloaded.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error, RecursionError):
        return None
    if not 0 < len(columns) <= TABLE_COLUMNS:
        return None
    columns, *shortened = ([_shortened(value) for value in row] for row in (columns, *rows))
    return Table(columns, shortened, count - len(rows))


def _read_csv(file: io.TextIOWrapper) -> tuple[list[str], list[list[str]], int]:
    """The columns, the first rows, and how many rows there are."""
    lines = csv.reader(file)
    columns = next(lines, [])
    rows = [row[:TABLE_COLUMNS] for row in islice(lines, TABLE_ROWS)]
    return columns, rows, len(rows) + sum(1 for _ in lines)


def _read_geojson(file: io.TextIOWrapper) -> tuple[list[str], list[list[str]], int]:
    features = [feature["properties"] for feature in json.load(file)["features"]]
    columns = list(features[0])
    rows = [[str(properties.get(name, "")) for name in columns] for properties in features[:TABLE_ROWS]]
    return columns, rows, len(features)


def _shortened(value: str) -> str:
    return value if len(value) <= CELL_CHARACTERS else f"{value[:CELL_CHARACTERS]}…"


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
