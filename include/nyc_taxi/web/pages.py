"""The pages of the web UI that list and show the files in the outputs folder.

This module is independent of web frameworks: its functions return answers, and `plugins/output_pages.py` sends them.
That plugin also controls access.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from include.nyc_taxi import catalogue, conditional_requests, months, settings
from include.nyc_taxi.errors import FleetError

if TYPE_CHECKING:
    from jinja2 import Environment

MEDIA_TYPES = {".png": "image/png", ".csv": "text/csv; charset=utf-8", ".geojson": "application/geo+json"}
"""The media types of the files that may be shown, by suffix. No other files are shown."""
PICTURE = ".png"
TABLE_ROWS, TABLE_BYTES = 100, 10_000_000
TABLE_COLUMNS, CELL_CHARACTERS = 200, 500
CHUNK_BYTES = 256 * 1024
"""The part of a file that is in memory while the file is sent."""

NOT_MODIFIED = 304

_KIND = re.compile(r"_(map|stats|chart)(_density)?(?=_|$)")
_MONTH = re.compile(r"_(" + months.PATTERN.strip("^$") + r")$")
_HTML = Path(__file__).with_name("html")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",  # a file that is made again keeps its URL
}

MaySee = Callable[[str], bool]
"""Whether the user may see an output, by its path relative to the outputs folder."""


def everything(path: str) -> bool:  # noqa: ARG001 - as for every `MaySee`
    """Let the user see every output."""
    return True


@dataclass(frozen=True)
class Answer:
    """The response to a request. The content of a file is read in chunks while it is sent."""

    status: int
    headers: dict[str, str]
    body: "bytes | Content" = field(repr=False)

    def without_body(self) -> "Answer":
        """The response to a HEAD request: the headers of the response to GET, without its body."""
        if isinstance(self.body, bytes):
            length = {"Content-Length": str(len(self.body))} if self.status != NOT_MODIFIED else {}
        else:
            self.body.close()
            length = {}
        return replace(self, headers=self.headers | length, body=b"")


class Content(Iterator[bytes]):
    """A part of an open file, read in chunks. The file is closed at the end of the part, or by `close`."""

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
    """A file in the outputs folder.

    Attributes:
        path: its path relative to the outputs folder, as used in links, such as "green/manhattan_map_2023-02.png".
        bytes: its size.
        made_at: when it was last written, in UTC.
        version: what differs between two files that have this path one after the other.
    """

    path: str
    bytes: int
    made_at: datetime
    version: str = ""

    @classmethod
    def of(cls, path: str, facts: os.stat_result) -> "Output":
        return cls(path, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC), version(facts))

    @property
    def file(self) -> Path:
        """The file's absolute path."""
        return settings.outputs_root() / self.path

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.rpartition("/")[2]

    @functools.cached_property
    def suffix(self) -> str:
        """The file's suffix with its dot, a key of `MEDIA_TYPES`."""
        return "." + self.name.rpartition(".")[2]

    @functools.cached_property
    def _stem_and_month(self) -> tuple[str, str]:
        """The name without its suffix and month, and the month, which is empty for a file without one."""
        stem = self.name.removesuffix(self.suffix)
        month = _MONTH.search(stem)
        return (stem[: month.start()], month[1]) if month else (stem, "")

    @property
    def month(self) -> str:
        """The month in the file's name, such as "2023-02"; empty for a file without one."""
        return self._stem_and_month[1]

    @property
    def folder(self) -> str:
        """The path of the file's folder relative to the outputs folder; empty for the outputs folder itself."""
        return "" if "/" not in self.path else self.path.rpartition("/")[0]

    @property
    def is_picture(self) -> bool:
        """Whether browsers show the file as a picture."""
        return self.suffix == PICTURE

    @property
    def title(self) -> str:
        """The name for readers, such as "Manhattan map, February 2023"."""
        whole = self.name.removesuffix(self.suffix)
        if self.folder == "requests":
            return whole  # the user chose this name
        stem, month = self._stem_and_month
        words = stem.replace("_", " ").strip() or whole
        return f"{words[:1].upper()}{words[1:]}" + (f", {months.Month(month).label}" if month else "")

    @functools.cached_property
    def subject(self) -> str:
        """A key that files with the same figures share, such as a map and its GeoJSON, or a chart and its CSV."""
        return _KIND.sub("", self.name.removesuffix(self.suffix))

    @property
    def series(self) -> str:
        """A key that files share if only their months differ; empty for a file without a month."""
        stem, month = self._stem_and_month
        return stem + self.suffix if month else ""

    @property
    def order(self) -> tuple[str, str, str, str]:
        """The sort key: the folder, the subject without its month, the month, and the path."""
        return self.folder, _MONTH.sub("", self.subject), self.month, self.path


def relative_path(file: Path | str) -> str:
    """The path of a file relative to the outputs folder, with slashes.

    Raises:
        ValueError: the file is not in the outputs folder, so no page can show it.
    """
    root = settings.outputs_root()
    try:
        return Path(os.path.normpath(root / file)).relative_to(root).as_posix()
    except ValueError:
        raise ValueError(f"{file} is not in the outputs folder {root}: the web UI shows only files in it") from None


def find(path: str) -> Output | None:
    """The output at `path`, relative to the outputs folder; None if there is no file that may be shown.

    Files of other kinds and hidden files may not be shown, nor may symbolic links to files of another kind, and paths
    and links that lead out of the outputs folder.
    """
    opened = open_output(path)
    if opened is None:
        return None
    with opened as file:
        return Output.of(path, os.fstat(file.fileno()))


def open_output(path: str) -> BinaryIO | None:
    """Open the file that `find` would find, or return None.

    All links are resolved and checked first. The resolved path is then opened name by name without following links, so
    that nobody can replace a folder or the file by a link in between.
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
            # O_NONBLOCK: if the file has been replaced by a pipe, opening it must not wait for a writer.
            file = os.open(inside[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        if stat.S_ISREG(os.fstat(file).st_mode):
            return os.fdopen(file, "rb")
        os.close(file)
    # It does not exist or is outside the folder, its name is too long, or links form a loop.
    except (OSError, RuntimeError, ValueError):
        pass
    return None


def _opened(stack: contextlib.ExitStack, name: str | Path, flags: int, folder: int | None = None) -> int:
    """Open a folder that the stack closes."""
    opened = os.open(name, os.O_RDONLY | flags, dir_fd=folder)
    stack.callback(os.close, opened)
    return opened


def _may_be_shown(parts: Sequence[str]) -> bool:
    return all(map(_may_be_named, parts)) and PurePosixPath(*parts).suffix in MEDIA_TYPES


def _may_be_named(name: str) -> bool:
    return bool(name) and name.isprintable() and not name.startswith(".") and "\\" not in name


def list_outputs(folder: str | None = None) -> list[Output]:
    """All outputs, or those in one folder (relative to the outputs folder), ordered by folder, subject and month."""
    root = settings.outputs_root()
    if folder is None:
        found = list(_below(root, ""))
    else:
        found = list(_below(root / folder, f"{folder}/" if folder else "", deep=False)) if _is_inside(folder) else []
    return sorted(found, key=lambda output: output.order)


def list_folders(may_see: MaySee = everything) -> list[str]:
    """The folders that hold an output which the user may see, relative to the outputs folder, without an order."""
    return list(_folders(settings.outputs_root(), "", may_see))


def _folders(folder: Path | str, prefix: str, may_see: MaySee) -> Iterator[str]:
    try:
        entries = [entry for entry in os.scandir(folder) if _may_be_named(entry.name)]
    except OSError:
        return
    suffixes = tuple(MEDIA_TYPES)
    if any(
        entry.name.endswith(suffixes) and may_see(prefix + entry.name) and (entry.is_file() or entry.is_symlink())
        for entry in entries
    ):
        yield prefix.rstrip("/")
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _folders(entry.path, f"{prefix}{entry.name}/", may_see)


def _is_inside(folder: str) -> bool:
    real_root = settings.outputs_root().resolve()
    real = (real_root / folder).resolve()
    return real.is_relative_to(real_root) and all(map(_may_be_named, real.relative_to(real_root).parts))


def _below(folder: Path | str, prefix: str, *, deep: bool = True) -> Iterator[Output]:
    """The files that may be shown in a folder and, if `deep`, in its subfolders. Links to folders are not followed.

    Only links are checked with `find`, because checking every file takes ten times as long.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = prefix + entry.name
        if not _may_be_named(entry.name):
            continue
        with contextlib.suppress(OSError):  # it has just been deleted
            if entry.is_symlink():
                if output := find(path):
                    yield output
            elif entry.is_dir(follow_symlinks=False):
                if deep:
                    yield from _below(entry.path, path + "/")
            elif entry.is_file(follow_symlinks=False) and entry.name.endswith(tuple(MEDIA_TYPES)):
                yield Output.of(path, entry.stat(follow_symlinks=False))


def folder_title(folder: str) -> str:
    """A folder's name for readers: the fleet's title, such as "Green taxis", or the folder's own name."""
    try:
        return catalogue.fleet(folder).title
    except FleetError:
        words = folder.replace("_", " ") or "others"
        return f"{words[:1].upper()}{words[1:]}"


def index_page(base: str, may_see: MaySee = everything) -> Answer:
    """The page that lists all outputs. `base` is the path before `/outputs` and `/files`, such as "/nyc-taxi"."""
    seen = (output for output in list_outputs() if may_see(output.path))
    folders = [
        (folder, folder_title(folder), groups(outputs))
        for folder, outputs in groupby(seen, key=lambda output: output.folder)
    ]
    return _page("index.html", base, folders=folders, has_dbt_docs=settings.dbt_docs().is_file())


def output_page(base: str, path: str, task: tuple[str, str] | None = None, may_see: MaySee = everything) -> Answer:
    """The page about one output, with related files and links to the months before and after it.

    Args:
        base: as in `index_page`.
        path: the output's path relative to the outputs folder.
        task: the name of the task from which the page was opened, and the path of the task's page on the web server.

    Returns:
        A page with status 404 if there is no such output, or if the user may not see it.
    """
    output = find(path) if may_see(path) else None
    if output is None:
        return missing(base)
    beside = [other for other in list_outputs(output.folder) if may_see(other.path)]
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
        groups=groups(beside),
        table=_table(output),
        task=task,
    )


def file_answer(base: str, path: str, asked: Mapping[str, str] | None = None, may_see: MaySee = everything) -> Answer:
    """The output itself, or the requested range of it. Browsers show pictures and download all other files.

    Args:
        base, path: as in `output_page`.
        asked: the headers of the request. If-None-Match, If-Modified-Since, Range (a single range) and If-Range (with
            an ETag) are supported; for several ranges, the whole file is sent.

    Returns:
        A response with status 200, 206, 304 or 416, or a page with status 404 if there is no such output, or if the
        user may not see it.
    """
    file = open_output(path) if may_see(path) else None
    if file is None:
        return missing(base)
    output = Output.of(path, os.fstat(file.fileno()))
    how = "inline" if output.is_picture else "attachment"
    headers = {
        "Content-Type": MEDIA_TYPES[output.suffix],
        "Content-Disposition": f"{how}; filename*=UTF-8''{quote(output.name, safe='')}",
        # The file may not run or load anything. Browsers need inline styles to show a picture.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox",
    }
    return _file_answer(file, headers, asked or {})


def dbt_docs_answer(base: str, asked: Mapping[str, str] | None = None) -> Answer:
    """dbt's documentation of all tables and columns, which `make dbt-docs` has written.

    Args, Returns: as for `file_answer`.
    """
    try:
        file = os.fdopen(os.open(settings.dbt_docs(), os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError:
        return _page("no_dbt_docs.html", base, status=404)
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        # The page consists of scripts and styles of dbt's. In the sandbox it has no origin: it gets neither the user's
        # session nor an answer of Airflow's, and it may not load anything, from this host or another.
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
        ),
    }
    return _file_answer(file, headers, asked or {})


def _file_answer(file: BinaryIO, headers: Mapping[str, str], asked: Mapping[str, str]) -> Answer:
    """An open file, or the requested range of it; `headers` are those for its content."""
    facts = os.fstat(file.fileno())
    etag = f'"{version(facts)}"'
    about = {"ETag": etag, "Last-Modified": formatdate(facts.st_mtime, usegmt=True)}
    headers = {**headers, "Accept-Ranges": "bytes"}
    if conditional_requests.is_current(asked, etag, facts.st_mtime):
        file.close()
        return Answer(NOT_MODIFIED, HEADERS | about, b"")
    start, end, status = 0, facts.st_size, 200
    if part := conditional_requests.requested_range(asked, etag, facts.st_size):
        start, end = part
        if start >= end:
            file.close()
            refused = {"Content-Type": "text/plain", "Content-Range": f"bytes */{facts.st_size}"}
            return Answer(416, HEADERS | about | refused, b"")
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{facts.st_size}"
    headers["Content-Length"] = str(end - start)
    return Answer(status, HEADERS | about | headers, Content(file, start, end - start))


def version(facts: os.stat_result) -> str:
    """A text that differs between two files that have the same path one after the other."""
    return f"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"


def missing(base: str) -> Answer:
    """The page for an output that does not exist, or that the user may not see."""
    return _page("missing.html", base, status=404)


def groups(outputs: Iterable[Output]) -> list[list[Output]]:
    """Group files with the same figures, the picture first."""
    return [
        sorted(group, key=lambda output: (not output.is_picture, output.name))
        for _, group in groupby(outputs, key=lambda output: output.subject)
    ]


@dataclass(frozen=True)
class Table:
    """The first rows of a file of figures, as text. `more` is the number of further rows."""

    columns: list[str]
    rows: list[list[str]]
    more: int


def _table(output: Output) -> Table | None:
    """The first rows of a CSV file, or the first properties of a GeoJSON file; None if there is no table to show."""
    if output.is_picture or output.bytes > TABLE_BYTES:
        return None
    opened = open_output(output.path)
    if opened is None:
        return None
    try:
        with io.TextIOWrapper(opened, encoding="utf-8", newline="") as file:
            columns, rows, count = (_read_csv if output.suffix == ".csv" else _read_geojson)(file)
    # A file that is damaged or too deeply nested for Python can still be downloaded.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error, RecursionError):
        return None
    if not 0 < len(columns) <= TABLE_COLUMNS:
        return None
    columns, *shortened = ([_shortened(value) for value in row] for row in (columns, *rows))
    return Table(columns, shortened, count - len(rows))


def _read_csv(file: io.TextIOWrapper) -> tuple[list[str], list[list[str]], int]:
    """The columns, the first rows, and the number of all rows."""
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
        # No scripts, and no styles except our own. The web UI of Airflow 3 shows the list in a frame.
        "Content-Security-Policy": (
            f"default-src 'none'; img-src 'self'; style-src '{style_hash}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
        ),
    }
    return Answer(status, HEADERS | headers, html.encode())


@functools.cache
def _templates() -> tuple["Environment", str, str]:
    """The templates, the style sheet, and the hash with which the Content-Security-Policy allows it."""
    import humanize  # imported here because tasks need only the paths above
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HTML),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["path"] = lambda path: quote(path)
    environment.filters["size"] = humanize.naturalsize
    style = (_HTML / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment, Markup(style), f"sha256-{digest}"  # noqa: S704 - our own file
