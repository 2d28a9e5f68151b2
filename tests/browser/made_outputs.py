"""Outputs for the stand-in: files as runs leave them, and requests. What is answered comes from the real back end."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from typing import Any

from include.nyc_taxi import settings
from include.nyc_taxi.months import Month, month_range
from include.nyc_taxi.web import outputs, pages

REQUEST = {"fleet": "green", "borough": "Queens", "start_date": "2023-01-01", "end_date": "2023-01-31"}
NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)


class Links:
    """The addresses of pages of Airflow."""

    def dag(self, dag_id: str) -> str:
        return f"/dags/{dag_id}"

    def run(self, dag_id: str, run_id: str) -> str:
        return f"/dags/{dag_id}/runs/{run_id}"

    def task(self, dag_id: str, run_id: str, task_id: str) -> str:
        return f"/dags/{dag_id}/runs/{run_id}/tasks/{task_id}"

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> str:
        return f"{self.task(dag_id, run_id, task_id)}?try_number={attempt}"


def use_a_folder_of_their_own() -> None:
    """Make outputs in a temporary data directory, and use it from now on."""
    os.environ["NYC_TAXI_DATA_DIR"] = tempfile.mkdtemp()
    make()


def make() -> None:
    """Fill the outputs folder of the data directory: maps of two years, weekly figures, a result of a request."""
    fleet, requests = settings.outputs_dir("green"), settings.outputs_dir("requests")
    for folder in (fleet, requests):
        folder.mkdir(parents=True, exist_ok=True)
    months = month_range(Month("2022-07"), Month("2023-12"))
    by_month = [name for month in months for name in (f"manhattan_map_{month}.png", f"manhattan_stats_{month}.geojson")]
    whole = ["manhattan_map.png", "manhattan_stats.geojson", "trips_by_week.png", "trips_by_week.csv"]
    for name in [*by_month, *whole, "manhattan_map_density_2023-12.png"]:
        (fleet / name).touch()
    (requests / "queens-january.png").touch()
    (requests / "queens-january.csv").write_text(f"{','.join(REQUEST)}\n{','.join(REQUEST.values())}\n")


def answer(folder: str, page: str, *, may: bool, has_runs: bool) -> dict[str, Any] | None:
    """What the back end makes of these files, of a request that has failed, and of one that has a result."""
    runs = [
        outputs.RequestRun("manual__2", "failed", REQUEST | {"borough": "Bronx", "name": "bronx"}, NOW, "ada"),
        outputs.RequestRun("manual__1", "success", REQUEST | {"name": "queens-january"}, NOW, "ada"),
    ]
    why_not = None if may else "You have no right to start runs of this DAG."
    requests = outputs.Requests(runs if has_runs else [], may, why_not)
    return outputs.outputs("/nyc-taxi", pages.everything, folder, page, requests, Links())
