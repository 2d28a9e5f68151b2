"""What the commands print: colours and drawn tables in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

STATE_COLUMNS = ("state", "run", "result")
STYLES = {
    **dict.fromkeys(("loaded, last run failed", "failed", "FAILED", "MISSING", "NEW EDITION", "ERROR"), "bold red"),
    **dict.fromkeys(("loaded, last run", "not loaded, last run", "not run", "WARN", "accepted"), "yellow"),
    **dict.fromkeys(("fresh", "success", "ok"), "green"),
    **dict.fromkeys(("running", "queued"), "cyan"),
    **dict.fromkeys(("nothing new", "not published", "not loaded", "-"), "dim"),
}
"""Styles of the cells of these columns, by the words they begin with; the first that fits counts."""


def is_plain(stream: TextIO | None = None) -> bool:
    """Whether to print plain lines: the stream (the standard output) is no terminal, or the environment asks for it."""
    asked_for = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM", "dumb") == "dumb"
    return bool(asked_for) or not (stream or sys.stdout).isatty()


@functools.cache
def terminal(*, error: bool = False) -> Console:
    """The terminal, or the standard error on it. While a progress bar is drawn, print only through it."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, markup=False, emoji=False)


def say(text: str = "", style: str = "", *, error: bool = False) -> None:
    """Print a line, or several; an error goes to the standard error.

    If nobody reads them any more, because a terminal or a pipe was closed, this command goes on: it has work to do, and
    processes to stop.
    """
    stream = sys.stderr if error else sys.stdout
    with contextlib.suppress(OSError):
        if is_plain(stream) or "\033" in text:  # a table that is drawn already
            print(text, file=stream, flush=True)
        else:
            terminal(error=error).print(text, style=style, soft_wrap=True)


def complain(text: str) -> None:
    """Print an error."""
    say(text, "bold red", error=True)


def last_lines(text: str, count: int) -> str:
    """The end of a log, for an error message."""
    return "\n".join(text.strip().splitlines()[-count:])


def table(
    rows: Iterable[Any], headers: Sequence[str], *, colalign: Sequence[str] = (), disable_numparse: bool = True
) -> str:
    """A table, as text: takes what `tabulate` takes, which makes it for plain output."""
    from tabulate import SEPARATING_LINE, tabulate

    if is_plain():
        return tabulate(rows, headers, disable_numparse=disable_numparse, colalign=colalign or None)
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header, align in zip_longest(headers, colalign, fillvalue="left"):
        is_number = align == "right"
        drawn.add_column(header, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in rows:
        if row == SEPARATING_LINE:
            drawn.add_section()
        else:
            drawn.add_row(*(Text(cell, _style(header, cell)) for header, cell in zip(headers, row, strict=True)))
    with terminal().capture() as text:
        terminal().print(drawn)
    return text.get().rstrip("\n")


def _style(header: str, cell: str) -> str:
    found = (style for words, style in STYLES.items() if cell.startswith(words))
    return next(found, "") if header in STATE_COLUMNS else ""
