"""The part of a failed task's log that a person needs: the whole error message, and the lines before it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

CONTEXT_LINES = 8
TRACEBACK = "Traceback (most recent call last):"
FOLDS = ("::group::", "::endgroup::")
"""Marks of the parts that the web UI folds; in 2.11 they stand within log lines, in 3.x on their own lines."""
_STAMP = re.compile(r"^\[\d{4}-\d\d-\d\dT[^\]]*\] ")
"""The start of each log record of 2.11; a line without it continues the record before."""


@dataclass(frozen=True)
class Record:
    """A log record: its lines, and the message of the error that it reports, if any."""

    lines: list[str]
    error: list[str]


def failure(path: Path, context: int = CONTEXT_LINES) -> list[str]:
    """The last lines before the last error in a task's log, and its whole message; the last lines if there is no error.

    Args:
        path: the log: text, or JSON with one object per line, as Airflow 3 writes it.
        context: the number of lines before the error.
    """
    if not path.exists():
        return [f"(no log at {path})"]
    text = path.read_text(errors="replace")
    records = [record for record in _records(text) if record.lines or record.error]
    wrong = max((place for place, record in enumerate(records) if record.error), default=None)
    if wrong is None:
        return [line for record in records for line in record.lines][-context:]
    before = [line for record in records[:wrong] for line in record.lines][-context:]
    message = records[wrong].error
    # The record's own text often repeats the message.
    return [*before, *(line for line in records[wrong].lines if line not in message), *message]


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
    # An error raised from another one often repeats its message: it is shown once, with the first.
    said = {str(detail.get("exc_value")): detail for detail in reversed(details)}
    error = [line for detail in details if said[str(detail.get("exc_value"))] is detail for line in _message(detail)]
    shown = _shown(event.splitlines())
    return Record([f"{level:8} {shown[0]}", *shown[1:]] if shown else [], error)


def _message(detail: dict[str, Any]) -> list[str]:
    said = f"{detail.get('exc_type')}: {detail.get('exc_value')}".splitlines()
    notes = [line for note in detail.get("exc_notes") or [] for line in str(note).splitlines()]
    return [*said, *notes]


def _from_text(lines: list[str]) -> Record:
    """A record of 2.11. The message is what follows the last traceback, whose own lines are indented."""
    tracebacks = [place for place, line in enumerate(lines) if line.startswith(TRACEBACK)]
    if not tracebacks:
        return Record(_shown(lines), [])
    message = dropwhile(lambda line: not line or line.startswith(" "), lines[tracebacks[-1] + 1 :])
    return Record(_shown(lines[: tracebacks[0]]), _shown(message))


def _shown(lines: Iterable[str]) -> list[str]:
    """The lines without those that only fold the log in the web UI."""
    return [line for line in lines if line.strip() and not any(fold in line for fold in FOLDS)]
