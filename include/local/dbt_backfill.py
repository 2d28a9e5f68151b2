"""`make dbt-backfill`: build and test the marts of a range of months in one dbt process, and show how it goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.local import console, dbt
from include.local.console import complain, say
from include.local.processes import home
from include.orchestration.dbt_failure import explained

if TYPE_CHECKING:
    from rich.progress import Progress

RESULTS = ("LogModelResult", "LogSeedResult", "LogTestResult", "LogSnapshotResult", "LogNodeNoOpResult")
"""dbt's events of a model, a table of codes or a test that has ended."""
NOTHING = ": no such month is loaded"
"""What a mart says if a range has no months that it could build: see include/dbt/macros/months.sql."""


@dataclass(frozen=True)
class Event:
    """A line of dbt's log.

    Attributes:
        node: the model or test that has begun or ended, or "".
        has_ended: whether it has ended.
        total: the number of models and tests of this run; 0 if the event is about none of them.
        text: the line for readers.
    """

    node: str
    has_ended: bool
    total: int
    text: str

    @property
    def is_test(self) -> bool:
        return self.node.startswith("test.")

    @classmethod
    def of(cls, line: str) -> Event:
        try:
            event = json.loads(line)
            info, data = event["info"], event.get("data", {})
            node = str((data.get("node_info") or {}).get("unique_id") or "")
            return cls(node, info["name"] in RESULTS, int(data.get("total") or 0), str(info["msg"]).strip())
        except (ValueError, KeyError, TypeError):  # what Python prints when dbt itself breaks
            return cls("", False, 0, line.strip())


def run(fleet: str | None, first: str, last: str) -> int:
    """Build the months, whether or not they have changed; returns the exit status.

    Args:
        fleet: one fleet; else all of them.

    Raises:
        CommandError: there is no warehouse yet.
        SettingError: dbt is not installed.
    """
    state = home() / "dbt"
    (state / "target" / "run_results.json").unlink(missing_ok=True)  # an error must not be that of an earlier run
    variables = dbt.months(fleet, first, last) | dbt.connect(state)
    arguments = [
        "--log-format",
        "json",
        "build",
        "--exclude-resource-type",
        "unit_test",
        "--exclude-resource-type",
        "exposure",
    ]
    said = list[str]()
    with dbt.started(arguments, state, variables) as process:
        assert process.stdout is not None
        said.extend(_shown(Event.of(line) for line in process.stdout))
    if process.returncode:
        complain(f"make dbt-backfill: {explained(process.returncode, state / 'target', said)}")
        return process.returncode
    months = f"{variables['MARTS_FROM']} to {variables['MARTS_TO']} of {fleet or 'all fleets'}"
    say(f"The marts have what is loaded of {months}.")
    return 0


def _shown(events: Iterable[Event]) -> Iterator[str]:
    """Show the events, and return their texts: in a terminal a bar, elsewhere a line for each model and failure."""
    with _bar() as bar:
        task = bar.add_task("dbt starts", total=None) if bar else None
        ended = 0
        for event in events:
            if event.has_ended:
                ended += 1
            if event.total and bar and task is not None:
                bar.update(task, total=event.total, completed=ended, description=event.node.split(".")[-1][:40])
            if (event.has_ended and not event.is_test) or event.text.endswith(NOTHING) or " built " in event.text:
                say(event.text)
            yield event.text


@contextmanager
def _bar() -> Iterator[Progress | None]:
    """The bar of models and tests; None where plain lines are printed."""
    if console.is_plain():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console.terminal(), transient=True) as bar:
        yield bar
