"""Runs one of Airflow's components with the modules that tasks import slowly: `python -P preloaded.py scheduler …`.

The LocalExecutor's workers are forks of the scheduler, and each task is a fork of a worker. What the scheduler has
imported, they have; otherwise each task would import it anew. These are libraries only: tasks import `include` anew, so
that a change of it is seen by the next task. A module that starts a thread or opens a file or connection when it is
imported must not be here, because that does not survive a fork. macOS starts tasks as new processes: no gain, no harm.

This file is run by its path, and imports nothing of the project.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

MODULES = (
    "jinja2.ext",
    "numpy",
    "shapely.geometry",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "matplotlib.dates",
    "matplotlib.patheffects",
)
"""What the tasks import of libraries, besides what the scheduler imports anyway. Not pyproj: it opens its database."""


def command(*arguments: str) -> list[str]:
    """The command line that runs `airflow` with these arguments and the modules."""
    return [sys.executable, "-P", __file__, *arguments]


def preload(modules: Sequence[str] = MODULES) -> None:
    """Import the modules, without threads. One that is missing or broken is for the task that needs it to report."""
    # OpenBLAS starts its threads when numpy is imported, unless it may have only one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def main(arguments: Sequence[str]) -> int | None:
    """Run `airflow` with these arguments; returns its exit status."""
    preload()
    sys.argv = ["airflow", *arguments]
    status: int | None = importlib.import_module("airflow.__main__").main()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
