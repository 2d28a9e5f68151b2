"""Conditional requests and byte ranges (RFC 9110): whether a client needs a file, and which part of it.

The pages and the simulated TLC both use it. ETags include their quotation marks; times are POSIX timestamps.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.message import Message
from email.utils import parsedate_to_datetime

Headers = Mapping[str, str] | Message


def is_current(headers: Headers, etag: str, modified: float) -> bool:
    """Whether the client already has this edition. If-None-Match takes precedence over If-Modified-Since."""
    if (tags := headers.get("If-None-Match")) is not None:
        return tags.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))
    since = _timestamp(headers.get("If-Modified-Since", ""))
    return since is not None and int(modified) <= since


def requested_range(headers: Headers, etag: str, size: int, modified: float | None = None) -> tuple[int, int] | None:
    """The start and the exclusive end of the requested bytes; None for the whole file.

    A server may ignore malformed and multiple ranges: they give None, too. A range outside the file is empty.

    Args:
        modified: the date that If-Range may contain instead of the ETag; None to accept no date, because two editions
            can have the same date.
    """
    condition = headers.get("If-Range", etag)
    if condition != etag and (modified is None or _timestamp(condition) != int(modified)):
        return None
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", headers.get("Range", "").strip(), re.IGNORECASE)
    if not found or found[0].endswith("=-"):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return start, min(int(last) + 1, size) if last else size


def _timestamp(text: str) -> float | None:
    """The time in an HTTP date; None if `text` is not a date."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
