"""`make dbt-docs`: dbt's documentation of the tables, columns and their lineage as one HTML page."""

from __future__ import annotations

import shutil

from include.local import dbt
from include.local.console import say
from include.local.processes import home
from include.nyc_taxi import settings
from include.nyc_taxi.files import replacing


def run() -> int:
    """Write `dbt/index.html` in the data directory; returns the exit status."""
    state = home() / "dbt"
    status = dbt.call(["docs", "generate", "--static"], state, dbt.connect(state), quiet=True)
    if status:
        return status
    page = settings.dbt_docs()
    with replacing(page) as file:
        shutil.copyfile(state / "target" / "static_index.html", file)
    say(f"wrote {page}; in the web UI, Outputs on the page Taxi warehouse links to it")
    return 0
