"""A stand-in for Airflow's web server: it serves the page's own files, and answers as the page's routes and Airflow do.

The answers have the shape of the real ones. A test changes `state` to what it needs, and reads from `asked` what the
browser has sent. To look at the page by hand: `python -m tests.browser.standin 8090`.
"""

from __future__ import annotations

import calendar
import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from include.nyc_taxi import catalogue
from include.nyc_taxi.web.grid import grid

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "plugins" / "warehouse_page"
RECORDED = Path(__file__).with_name("recorded")
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
FLEETS = {name: (fleet.title, fleet.first_month) for name, fleet in catalogue.FLEETS.items()}
LAST = "2026-11"


def months_between(first: str, last: str) -> list[str]:
    """All months from the first to the last."""
    numbers = [int(month[:4]) * 12 + int(month[5:]) - 1 for month in (first, last)]
    return [f"{number // 12}-{number % 12 + 1:02}" for number in range(numbers[0], numbers[1] + 1)]


@dataclass
class State:
    """What the stand-in answers. The defaults are a signed-in operator of Airflow 3 whose DAGs are not paused."""

    airflow: int = 3
    may: bool = True
    paused: bool = False
    has_snapshot: bool = True
    broken: bool = False
    has_runs: bool = True
    cannot_backfill: bool = False
    states: dict[tuple[str, str], str] = field(default_factory=dict)
    backfills: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    accepted: set[tuple[str, str]] = field(default_factory=set)
    run_state: str = "success"
    cannot_run: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def state_of(self, fleet: str, month: str) -> str:
        """The state of a month: what the test says, or a warehouse in everyday use."""
        known = {
            "2023-04": "loaded_with_warnings",
            "2023-06": "refused",
            "2024-02": "failed",
            "2024-03": "newer_edition",
            "2022-05": "withdrawn",
            "2026-07": "downloaded",
        }
        usual = "not_published" if month >= "2026-10" else "published" if month >= "2026-08" else "loaded"
        return self.states.get((fleet, month)) or (known.get(month, usual) if fleet == "green" else usual)

    @property
    def is_busy(self) -> bool:
        return bool({"queued", "running"} & set(self.states.values()))

    def grid(self) -> dict[str, Any]:
        fleets = []
        for name, (title, first) in FLEETS.items():
            months = []
            for month in months_between(first, LAST):
                state = self.state_of(name, month)
                loaded = state in ("loaded", "loaded_with_warnings", "newer_edition", "refused", "withdrawn")
                months.append(
                    {
                        "month": month,
                        "state": state,
                        "rows": 68211 if loaded else None,
                        "warnings": int(state == "loaded_with_warnings"),
                        "loaded_at": "2026-11-20T10:00:00+00:00" if loaded else None,
                        "edition": '"abc"',
                        "run_id": f"scheduled__{month}",
                        "failed": ["load"] if state == "failed" else [],
                        "note": None,
                    }
                )
            counts: dict[str, int] = {}
            for each in months:
                counts[each["state"]] = counts.get(each["state"], 0) + 1
            weeks = [
                {"monday": f"2023-01-{day:02}", "state": state, "trips": 15000}
                for day, state in ((2, "counted"), (9, "counted"), (16, "failed"), (23, "running"), (30, "not counted"))
            ]
            fleets.append(
                {
                    "name": name,
                    "title": title,
                    "dag_id": f"taxi_trips_{name}",
                    "first_month": first,
                    "is_paused": self.paused,
                    "may_trigger": self.may,
                    "why_not": None if self.may else "You have no right to start runs of this DAG.",
                    "has_backfill": name == "green" and bool(self.backfills),
                    "months": months,
                    "counts": counts,
                    "weeks": weeks,
                    "weeks_dag_id": f"trips_by_week_{name}",
                }
            )
        snapshot = {
            "written_at": "2026-11-27T09:55:00+00:00",
            "kind": "file",
            "place": "/srv/nyc_taxi/warehouse.duckdb",
        }
        return {
            "now": "2026-11-27T10:00:00+00:00",
            "snapshot": snapshot if self.has_snapshot else None,
            "hint": None if self.has_snapshot else "make demo",
            "is_busy": self.is_busy,
            "states": grid([], None, {}, datetime.now(UTC))["states"],
            "fleets": fleets,
        }

    def month(self, fleet: str, month: str) -> dict[str, Any]:
        state = self.state_of(fleet, month)
        year, number = int(month[:4]), int(month[5:])
        before = months_between(f"{year - 2}-{number:02}", month)
        history = [
            {
                "month": each,
                "rows": 60000 + 997 * (at * 7 % 13),
                "bytes": 1_400_000 + 9000 * at,
                "seconds": {"download": 1.5, "load": 3 + at % 4, "aggregate": 0.8, "map": 2.2},
                "warnings": at % 3,
            }
            for at, each in enumerate(before)
        ]
        zones = sorted(
            (zone["properties"] for zone in json.loads((RECORDED / "stats.geojson").read_text())["features"]),
            key=lambda zone: -zone["num_trips"],
        )
        failed = (
            [{"task_id": "load", "try": 2, "log_url": f"/dags/taxi_trips_{fleet}/runs/scheduled__{month}/tasks/load"}]
            if state == "failed"
            else []
        )
        checks = [
            {
                "rule": "rows_against_year_before",
                "severity": "error",
                "value": 0.31,
                "limit": 0.5,
                "unit": "share",
                "passed": state != "refused",
                "accepted": False,
                "detail": "68,211 rows; 220,000 a year before",
                "reason": "A file with so few rows is usually incomplete.",
            },
            {
                "rule": "long_trips",
                "severity": "warn",
                "value": 1.2,
                "limit": 1,
                "unit": "%",
                "passed": state != "loaded_with_warnings",
                "accepted": False,
                "detail": "818 trips over 100 miles",
                "reason": "Such distances are almost always entry errors.",
            },
            {
                "rule": "zones_known",
                "severity": "error",
                "value": 0,
                "limit": 0,
                "unit": "rows",
                "passed": True,
                "accepted": False,
                "detail": "every zone is known",
                "reason": "Trips without a zone are on no map.",
            },
        ]
        refused = [checks[0]] if state == "refused" else []
        checks = [check | {"passed": True} if check in refused else check for check in checks]
        # As in a snapshot, a rule that passes has no detail.
        checks = [check | {"detail": None} if check["passed"] else check for check in checks]
        picture = f"/nyc-taxi/files/{fleet}/manhattan_map_{month}.png"
        return {
            "fleet": fleet,
            "title": f"{FLEETS[fleet][0]}, {calendar.month_name[number]} {year}",
            "month": month,
            "state": state,
            "note": "The edition that was loaded before is kept." if state == "refused" else None,
            "previous": before[-2],
            "next": months_between(month, "2027-12")[1],
            "load": {
                "rows": 68211,
                "bytes": 1_427_002,
                "etag": '"63f6a1f4-15c68a"',
                "last_modified": "Thu, 23 Feb 2023 01:12:04 GMT",
                "source_url": f"https://tlc.example/trip-data/{fleet}_tripdata_{month}.parquet",
                "loaded_at": "2026-11-20T10:00:00+00:00",
                "run_id": f"scheduled__{month}",
                "simulated": True,
                "changes": {"rows": [68100, 68211]},
                "unknown_columns": ["cbd_congestion_fee"] if state == "loaded_with_warnings" else [],
            },
            "refusal": {
                "at": "2026-11-21T10:00:00+00:00",
                "run_id": f"scheduled__{month}",
                "rules": refused,
            }
            if state == "refused"
            else None,
            "history": history,
            "checks": checks,
            "stats_url": f"/nyc-taxi/files/{fleet}/manhattan_stats_{month}.geojson",
            "map_url": picture,
            "top_zones": [
                {"zone_id": zone["zone_id"], "zone": zone["zone"], "trips": zone["num_trips"]} for zone in zones[:10]
            ],
            "weeks": [{"monday": f"{month}-02", "trips": 15012, "url": f"/dags/trips_by_week_{fleet}"}],
            "inputs": [
                {"label": "trip records of the TLC", "url": None},
                {"label": "taxi_zones", "url": "/dags/taxi_zones"},
            ],
            "outputs": [
                {
                    "label": f"manhattan_map_{month}.png",
                    "url": f"/nyc-taxi/outputs/{fleet}/manhattan_map_{month}.png",
                    "bytes": 61_440,
                }
            ],
            "runs": [
                {
                    "run_id": f"scheduled__{month}",
                    "accepts": (fleet, month) in self.accepted,
                    "state": {"failed": "failed", "running": "running", "queued": "queued"}.get(state, "success"),
                    "started": "2026-11-20T09:58:00+00:00",
                    "ended": "2026-11-20T10:01:00+00:00",
                    "url": f"/dags/taxi_trips_{fleet}/runs/scheduled__{month}",
                    "failed": failed,
                }
            ],
            "commands": {
                "backfill": f"airflow backfill create --dag-id taxi_trips_{fleet} --from-date {month}-01"
                f" --to-date {month}-01",
                "again": f"airflow backfill create --dag-id taxi_trips_{fleet} --from-date {month}-01"
                f" --to-date {month}-01 --reprocess-behavior completed",
                "failed": f"airflow tasks clear taxi_trips_{fleet} --only-failed -s {month}-01 -e {month}-28 -y",
                "accept": f'airflow dags trigger taxi_trips_{fleet} --conf \'{{"month": "{month}", "accept": true}}\''
                if state == "refused"
                else None,
            },
            "actions": {
                "may": self.may,
                "why_not": None if self.may else "You have no right to start runs of this DAG.",
                "is_paused": self.paused,
            },
        }

    def resource(self) -> dict[str, Any]:
        task = {
            "dag_id": "taxi_trips_green",
            "run_id": "scheduled__2023-01",
            "task_id": "load",
            "url": "/dags/taxi_trips_green/runs/scheduled__2023-01/tasks/load",
        }
        uses = [
            {
                "dag_id": "taxi_trips_green",
                "task_id": name,
                "mode": "write",
                "url": f"/dags/taxi_trips_green/tasks/{name}",
                "program": None,
                "last": [
                    {
                        "run_id": f"scheduled__2023-0{at}",
                        "at": "2026-11-20T10:00:00+00:00",
                        "wait_seconds": 0.2 * at,
                        "hold_seconds": hold + at,
                        "rows": 68211,
                    }
                    for at in (1, 2, 3)
                ],
            }
            for name, hold in (("load", 4.0), ("aggregate", 1.0))
        ]
        return {
            "hint": None,
            "warehouse": {
                "kind": "file",
                "place": "/srv/nyc_taxi/warehouse.duckdb",
                "bytes": 48_234_496,
                "advice": None,
                "duckdb": "1.5.5",
                "settings": [
                    {"name": "lock_timeout", "value": "60 s", "from": "the connection warehouse"},
                    {"name": "memory_limit", "value": "953.6 MiB", "from": "default"},
                ],
                "growth": [
                    {"month": f"2026-{number:02}", "rows": 68_211 * number, "bytes": 4_000_000 * number}
                    for number in range(1, 12)
                ],
                "open_now": [{"pid": 4711, "mode": "write", "task": task, "since": "2026-11-27T09:58:00+00:00"}],
                "open_now_note": "A process on another host is not seen.",
                "waiting": [{"task": task | {"task_id": "aggregate"}, "since": "2026-11-27T09:59:00+00:00"}],
                "uses": uses,
            },
            "tlc": {
                "place": "https://d37ci6vzurychx.cloudfront.net",
                "uses": [
                    {
                        "dag_id": "taxi_trips_green",
                        "task_id": "download",
                        "url": "/dags/taxi_trips_green/tasks/download",
                    }
                ],
                "last": [
                    {
                        "at": "2026-11-20T10:00:00+00:00",
                        "dag_id": "taxi_trips_green",
                        "task_id": "download",
                        "run_id": "scheduled__2023-01",
                        "requests": 2,
                        "bytes": 1_427_002,
                        "refused": 0,
                        "retries": 1,
                    }
                ],
            },
        }

    def outputs(self, folder: str = "", page: str = "") -> dict[str, Any] | None:
        """What the back end makes of the files in the outputs folder, and of two requests."""
        from tests.browser import made_outputs

        return made_outputs.answer(folder, page, may=self.may, has_runs=self.has_runs)

    def rest(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """What Airflow's REST API answers."""
        if path.endswith("/backfills/dry_run"):
            wanted = months_between(body["from_date"][:7], body["to_date"][:7])
            again = body["reprocess_behavior"] == "completed"
            return {
                "backfills": [
                    {"logical_date": f"{month}-01T00:00:00Z"}
                    for month in wanted
                    if again or self.state_of("green", month) in ("failed", "published", "downloaded")
                ]
            }
        if path.endswith("/cancel"):
            self.backfills.clear()
            self.states.clear()
            return {}
        if path.endswith("/backfills"):
            if method == "GET":
                return {
                    "backfills": [each for each in self.backfills if each["dag_id"] == query["dag_id"][0]],
                    "total_entries": len(self.backfills),
                }
            self.backfills.append(body | {"id": 7, "completed_at": None, "created_at": "2026-11-27T10:00:00Z"})
            wanted = months_between(body["from_date"][:7], body["to_date"][:7])
            self.states |= {("green", month): "running" if month == wanted[0] else "queued" for month in wanted}
            self.runs = [
                {"dag_run_id": f"backfill__{month}", "state": "running" if month == wanted[0] else "queued"}
                for month in wanted
            ]
            return self.backfills[-1]
        if path.endswith("/dagRuns") and method == "GET":
            found = [run for run in self.runs if query.get("state", [run["state"]])[0] == run["state"]]
            return {"dag_runs": found, "total_entries": len(found)}
        if "/dagRuns/" in path and method == "GET":
            return {"dag_run_id": path.rpartition("/")[2], "state": self.run_state}
        return {"dag_run_id": "manual__1"}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def __init__(self, state: State, *arguments: Any) -> None:
        self.state = state
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self._respond(None)

    def do_POST(self) -> None:
        self._respond(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"null"))

    do_PUT = do_PATCH = do_POST  # noqa: N815 - http.server's names

    def _respond(self, body: Any) -> None:
        url = urlsplit(self.path)
        place, state = url.path, self.state
        state.asked.append((self.command, place, body))
        if place == "/nyc-taxi/warehouse/":
            return self._page(
                {
                    "base": "/nyc-taxi/warehouse",
                    "airflow": state.airflow,
                    "airflowBase": "",
                    "navigate": None,
                    "csrf": "token" if state.airflow == 2 else None,
                }
            )
        if place.startswith("/nyc-taxi/warehouse/static/"):
            file = FILES / place.rpartition("/")[2]
            return (
                self._send(200, file.read_bytes(), KINDS[file.suffix])
                if file.is_file()
                else self._send(404, b"", "text/plain")
            )
        if place.startswith("/nyc-taxi/warehouse/data/"):
            if state.broken:
                return self._send(500, b'{"detail": "the database is locked"}', "application/json")
            what, *names = place.removeprefix("/nyc-taxi/warehouse/data/").split("/")
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            found = getattr(state, what)(*names, **asked)
            return self._json(found) if found else self._send(404, b'{"detail": "None"}', "application/json")
        if place.startswith("/api/"):
            if self.command != "GET" and not state.may:
                return self._send(403, b'{"detail": "Forbidden"}', "application/json")
            if state.cannot_backfill and self.command == "POST" and place.endswith("/backfills"):
                return self._send(503, b'{"detail": "Database is locked."}', "application/json")
            if self.command == "POST" and place.endswith("/dagRuns") and body["conf"]["month"] == state.cannot_run:
                return self._send(400, b'{"detail": "No more runs today."}', "application/json")
            return self._json(state.rest(self.command, place, parse_qs(url.query), body))
        if place.startswith(("/nyc-taxi/files/", "/nyc-taxi/thumbnails/")):
            name = "map.png" if place.endswith(".png") else "stats.geojson"
            return self._send(200, (RECORDED / name).read_bytes(), KINDS.get(Path(name).suffix, "application/geo+json"))
        if place == "/nyc-taxi/outputs":
            return self._send(200, b"<!DOCTYPE html><main></main>", "text/html; charset=utf-8")
        return self._send(200 if place == "/favicon.ico" else 404, b"", "image/svg+xml")

    def _page(self, env: dict[str, Any]) -> None:
        html = (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
            f'<title>Taxi warehouse</title></head><body><main id="page" data-env="{escape(json.dumps(env))}"></main>'
            '<script type="module" src="/nyc-taxi/warehouse/static/page.js"></script></body></html>'
        )
        self._send(200, html.encode(), "text/html; charset=utf-8")

    def _json(self, values: Any) -> None:
        self._send(200, json.dumps(values).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def serve(state: State, port: int = 0) -> ThreadingHTTPServer:
    """A server on localhost that has not started yet."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, state))


if __name__ == "__main__":
    from tests.browser import made_outputs

    made_outputs.use_a_folder_of_their_own()
    serve(State(), int(sys.argv[1])).serve_forever()
