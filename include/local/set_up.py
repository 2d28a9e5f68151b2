"""`make setup`: Airflow's metadata database and the pools, in one process, because each imports Airflow for seconds."""

from __future__ import annotations

import sys

from airflow import __main__ as airflow

from include.local import pool


def run() -> int:
    """Do what `airflow db migrate` does, then create the pools; returns the exit status."""
    sys.argv = ["airflow", "db", "migrate"]
    airflow.main()  # type: ignore[no-untyped-call]
    return pool.run()
