"""The status as text: a table of months, and sentences that say what to do."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta

from humanize import naturalsize
from tabulate import SEPARATING_LINE, tabulate

from include.nyc_taxi.months import Month, month_range
from include.nyc_taxi.status.freshness import MonthStatus, State

MAX_BLANK_LINES = 3
"""The most consecutive months without information that get a line each; more of them share one line."""

HEADER = ("fleet", "month", "state", "published", "downloaded", "loaded (UTC)", "edition", "rows", "age")
_ALIGNMENT = ("left", "left", "left", "left", "right", "left", "left", "right", "right")


def render(months: Sequence[MonthStatus], *, draw: Callable[..., str] = tabulate) -> str:
    """A table with one line per month. Many consecutive months that are neither loaded nor downloaded share a line.

    Args:
        draw: makes the table's text, with the arguments of `tabulate`.
    """
    rows: list[Sequence[str]] = []
    for group in _grouped(months, lambda month: (month.fleet, _is_blank(month) and month.state)):
        if rows and rows[-1][0] != group[0].fleet:
            rows.append(SEPARATING_LINE)
        if _is_blank(group[0]) and len(group) > MAX_BLANK_LINES:
            rows.append(_row(group[0], f"{group[0].month} … {group[-1].month}"))
        else:
            rows += [_row(month, month.month) for month in group]
    return draw(rows, HEADER, disable_numparse=True, colalign=_ALIGNMENT)


def _is_blank(month: MonthStatus) -> bool:
    """Whether nothing but the month's state is known."""
    return month.state in (State.NOT_LOADED, State.NOT_PUBLISHED) and month.downloaded is None


def _row(month: MonthStatus, name: str) -> tuple[str, ...]:
    published = {True: "yes", False: "no", None: "?"}[month.published]
    tasks = ", ".join(month.failed)
    state = {State.FAILED: f"{month.state} ({tasks})", State.LOADED_FAILED: f"{month.state} in {tasks}"}.get(
        month.state, str(month.state)
    )
    return (
        month.fleet,
        name,
        state,
        str(month.published_on or published),
        naturalsize(month.downloaded) if month.downloaded is not None else "-",
        f"{month.load.loaded_at:%Y-%m-%d %H:%M}" if month.load else "-",
        month.edition or "-",
        f"{month.load.rows_loaded:,}" if month.load else "-",
        age_in_words(month.age) if month.age is not None else "-",
    )


def age_in_words(age: timedelta) -> str:
    """An age in the largest unit that fits at least twice, such as "3 days"."""
    minutes = max(0, int(age.total_seconds() // 60))
    for unit, size in (("year", 525_960), ("month", 43_830), ("day", 1440), ("hour", 60)):
        if minutes >= 2 * size:
            return _counted(minutes // size, unit)
    return _counted(minutes, "minute")


def sentences(months: Sequence[MonthStatus], command: str) -> list[str]:
    """For each fleet, sentences about its loaded months, gaps, failures and new editions, with the commands to run.

    Args:
        months: the statuses of one or more fleets, as `fleet_status` returns them.
        command: the command that loads months when FLEET, FROM and TO are appended.
    """
    fleets = itertools.groupby(months, lambda month: month.fleet)
    return [line for _, group in fleets for line in _fleet_sentences(list(group), command)]


def _fleet_sentences(months: Sequence[MonthStatus], command: str) -> Iterator[str]:
    fleet, loaded = months[0].fleet, [month.month for month in months if month.load]
    yield f"{fleet}: {_summary([month for month in months if month.load])}."
    for group in _grouped(months, lambda month: (month.state, month.failed, month.load is None)):
        first, last, state = group[0].month, group[-1].month, group[0].state
        span = first if first == last else f"{first} to {last}"
        is_are, them = ("is", "it") if first == last else ("are", "them")
        again = f"`{command} FLEET={fleet} FROM={first} TO={last}`"
        gap = _gap(first, last, loaded) if group[0].load is None else ""
        fix = f"fix the cause given in the task's log, then run {again}"
        if state is State.MISSING:
            yield f"{fleet}: {span} {is_are} {gap or 'published but not loaded'}; {again} loads {them}."
        elif state is State.NOT_PUBLISHED and gap:
            yield f"{fleet}: {span} {is_are} {gap}: the TLC's site does not have {them}."
        elif state is State.FAILED:
            gap = f" and {is_are} {gap}" if gap else ""
            yield f"{fleet}: {span} failed in {', '.join(group[0].failed)}{gap}; {fix}."
        elif state is State.LOADED_FAILED:
            its_run = "its last run" if first == last else "their last runs"
            yield f"{fleet}: {span} {is_are} loaded, but {its_run} failed in {', '.join(group[0].failed)}; {fix}."
        elif state is State.LOADED_CANCELLED:
            its_run = "its last run was" if first == last else "their last runs were"
            yield f"{fleet}: {span} {is_are} loaded, and {its_run} cancelled; {again} runs {them} again."
        elif state is State.NOT_LOADED_CANCELLED:
            its_run = "its last run was" if first == last else "their last runs were"
            yield f"{fleet}: {span} {is_are} {gap or 'not loaded'}: {its_run} cancelled; {again} loads {them}."
        elif state is State.NEW_EDITION:
            yield f"{fleet}: raw/ has a newer edition of {span} than the warehouse; {again} loads it."
    yield from _unknown_columns(months)


def _unknown_columns(months: Sequence[MonthStatus]) -> Iterator[str]:
    """A sentence for each set of columns that were not loaded because the catalogue does not know them."""
    by_columns: dict[tuple[str, ...], list[str]] = {}
    for month in months:
        if month.load and month.load.unknown_columns:
            by_columns.setdefault(month.load.unknown_columns, []).append(month.month)
    for columns, names in by_columns.items():
        span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({_counted(len(names), 'month')})"
        them = "it" if len(columns) == 1 else "them"
        yield (
            f"{months[0].fleet}: the files of {span} have {_counted(len(columns), 'column')} that the warehouse leaves "
            f"out: {', '.join(columns)}; add {them} to include/nyc_taxi/catalogue/fleets.py, "
            "then load these months again."
        )


def _summary(loaded: Sequence[MonthStatus]) -> str:
    """How many months are loaded, which, and when the last one was."""
    if not loaded:
        return "nothing is loaded yet"
    names = [month.month for month in loaded]
    wanted = len(month_range(names[0], names[-1]))
    span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    latest = min(month.age for month in loaded if month.age is not None)
    what = (
        f"{len(names)} of {wanted} months loaded from {span}"
        if len(names) < wanted
        else f"{_counted(wanted, 'month')} loaded, {span}"
    )
    return f"{what}; last load {age_in_words(latest)} ago"


def _gap(first: str, last: str, loaded: Sequence[str]) -> str:
    """Where the months from `first` to `last` leave a gap between loaded months; empty if no later month is loaded.

    Args:
        loaded: in order.
    """
    before, after = bisect_left(loaded, first), bisect_right(loaded, last)
    if after == len(loaded):
        return ""
    return f"missing between {loaded[before - 1]} and {loaded[after]}" if before else f"missing before {loaded[after]}"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _grouped(months: Iterable[MonthStatus], key: Callable[[MonthStatus], object]) -> Iterator[list[MonthStatus]]:
    """Consecutive months with the same `key`."""
    for _, alike in itertools.groupby(months, key):
        group: list[MonthStatus] = []
        for month in alike:
            if group and Month(group[-1].month).next != month.month:
                yield group
                group = []
            group.append(month)
        yield group
