"""Faults of the site and the network: a class for each kind, and their notation on the command line."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal


@dataclass(frozen=True)
class Answer:
    """A response that is not a file."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fault:
    """A way to disturb a response. This class changes nothing; each kind of fault overrides some of its members.

    Attributes:
        before, per_chunk: the seconds that the server waits before the response, and before each chunk of a file.
        ends_connection: whether the connection must be closed, because the client cannot tell where the next response
            begins.
    """

    before = 0.0
    per_chunk = 0.0
    ends_connection = False

    def answer(self) -> Answer | None:
        """The response to send instead of the requested file; None to send the file."""
        return None

    def content_length(self, length: int) -> int:
        """The value of the header Content-Length for a body of `length` bytes."""
        return length

    def body(self, chunks: Iterable[bytes], length: int) -> Iterator[bytes]:  # noqa: ARG002 - some kinds need it
        """The chunks to send for a body of `length` bytes."""
        yield from chunks


@dataclass(frozen=True)
class Status(Fault):
    """Respond with this status and an XML error. `retry_after` (in seconds) adds the header Retry-After."""

    code: int
    retry_after: int | None = None

    def __post_init__(self) -> None:
        HTTPStatus(self.code)  # raises ValueError here, instead of later in the server

    def answer(self) -> Answer:
        return refusal(self.code, {} if self.retry_after is None else {"Retry-After": str(self.retry_after)})


@dataclass(frozen=True)
class Slow(Fault):
    """Respond correctly but slowly: wait before the response, and before each chunk (64 KiB) of the body."""

    before: float = 0.0
    per_chunk: float = 0.0


@dataclass(frozen=True)
class CutOff(Fault):
    """Close the connection after sending this share of the body."""

    after: float = 0.5
    ends_connection = True

    def body(self, chunks: Iterable[bytes], length: int) -> Iterator[bytes]:
        left = int(length * self.after)
        for chunk in chunks:
            if left <= 0:
                return
            yield chunk[:left]
            left -= len(chunk)


@dataclass(frozen=True)
class WrongLength(Fault):
    """Send a Content-Length that is `by` bytes larger (if negative: smaller) than the body."""

    by: int = 100
    ends_connection = True

    def content_length(self, length: int) -> int:
        return max(0, length + self.by)


@dataclass(frozen=True)
class ErrorPage(Fault):
    """Respond with status 200, but with an error page in HTML or XML as the body."""

    kind: Literal["html", "xml"] = "html"

    def answer(self) -> Answer:
        if self.kind == "html":
            return Answer(200, {"Content-Type": "text/html"}, _HTML_PAGE)
        return Answer(200, _XML, _error_xml("InternalError", "We encountered an internal error."))


@dataclass(frozen=True)
class WrongContent(Fault):
    """Send correct headers, but only zeros after this share of the body, so that a Parquet file loses its footer."""

    after: float = 0.5

    def body(self, chunks: Iterable[bytes], length: int) -> Iterator[bytes]:
        left = int(length * self.after)
        for chunk in chunks:
            right = chunk[: max(0, left)]
            yield right + bytes(len(chunk) - len(right))
            left -= len(chunk)


_XML = {"Content-Type": "application/xml"}
_HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>Error</title></head><body>Something went wrong.</body></html>\n"
_request_numbers = itertools.count(1)


def refusal(code: int, headers: Mapping[str, str] | None = None) -> Answer:
    """An XML error like those of S3, with additional `headers`."""
    status = HTTPStatus(code)
    name, message = {
        403: ("AccessDenied", "Access Denied"),
        404: ("NoSuchKey", "The specified key does not exist."),
        416: ("InvalidRange", "The requested range is not satisfiable"),
        429: ("SlowDown", "Please reduce your request rate."),
        503: ("SlowDown", "Please reduce your request rate."),
    }.get(code, (status.phrase.replace(" ", ""), status.description or status.phrase))
    return Answer(code, _XML | dict(headers or {}), _error_xml(name, message))


def _error_xml(code: str, message: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>"
        f"<RequestId>{next(_request_numbers):016X}</RequestId><HostId>tlc-simulator</HostId></Error>"
    ).encode()


@dataclass(frozen=True)
class FaultRule:
    """A fault, and the requests that it affects.

    Attributes:
        path_part: a part of the request's path; "" for every path.
        times: the number of requests; None for all.
        methods: the requests' methods; empty for all.
    """

    path_part: str
    fault: Fault
    times: int | None = None
    methods: tuple[str, ...] = ()

    def is_for(self, method: str, path: str) -> bool:
        """Whether the fault affects a request."""
        return self.path_part in path and (not self.methods or method in self.methods)


FAULT_HELP = (
    "KIND[=VALUE][*TIMES][@METHOD][:PATH_PART], where KIND is a status such as 503, 429 (VALUE: Retry-After in "
    "seconds), slow (VALUE: seconds before the response and before each 64 KiB), cut (VALUE: share sent), wrong-length "
    "(VALUE: bytes too many, or negative for too few), error-page (VALUE: html or xml), or wrong-content (VALUE: "
    "correct share). Without TIMES the fault persists; without PATH_PART it affects every file. "
    "Example: 503*2:/trip-data/yellow"
)

_SPEC = re.compile(
    r"(?P<kind>[a-z-]+|\d{3})(=(?P<value>[^*@:]+))?(\*(?P<times>\d+))?(@(?P<method>GET|HEAD))?"
    r"(:(?P<path>.*))?"
)


def parse_fault(spec: str) -> FaultRule:
    """Parse the notation of the command line, which `FAULT_HELP` describes.

    Raises:
        ValueError: `spec` is malformed.
    """
    match = _SPEC.fullmatch(spec)
    fault = match and _fault(match["kind"], match["value"])
    if not match or not fault:
        raise ValueError(f"{spec!r} is not a fault: expected {FAULT_HELP}")
    times = int(match["times"]) if match["times"] else None
    return FaultRule(match["path"] or "", fault, times, (match["method"],) if match["method"] else ())


def _fault(kind: str, value: str | None) -> Fault | None:
    try:
        if re.fullmatch(r"[45]\d\d", kind):
            return Status(int(kind), int(value) if value else (1 if kind == "429" else None))
        if kind == "slow":
            seconds = float(value or 0.2)
            return Slow(before=seconds, per_chunk=seconds)
        if kind == "cut":
            return CutOff(float(value or 0.5))
        if kind == "wrong-length":
            return WrongLength(int(value or 100))
        if kind == "error-page" and value in (None, "html", "xml"):
            return ErrorPage("xml" if value == "xml" else "html")
        if kind == "wrong-content":
            return WrongContent(float(value or 0.5))
    except ValueError:
        pass  # an invalid number; the caller reports what was expected
    return None
