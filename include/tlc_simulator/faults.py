"""What can go wrong on the way from the TLC: one small class for each fault, and how they are written in a command."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal


@dataclass(frozen=True)
class Status:
    """The answer is this status with an XML error as body; `retry_after` (seconds) adds the header of that name."""

    code: int
    retry_after: int | None = None

    def __post_init__(self) -> None:
        HTTPStatus(self.code)  # raises ValueError here rather than in the server


@dataclass(frozen=True)
class Slow:
    """The answer is right but late: seconds before it begins, and before each chunk (64 KiB) of its body."""

    before: float = 0.0
    per_chunk: float = 0.0


@dataclass(frozen=True)
class CutOff:
    """The connection closes when this share of the body has been sent."""

    after: float = 0.5


@dataclass(frozen=True)
class WrongLength:
    """Content-Length is `by` bytes more (or, if negative, fewer) than the body that follows."""

    by: int = 100


@dataclass(frozen=True)
class ErrorPage:
    """An error page that claims success: status 200 and a body of HTML or XML."""

    kind: Literal["html", "xml"] = "html"


@dataclass(frozen=True)
class WrongContent:
    """Status 200, right headers and length, but only zeros after this share of the body: Parquet loses its footer."""

    after: float = 0.5


Fault = Status | Slow | CutOff | WrongLength | ErrorPage | WrongContent


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
