"""What can go wrong on the way from the TLC: one small class for each fault, and how they are written in a command."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal


@dataclass(frozen=True)
class Answer:
    """An answer that is no file."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fault:
    """How an answer is spoilt. This class spoils nothing; each kind of fault overrides what it does.

    Attributes:
        before, per_chunk: seconds that the server waits before the answer begins, and before each chunk of a file.
        ends_connection: whether the client could not tell where the next answer on the same connection begins.
    """

    before = 0.0
    per_chunk = 0.0
    ends_connection = False

    def answer(self) -> Answer | None:
        """What is sent instead of what was asked for, if anything is."""
        return None

    def content_length(self, length: int) -> int:
        """What the header of that name says of a body of `length` bytes."""
        return length

    def body(self, chunks: Iterable[bytes], length: int) -> Iterator[bytes]:  # noqa: ARG002 - some kinds need it
        """What is sent of a body of `length` bytes."""
        yield from chunks


@dataclass(frozen=True)
class Status(Fault):
    """The answer is this status with an XML error as body; `retry_after` (seconds) adds the header of that name."""

    code: int
    retry_after: int | None = None

    def __post_init__(self) -> None:
        HTTPStatus(self.code)  # raises ValueError here rather than in the server

    def answer(self) -> Answer:
        return refusal(self.code, {} if self.retry_after is None else {"Retry-After": str(self.retry_after)})


@dataclass(frozen=True)
class Slow(Fault):
    """The answer is right but late: seconds before it begins, and before each chunk (64 KiB) of its body."""

    before: float = 0.0
    per_chunk: float = 0.0


@dataclass(frozen=True)
class CutOff(Fault):
    """The connection closes when this share of the body has been sent."""

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
    """Content-Length is `by` bytes more (or, if negative, fewer) than the body that follows."""

    by: int = 100
    ends_connection = True

    def content_length(self, length: int) -> int:
        return max(0, length + self.by)


@dataclass(frozen=True)
class ErrorPage(Fault):
    """An error page that claims success: status 200 and a body of HTML or XML."""

    kind: Literal["html", "xml"] = "html"

    def answer(self) -> Answer:
        if self.kind == "html":
            return Answer(200, {"Content-Type": "text/html"}, _HTML_PAGE)
        return Answer(200, _XML, _error_xml("InternalError", "We encountered an internal error."))


@dataclass(frozen=True)
class WrongContent(Fault):
    """Status 200, right headers and length, but only zeros after this share of the body: Parquet loses its footer."""

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
    """An error of S3, in XML; `headers` are added to its own."""
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
    """Which requests a fault befalls.

    Attributes:
        path_part: a text that the path contains; "" for every path.
        times: how many requests; None for all.
        methods: of these methods; empty for all.
    """

    path_part: str
    fault: Fault
    times: int | None = None
    methods: tuple[str, ...] = ()

    def is_for(self, method: str, path: str) -> bool:
        return self.path_part in path and (not self.methods or method in self.methods)


FAULT_HELP = (
    "KIND[=VALUE][*TIMES][@METHOD][:PATH_PART], where KIND is a status such as 503, 429 (VALUE: Retry-After in "
    "seconds), slow (VALUE: seconds before the answer and before each 64 KiB), cut (VALUE: share sent), wrong-length "
    "(VALUE: bytes too many, negative for too few), error-page (VALUE: html or xml), wrong-content (VALUE: share that "
    "is right). Without TIMES it lasts; without PATH_PART it is for every file. Example: 503*2:/trip-data/yellow"
)

_SPEC = re.compile(
    r"(?P<kind>[a-z-]+|\d{3})(=(?P<value>[^*@:]+))?(\*(?P<times>\d+))?(@(?P<method>GET|HEAD))?"
    r"(:(?P<path>.*))?"
)


def parse_fault(spec: str) -> FaultRule:
    """Read a fault as written in a command (see `FAULT_HELP`).

    Raises:
        ValueError: `spec` is not written so.
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
        pass  # a number that is none: the caller says what was expected
    return None
