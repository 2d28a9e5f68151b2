"""A task's log as a person reads it: what went wrong, whole, and the lines before it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTEXT_LINES = 8
TRACEBACK = "Traceback (most recent call last):"
FOLDS = ("::group::", "::endgroup::")
"""Where the web UI folds a log; 2.11 writes them within its lines, 3.x as lines of their own."""
_STAMP = re.compile(r"^\[\d{4}-\d\d-\d\dT[^\]]*\] ")
"""How each of 2.11's log records begins; lines without it go on with the record before."""


@dataclass(frozen=True)
class Record:
    """What was logged at once: its lines, and the message of an error that it shows, or nothing."""

    lines: list[str]
    error: list[str]


def failure(path: Path, context: int = CONTEXT_LINES) -> list[str]:
    """The message of the last error in a task's log, whole, after the last lines before it; else the log's last lines.

    Args:
        path: the log; Airflow 3 writes JSON, one object a line.
        context: how many lines.
    """
    if not path.exists():
        return [f"(no log at {path})"]
    text = path.read_text(errors="replace")
    records = [record for record in _records(text) if record.lines or record.error]
    wrong = max((place for place, record in enumerate(records) if record.error), default=None)
    if wrong is None:
        return [line for record in records for line in record.lines][-context:]
    before = [line for record in records[:wrong] for line in record.lines][-context:]
    own = records[wrong].lines
    message = records[wrong].error
    # The record's own text is often the error's: it is said once.
    return [*before, *(line for line in own if line not in message), *message]


def _records(text: str) -> list[Record]:
    lines = text.splitlines()
    if any(line.startswith("{") for line in lines):
        return [_from_json(line) for line in lines]
    records: list[list[str]] = []
    for line in lines:
        if _STAMP.match(line) or not records:
            records.append([])
        records[-1].append(line)
    return [_from_text(record) for record in records]


def _from_json(line: str) -> Record:
    try:
        fields = json.loads(line)
        event = str(fields["event"])
        level = str(fields.get("level", "info")).upper()
    except (ValueError, KeyError, TypeError):
        return Record(_shown([line]), [])
    details = fields.get("error_detail") or []
    # An error raised from another one often says the same: that is said once, by the first.
    said = {str(detail.get("exc_value")): detail for detail in reversed(details)}
    error = [line for detail in details if said[str(detail.get("exc_value"))] is detail for line in _message(detail)]
    shown = _shown(event.splitlines())
    return Record([f"{level:8} {shown[0]}", *shown[1:]] if shown else [], error)


def _message(detail: dict[str, Any]) -> list[str]:
    said = f"{detail.get('exc_type')}: {detail.get('exc_value')}".splitlines()
    notes = [line for note in detail.get("exc_notes") or [] for line in str(note).splitlines()]
    return [*said, *notes]


def _from_text(lines: list[str]) -> Record:
    """2.11: the error's message is what is not indented after the record's last traceback."""
    start = max((place for place, line in enumerate(lines) if line.startswith(TRACEBACK)), default=None)
    if start is None:
        return Record(_shown(lines), [])
    after = lines[start + 1 :]
    first = next((place for place, line in enumerate(after) if line and not line.startswith(" ")), len(after))
    first_of_traceback = next(place for place, line in enumerate(lines) if line.startswith(TRACEBACK))
    return Record(_shown(lines[:first_of_traceback]), _shown(after[first:]))


def _shown(lines: list[str]) -> list[str]:
    """Without what only folds the log in the web UI."""
    return [line for line in lines if line.strip() and not any(fold in line for fold in FOLDS)]
