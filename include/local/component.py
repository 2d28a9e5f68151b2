"""Runs one of Airflow's components, with less of what its start costs: `python -P component.py [URL] scheduler …`.

- A quarter of the start of any component is Python's garbage collector: Airflow makes half a million objects that stay,
  and the collector looks at them again and again, for the last time when the process ends. Here it looks at old
  objects seldom.
- The LocalExecutor's workers are forks of the scheduler, and each task is a fork of a worker. What the scheduler has
  imported, they have; otherwise each task would import it anew. Therefore the scheduler, and the backfill command of
  2.11, first import what tasks import slowly. These are libraries only: tasks import `include` anew, so that a change
  of it is seen by the next task. A module that starts a thread or opens a file or connection when it is imported must
  not be here, because that does not survive a fork. macOS starts tasks as new processes: no gain, no harm.
- All components import at the same time. If a URL comes first, the component waits until that answers, because a task
  that starts before the api-server answers fails, and then until it is told on its standard input to begin.

This file is run by its path, and imports nothing of the project.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import http.client
import importlib
import os
import sys
import time
import urllib.request
from collections.abc import Sequence

OF_TASKS = (
    "jinja2.ext",
    "numpy",
    "shapely.geometry",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "matplotlib.dates",
    "matplotlib.patheffects",
)
"""What the tasks import of libraries, besides what the scheduler imports anyway. Not pyproj: it opens its database."""
OF_SCHEDULER = ("airflow.__main__", "airflow.cli.commands.scheduler_command", "airflow.executors.local_executor")
"""What the scheduler imports by itself."""
START_TASKS = ("scheduler", "dags")
"""The commands of `airflow` that fork tasks."""
ANSWER_SECONDS = 180.0
"""How long to wait until the URL answers."""
FIRST_ANSWER_SECONDS = 10.0
"""How long one request may take. The api-server makes its routes for the first one, which takes 3 s."""


def command(*arguments: str, after: str = "") -> list[str]:
    """The command line that runs `airflow` with these arguments: now, or once the URL `after` answers and it is told.

    It is told on its standard input. If that is closed first, it ends.
    """
    return [sys.executable, "-P", __file__, *([after] if after else []), *arguments]


def collect_seldom() -> None:
    """Look for garbage among all objects after 7 million new ones, not 70,000, and not when the process ends.

    Among young objects it is found as soon as ever: an error that refers to itself may hold a transaction open.
    """
    gc.set_threshold(700, 10, 1000)
    atexit.register(gc.freeze)


def preload(modules: Sequence[str] = OF_TASKS) -> None:
    """Import the modules, without threads. One that is missing or broken is for the task that needs it to report."""
    # OpenBLAS starts its threads when numpy is imported, unless it may have only one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def wait_for(url: str, seconds: float = ANSWER_SECONDS) -> None:
    """Return when the URL, which is on this machine, answers without an error.

    Raises:
        SystemExit: it does not for so many seconds.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # not through a proxy of the environment
    deadline = time.monotonic() + seconds
    while True:
        try:
            opener.open(url, timeout=FIRST_ANSWER_SECONDS).close()
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"{url} did not answer within {seconds:g} s: {error}; see api-server.log") from None
            time.sleep(0.1)
        else:
            return


def wait_until_told() -> None:
    """Return when something has come on the standard input, which is empty from then on.

    Raises:
        SystemExit: it was closed before, because the command that had started this process has ended.
    """
    if not os.read(0, 1):
        raise SystemExit("The command that was to say when to begin has ended")
    with open(os.devnull) as nothing:  # noqa: PTH123 - a builtin is there already
        os.dup2(nothing.fileno(), 0)


def main(arguments: Sequence[str]) -> int | None:
    """Run `airflow` with these arguments, after the URL if one comes first; returns its exit status."""
    collect_seldom()
    url, *rest = arguments if arguments[0].startswith("http://") else ("", *arguments)
    if rest[0] in START_TASKS:
        preload()
    if url:
        preload(OF_SCHEDULER)
        wait_for(url)
        wait_until_told()
    sys.argv = ["airflow", *rest]
    status: int | None = importlib.import_module("airflow.__main__").main()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
