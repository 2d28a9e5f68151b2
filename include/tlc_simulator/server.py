"""The simulated site: an HTTP server with the paths, headers and errors of the real one, and faults on request."""

import contextlib
import email.utils
import functools
import hashlib
import itertools
import re
import socket
import socketserver
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

from include.nyc_taxi import catalogue, conditional_requests
from include.nyc_taxi.errors import MonthError
from include.nyc_taxi.months import Month
from include.tlc_simulator.faults import Answer, Fault, FaultRule, refusal

CHUNK = 64 * 1024

# Increase this if the generated files change, so that the server does not serve files from an earlier version.
_VERSION = "version-3"
_TRIPS_PATH = re.compile(r"/trip-data/(?P<fleet>[a-z]+)_tripdata_(?P<month>20\d\d-\d\d)\.parquet")
_CONTENT_TYPES = {".parquet": "binary/octet-stream", ".csv": "text/csv", ".zip": "application/zip"}
_ZONES_MODIFIED = {"2023": datetime(2023, 1, 1, tzinfo=UTC), "2026": datetime(2026, 2, 1, tzinfo=UTC)}


@dataclass(frozen=True)
class Request:
    """An answered request. `time` is `time.monotonic()` at the beginning of the response, in seconds."""

    method: str
    path: str
    status: int
    time: float
    headers: dict[str, str]


@dataclass(frozen=True)
class _Resource:
    """A published file. `etag` includes its quotation marks; `modified` is in UTC, in whole seconds."""

    file: Path
    etag: str
    modified: datetime
    size: int

    @classmethod
    def of(cls, file: Path, modified: datetime) -> Self:
        state = file.stat()
        # The ETag of S3 is the MD5 of the content.
        return cls(file, f'"{_md5(file, state.st_size, state.st_mtime_ns)}"', modified, state.st_size)


class TlcSimulator:
    """A simulated site. Use it in a `with` statement, or call `start` and `stop`.

    Each file is generated at its first request and kept in `folder`. The site publishes every month of `fleets` from
    `first_month` to `last_month`, beginning with the fleet's first month in the catalogue. It answers 403 to all other
    requests, like the real site.

    Args:
        folder: the folder for generated files; it is created if necessary.
        host: the address to listen on; "0.0.0.0" for all addresses of this machine.
        port: the port to listen on; 0 for any free port.
        rows: the number of rows per month; None for a few thousand.
        seed: the seed of the random trips.
        first_month, last_month: the first and the last published month.
        fleets: the published fleets; None for the whole catalogue.
        serve_folder: serve only the files in this folder, which is laid out like the site, instead of generated files.
        zones_layout: the layout of the zone files: "2026" is the current one, "2023" the earlier one (see
            `city.zone_shapes`).
        verbose: whether to print a line on stderr for each request.

    Raises:
        FleetError: a fleet is not in the catalogue.
        MonthError: `first_month` or `last_month` is not written YYYY-MM.
        ValueError: there is no such `zones_layout`.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        rows: int | None = None,
        seed: int = 1,
        first_month: str = "2009-01",
        last_month: str = "2024-05",
        fleets: Sequence[str] | None = None,
        serve_folder: Path | str | None = None,
        zones_layout: str = "2026",
        verbose: bool = False,
    ) -> None:
        if zones_layout not in _ZONES_MODIFIED:
            raise ValueError(f"no layout {zones_layout!r} of the zones: expected one of {', '.join(_ZONES_MODIFIED)}")
        for month in (first_month, last_month):
            Month(month)  # raises here, instead of later in a thread
        self._folder = Path(folder)
        self._host = host
        self._port = port
        self._rows = rows
        self._seed = seed
        self._span = (first_month, last_month)
        self._fleets = tuple(catalogue.FLEETS if fleets is None else (catalogue.fleet(name).name for name in fleets))
        self._serve_folder = None if serve_folder is None else Path(serve_folder)
        self._zones_layout = zones_layout
        self._verbose = verbose
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._rules: list[tuple[FaultRule, Iterator[int]]] = []  # each with an iterator over its remaining uses
        self._published: dict[tuple[str, str], bool] = {}
        self._editions: dict[tuple[str, str], int] = defaultdict(lambda: 1)
        self._making: dict[Path, threading.Lock] = defaultdict(threading.Lock)
        self._stopping = threading.Event()
        self._server: _Server | None = None

    # -- Start and stop

    def start(self) -> Self:
        """Listen, and answer requests in background threads.

        Raises:
            OSError: the port is in use, or `host` is not an address of this machine.
        """
        self._stopping.clear()
        self._server = _Server(self, self._host, self._port)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and close all connections. Further calls have no effect."""
        self._stopping.set()
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            server.close_connections()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The site's URL, without a trailing slash.

        Raises:
            RuntimeError: the simulator has not been started.
        """
        if self._server is None:
            raise RuntimeError("the simulator has no URL before it is started")
        host = "127.0.0.1" if self._host == "0.0.0.0" else self._host  # noqa: S104 - compared, not bound
        return f"http://{host}:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        """A copy of the list of all requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    # -- Published months

    def publish(self, fleet: str, month: str) -> None:
        """Publish this month, even outside the span of published months. Raises like `catalogue.file_name`."""
        self._check(fleet, month)
        with self._lock:
            self._published[fleet, month] = True

    def withdraw(self, fleet: str, month: str) -> None:
        """Withdraw this month: answer 403 to requests for it. Raises like `catalogue.file_name`."""
        self._check(fleet, month)
        with self._lock:
            self._published[fleet, month] = False

    def republish(self, fleet: str, month: str) -> None:
        """Publish the month's next edition, in which some trips, the ETag and the Last-Modified date differ.

        Raises:
            FleetError, MonthError: as `catalogue.file_name`.
            ValueError: the simulator serves a folder, whose files it does not change.
        """
        if self._serve_folder is not None:
            raise ValueError("the files of a served folder have one edition: change the file itself to republish it")
        self._check(fleet, month)
        with self._lock:
            self._editions[fleet, month] += 1
            self._published[fleet, month] = True

    def _check(self, fleet: str, month: str) -> None:
        """Raise for an invalid month, so that a mistake in a test does not look like an unpublished month."""
        if self._serve_folder is None:
            catalogue.file_name(fleet, month)

    # -- Faults

    def add_fault(self, path_part: str, fault: Fault, times: int | None = None, *, methods: Sequence[str] = ()) -> None:
        """Apply `fault` to the next `times` requests (None: to all) whose path contains `path_part`.

        If several faults match a request, the one added first is applied, until it is used up.

        Args:
            methods: apply it only to requests with these methods ("GET", "HEAD"); empty for all.
        """
        self.add_fault_rule(FaultRule(path_part, fault, times, tuple(methods)))

    def add_fault_rule(self, rule: FaultRule) -> None:
        """Like `add_fault`, for a rule from `faults.parse_fault`."""
        with self._lock:
            self._rules.append((rule, itertools.count() if rule.times is None else iter(range(rule.times))))

    def clear_faults(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._rules.clear()

    # -- For the request handler

    def _take_fault(self, method: str, path: str) -> Fault:
        with self._lock:
            for rule, uses in self._rules:
                if rule.is_for(method, path) and next(uses, None) is not None:
                    return rule.fault
        return Fault()

    def _record(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)
        if self._verbose:
            print(f"{request.method} {request.path} {request.status}", file=sys.stderr, flush=True)

    def _pause(self, seconds: float) -> None:
        """Wait, but at most until the simulator stops."""
        self._stopping.wait(seconds)

    def _resource(self, path: str) -> _Resource | None:
        """The file published at `path`, which is generated if necessary; None if there is none.

        File names are built from the parsed parts of known paths, so no path leads out of the two folders.
        """
        match = _TRIPS_PATH.fullmatch(path)
        if match:
            return self._trips(match["fleet"], match["month"])
        if path in (catalogue.ZONE_LOOKUP_PATH, catalogue.ZONE_SHAPES_PATH):
            return self._zones(path)
        return None

    def _trips(self, fleet: str, month: str) -> _Resource | None:
        with self._lock:
            published = self._published.get((fleet, month))
            edition = self._editions.get((fleet, month), 1)
        if published is False:
            return None
        if self._serve_folder is not None:
            return self._existing(self._serve_folder / "trip-data" / f"{fleet}_tripdata_{month}.parquet")
        first, last = self._span
        try:
            if fleet not in self._fleets or not (published or first <= month <= last):
                return None
            name = catalogue.file_name(fleet, month)
        except MonthError:
            return None

        def make(file: Path) -> None:
            from include.tlc_simulator.trips import write_month

            write_month(file, fleet, month, rows=self._rows, seed=self._seed, edition=edition)

        rows = "default" if self._rows is None else str(self._rows)
        folder = self._folder / f"{_VERSION}-rows-{rows}-seed-{self._seed}-edition-{edition}"
        return self._made(folder / name, _modified(month, edition), make)

    def _zones(self, path: str) -> _Resource | None:
        name = path.rpartition("/")[2]
        if self._serve_folder is not None:
            return self._existing(self._serve_folder / "misc" / name)

        def make(file: Path) -> None:
            from include.tlc_simulator import city

            if path == catalogue.ZONE_LOOKUP_PATH:
                city.write_lookup(file)
            else:
                city.write_shapes(file, self._zones_layout)

        folder = self._folder / f"{_VERSION}-zones-{self._zones_layout}"
        return self._made(folder / name, _ZONES_MODIFIED[self._zones_layout], make)

    def _existing(self, file: Path) -> _Resource | None:
        if not file.is_file():
            return None
        return _Resource.of(file, datetime.fromtimestamp(int(file.stat().st_mtime), UTC))

    def _made(self, file: Path, modified: datetime, make: Callable[[Path], None]) -> _Resource:
        with self._lock:
            making = self._making[file]
        with making:  # concurrent first requests must generate the file only once
            if not file.exists():
                make(file)
            return _Resource.of(file, modified)


@functools.cache
def _md5(file: Path, _size: int, _modified_ns: int) -> str:
    """The MD5 of the content, computed once for each state of the file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


def _modified(month: str, edition: int) -> datetime:
    """The publication date: the 20th of the second month after `month`; each later edition follows after 30 days."""
    following = Month(f"{Month(month).end:%Y-%m}").end
    return datetime(following.year, following.month, 20, 14, 30, tzinfo=UTC) + timedelta(days=30 * (edition - 1))


class _Server(socketserver.ThreadingTCPServer):
    """The TCP server. `ThreadingHTTPServer` would look up the host's name, which can take seconds."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # it would wait for idle keep-alive connections, which close_connections ends

    def __init__(self, simulator: TlcSimulator, host: str, port: int) -> None:
        self.simulator = simulator
        self._connections: set[socket.socket] = set()
        super().__init__((host, port), _Handler)

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the client has closed it already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up, because tests and interrupted downloads often do so."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD requests like S3 behind CloudFront."""

    protocol_version = "HTTP/1.1"
    server_version = "AmazonS3"
    sys_version = ""
    disable_nagle_algorithm = True  # headers and body are two writes; the second would wait 40 ms for an ACK
    server: _Server

    def log_message(self, *_: object) -> None:
        """Log nothing: the simulator keeps its own list of requests."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        simulator, path = self.server.simulator, self.path.partition("?")[0]
        fault = simulator._take_fault(self.command, path)
        simulator._pause(fault.before)
        if answer := fault.answer():
            self._send(answer)
        elif resource := simulator._resource(path):
            self._send_file(resource, fault)
        else:
            self._send(refusal(403))

    def _send(self, answer: Answer) -> None:
        self._start(answer.status, {**answer.headers, "Content-Length": str(len(answer.body))})
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        request = Request(self.command, self.path, status, time.monotonic(), dict(self.headers.items()))
        self.server.simulator._record(request)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, resource: _Resource, fault: Fault) -> None:
        modified = email.utils.format_datetime(resource.modified, usegmt=True)
        headers = {"ETag": resource.etag, "Last-Modified": modified}
        timestamp = resource.modified.timestamp()
        if conditional_requests.is_current(self.headers, resource.etag, timestamp):
            self._start(304, headers)
            return
        status, begin, end = 200, 0, resource.size
        if span := conditional_requests.requested_range(self.headers, resource.etag, resource.size, timestamp):
            status, (begin, end) = 206, span
            if begin >= end:
                self._send(refusal(416, {"Content-Range": f"bytes */{resource.size}"}))
                return
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{resource.size}"
        headers |= {
            "Accept-Ranges": "bytes",
            "Content-Type": _CONTENT_TYPES[resource.file.suffix],
            "Content-Length": str(fault.content_length(end - begin)),
        }
        self.close_connection |= fault.ends_connection
        self._start(status, headers)
        if self.command == "HEAD":
            return
        with resource.file.open("rb") as file:
            file.seek(begin)
            chunks = (file.read(min(CHUNK, end - position)) for position in range(begin, end, CHUNK))
            for chunk in fault.body(chunks, end - begin):
                self.server.simulator._pause(fault.per_chunk)
                self.wfile.write(chunk)
