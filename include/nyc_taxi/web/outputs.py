"""The data of the page's outputs: maps by month, weekly charts, downloads, and the results of requests.

An answer holds one folder, and of its months one year: 10,000 outputs take no longer to look at than one year's.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from urllib.parse import quote

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.web import grid, pages
from include.nyc_taxi.web.month import Links
from include.nyc_taxi.web.pages import Output

REQUESTS = "requests"
"""The folder with the results of requests."""
REQUESTS_DAG = "adhoc_request"
ALL_FLEETS = "all_fleets"
"""The folder with charts that compare fleets."""
AT_ONCE = 48
"""How many results of requests an answer has, and how many outputs without a month."""
UNFINISHED = 20
"""How many requests without a result an answer has at most."""
ASKED = ("fleet", "borough", "start_date", "end_date")
"""The columns of a result that repeat the request."""


@dataclass(frozen=True)
class RequestRun:
    """A run of the DAG that answers requests.

    Attributes:
        conf: the request as it was sent, which may be wrong.
        asked_at: when the run was made.
        by: the name of the user who started it; None if Airflow does not know.
    """

    run_id: str
    state: str
    conf: Mapping[str, Any]
    asked_at: datetime | None
    by: str | None = None

    @property
    def name(self) -> str:
        """The name of the result; the run's id if the request has none."""
        return str(self.conf.get("name") or self.run_id)


@dataclass(frozen=True)
class Requests:
    """What Airflow knows about requests.

    Attributes:
        runs: the newest runs, the newest first.
        may: whether the user may send a request.
        why_not: the reason why not.
    """

    runs: Sequence[RequestRun]
    may: bool
    why_not: str | None


def makers(path: str) -> frozenset[str]:
    """The ids of the DAGs that make an output, or whose data it shows.

    Empty for an output in a folder that is neither a fleet's nor that of requests: a DAG of the user's own makes it.
    """
    folder, name = path.partition("/")[0], path.rpartition("/")[2]
    if "/" not in path:
        return frozenset()
    if folder == ALL_FLEETS:
        return frozenset(marts_dag_id(fleet) for fleet in catalogue.FLEETS)
    if folder == REQUESTS:
        return frozenset({REQUESTS_DAG})
    if folder not in catalogue.FLEETS:
        return frozenset()
    months, weeks = grid.months_dag_id(folder), grid.weeks_dag_id(folder)
    if name.startswith("trips_at_airports_"):
        return frozenset({marts_dag_id(folder)})
    return frozenset({months} if name.startswith("manhattan_") else {months, weeks})


def marts_dag_id(fleet: str) -> str:
    """The DAG that builds the fleet's marts and draws their charts."""
    return f"trips_marts_{fleet}"


def dag_ids() -> frozenset[str]:
    """All DAGs that `makers` names, also those of fleets that have no DAGs here any more."""
    named = (grid.months_dag_id, grid.weeks_dag_id, marts_dag_id)
    fleets = (name(fleet) for fleet in catalogue.FLEETS for name in named)
    return frozenset({*fleets, REQUESTS_DAG})


def visible(readable: Collection[str]) -> pages.MaySee:
    """Which outputs a user sees who may read these DAGs: those of one of them, and those that no known DAG makes."""

    def may_see(path: str) -> bool:
        made_by = makers(path)
        return not made_by or not made_by.isdisjoint(readable)

    return may_see


def outputs(
    base: str, may_see: pages.MaySee, folder: str, page: str, requests: Requests | None, links: Links
) -> dict[str, Any] | None:
    """Make the JSON of the outputs.

    Args:
        base: the path before `/outputs` and `/files` in addresses.
        folder: the folder to show, relative to the outputs folder. If it is empty, the first one is shown.
        page: the year to show, or for results of requests the number of the page. If there is no such page, the first
            one, which is the newest, is shown.
        requests: None if the user may not read their DAG.

    Returns:
        None if there is no such folder, or if the user may not see it.
    """
    folders = sorted(
        {*pages.list_folders(may_see), *([REQUESTS] if requests and (requests.may or requests.runs) else [])},
        key=_place,
    )
    made: dict[str, Any] = {
        "folders": [{"name": name or ".", "title": pages.folder_title(name)} for name in folders],
        "folder": None,
        "title": None,
        "pages": [],
        "page": None,
        "whole": [],
        "more": 0,
        "months": [],
        "requests": None,
        "dbt_docs": f"{base}/dbt" if settings.dbt_docs().is_file() else None,
    }
    if not folder and not folders:
        return made
    shown = folders[0] if not folder else "" if folder == "." else folder
    if shown not in folders:
        return None
    seen = [output for output in pages.list_outputs(shown) if may_see(output.path)]
    made |= {"folder": shown or ".", "title": pages.folder_title(shown)}
    if shown == REQUESTS:
        return made | _requests(base, _together(seen), page, requests, links)
    return made | _months(base, _together(seen), page)


def _place(folder: str) -> tuple[int, str]:
    """Fleets stand in the catalogue's order, then the results of requests, then all others."""
    fleets = [*catalogue.FLEETS, REQUESTS]
    return (fleets.index(folder), "") if folder in fleets else (len(fleets), folder)


def _together(seen: Iterable[Output]) -> list[list[Output]]:
    """Outputs with the same figures, the picture first. The newest group is the first."""
    return sorted(pages.groups(seen), key=lambda group: (max(output.made_at for output in group), group[0].path))[::-1]


def _months(base: str, together: Sequence[Sequence[Output]], page: str) -> dict[str, Any]:
    by_month = sorted((group for group in together if group[0].month), key=lambda group: group[0].month, reverse=True)
    years = {
        year: list(groups) for year, groups in groupby(by_month, key=lambda group: group[0].month.partition("-")[0])
    }
    chosen = page if page in years else next(iter(years), None)
    whole = [group for group in together if not group[0].month]
    return {
        "pages": [{"name": year, "title": year} for year in years],
        "page": chosen,
        "whole": [_as_json(base, group) for group in whole[:AT_ONCE]],
        "more": max(0, len(whole) - AT_ONCE),
        "months": [
            {"month": month, "outputs": [_as_json(base, group) for group in sorted(groups, key=_name)]}
            for month, groups in groupby(years.get(chosen or "", []), key=lambda group: group[0].month)
        ],
    }


def _name(group: Sequence[Output]) -> str:
    return group[0].name


def _requests(
    base: str, together: Sequence[Sequence[Output]], page: str, requests: Requests | None, links: Links
) -> dict[str, Any]:
    count = max(1, -(-len(together) // AT_ONCE))
    number = int(page) if page.isdecimal() and page.isascii() and 1 <= int(page[:9]) <= count else 1
    runs = requests.runs if requests else []
    newest: dict[str, RequestRun] = {}
    answered: dict[str, RequestRun] = {}
    for run in runs:
        newest.setdefault(run.name, run)  # a request replaces an earlier one with the same name
        if run.state == "success":
            answered.setdefault(run.name, run)
    unfinished = [run for run in newest.values() if run.state != "success"]
    results = [
        _as_json(base, group)
        | {
            "request": asked(group),
            "run": _run(answered[group[0].title], links) if group[0].title in answered else None,
        }
        for group in together[(number - 1) * AT_ONCE : number * AT_ONCE]
    ]
    return {
        "pages": [{"name": str(at), "title": f"page {at}"} for at in range(1, count + 1)] if count > 1 else [],
        "page": str(number),
        "requests": {
            "dag_url": links.dag(REQUESTS_DAG) if requests else None,
            "may": bool(requests and requests.may),
            "why_not": requests.why_not if requests else None,
            "unfinished": [
                {"name": run.name, "state": run.state, "request": _of_conf(run.conf)} | _run(run, links)
                for run in unfinished[: UNFINISHED if number == 1 else 0]
            ],
            "results": results,
        },
    }


def _run(run: RequestRun, links: Links) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "url": links.run(REQUESTS_DAG, run.run_id),
        "asked_at": run.asked_at and run.asked_at.isoformat(),
        "by": run.by,
    }


def _of_conf(conf: Mapping[str, Any]) -> dict[str, str] | None:
    """The request of a run; None if the run has another configuration."""
    return {name: str(conf[name])[:80] for name in ASKED} if all(conf.get(name) for name in ASKED) else None


def asked(group: Iterable[Output]) -> dict[str, str] | None:
    """The request that a result answers, from the first row of its CSV file; None if there is no such file."""
    for output in group:
        opened = pages.open_output(output.path) if output.suffix == ".csv" else None
        if opened is None:
            continue
        try:
            with io.TextIOWrapper(opened, encoding="utf-8", newline="") as file:
                row = next(csv.DictReader(iter(lambda: file.readline(pages.CELL_CHARACTERS), "")), {})
        except (OSError, ValueError, csv.Error):
            continue
        return _of_conf(row)
    return None


def _as_json(base: str, group: Sequence[Output]) -> dict[str, Any]:
    first = group[0]
    picture = first if first.is_picture else None
    return {
        "title": first.title,
        "month": first.month or None,
        "url": f"{base}/outputs/{quote(first.path)}",
        "thumbnail": picture and f"{base}/thumbnails/{quote(picture.path)}?v={picture.version}",
        "made_at": max(output.made_at for output in group).isoformat(),
        "files": [
            {
                "name": output.name,
                "label": _label(output),
                "url": f"{base}/files/{quote(output.path)}",
                "bytes": output.bytes,
            }
            for output in group
        ],
    }


def _label(output: Output) -> str:
    kind = {".png": "PNG", ".csv": "CSV", ".geojson": "GeoJSON"}[output.suffix]
    return f"{kind} per km²" if "_density" in output.name else kind
