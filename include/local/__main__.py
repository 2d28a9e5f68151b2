"""The commands behind the Makefile, which sets Airflow's configuration in the environment."""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from include.local import component
from include.local.console import complain
from include.local.errors import WRONG_USE, CommandError, explained
from include.local.processes import SIGNALS, interrupt_once
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.errors import SettingError
from include.nyc_taxi.months import month_range

NEEDLESS_WARNINGS = ("cosmos.operators.local", "airflow.sdk._shared.configuration.parser")
"""Loggers that warn whenever cosmos is imported: OpenLineage's provider, which is optional, is not there."""

app = typer.Typer(help=__doc__, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

YesOrNo = Literal["yes", "no"]
WhichRuns = Literal["completed", "failed", "none"]
Fleet = Annotated[str, typer.Option(help=f"one of {', '.join(catalogue.FLEETS)}")]
Month = Annotated[str, typer.Option(metavar="YYYY-MM")]
First = Annotated[str, typer.Option("--from", metavar="YYYY-MM")]
Last = Annotated[str, typer.Option("--to", metavar="YYYY-MM")]
Reprocess = Annotated[WhichRuns, typer.Option(help="which existing runs to repeat: all, failed ones, or none")]
Wait = Annotated[YesOrNo, typer.Option(help="if another backfill is running, wait for it, or stop at once")]
Connection = Annotated[str, typer.Option(metavar="CONNECTION", help="an Airflow connection: TO= of make migrate")]


@app.command("backfill-marts", help="Run the DAG that builds the marts of these months.")
@app.command("backfill-weeks", help="Run the weeks that lie entirely in the months.")
@app.command("demo", help="Run months on a simulated TLC.")
@app.command("backfill", help="Run months on the TLC's files.")
def backfill(
    context: typer.Context,
    fleet: Fleet,
    first: First,
    last: Last,
    reprocess: Reprocess = "completed",
    wait: Wait = "yes",
) -> int:
    catalogue.file_name(fleet, month_range(first, last)[0])
    if fleet not in settings.fleets():  # then there would be no DAG for it
        os.environ["NYC_TAXI_FLEETS"] = ",".join([*settings.fleets(), fleet])
    settings.data_dir().mkdir(parents=True, exist_ok=True)
    return _run("backfill", context.info_name, fleet, first, last, reprocess, wait=wait == "yes")


@app.command()
def standalone(port: Annotated[str, typer.Option()], *, simulate: bool = False) -> int:
    """Run Airflow with its web UI, on a simulated TLC if asked to."""
    if not port.isdecimal() or not 1024 <= int(port) <= 65_535:
        raise SettingError(f"expected PORT= and a number from 1024 to 65535, found {port!r}")
    return _run("standalone", int(port), simulate=simulate)


@app.command()
def docs() -> int:
    """Write the generated pages in docs/reference."""
    return _run("docs", settings.PROJECT_ROOT)


@app.command()
def status(fleet: Fleet | None = None) -> int:
    """Show how fresh the warehouse is, by fleet and month; without a fleet, of all fleets that have DAGs."""
    return _run("status", settings.fleets() if fleet is None else [fleet])


@app.command()
def quality(fleet: Fleet, month: Month) -> int:
    """Show what the audit of a month found."""
    return _run("quality", fleet, month)


@app.command()
def compact() -> int:
    """Reclaim the disk space that replaced months have left behind in the warehouse."""
    return _run("compact")


@app.command()
def set_up() -> int:
    """Create or upgrade Airflow's metadata database, and create the pools."""
    return _run("set_up")


@app.command()
def pool() -> int:
    """Create the pools of tasks that open the warehouse and of tasks that run dbt."""
    return _run("pool")


@app.command()
def migrate(to: Connection) -> int:
    """Copy the warehouse from a DuckDB file into a lake, or back."""
    return _run("migrate", to)


@app.command()
def dbt(
    arguments: Annotated[list[str] | None, typer.Argument(help="of dbt, such as build --select daily_trips")] = None,
    fleet: Fleet | None = None,
    first: Annotated[str | None, typer.Option("--from", metavar="YYYY-MM")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM")] = None,
) -> int:
    """Run dbt on the warehouse; without arguments, build what is missing in the marts."""
    return _run("dbt", arguments or ["build"], fleet, first, last)


@app.command()
def dbt_backfill(first: First, last: Last, fleet: Fleet | None = None) -> int:
    """Build the marts of a range of months in one dbt process; without a fleet, of all fleets."""
    return _run("dbt_backfill", fleet, first, last)


@app.command()
def dbt_docs() -> int:
    """Write dbt's documentation as one HTML page."""
    return _run("dbt_docs")


@app.command()
def dbt_manifest() -> int:
    """Write include/dbt/manifest.json, the list of models from which Airflow makes tasks."""
    return _run("dbt_manifest")


def _run(command: str, *arguments: Any, **options: Any) -> int:
    """Run a command's module, which imports Airflow: hooks then do not log each step, but what is started does.

    From then on `warehouse_hook` can be imported: Airflow puts the plugins folder on the path.
    """
    name = "AIRFLOW__LOGGING__LOGGING_LEVEL"
    chosen = os.environ.get(name)
    os.environ.setdefault(name, "WARNING")
    try:
        import airflow  # noqa: F401

        module = importlib.import_module(f"include.local.{command}")
    finally:
        if chosen is None:
            del os.environ[name]
    for logger in NEEDLESS_WARNINGS:
        logging.getLogger(logger).setLevel(logging.ERROR)
    return int(module.run(*arguments, **options))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0 done, 1 failed, 2 wrong argument or setting, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for number in SIGNALS:  # stop what was started, also on SIGTERM, or when the terminal is closed
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background, or under nohup
            signal.signal(number, interrupt_once)
    try:
        settings.check()
        return int(app(arguments, prog_name="python -m include.local", standalone_mode=False))
    except typer.TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        as_make_knows_them = re.sub(r"'--(\w+)'", lambda option: f"{option[1].upper()}=", message)
        failure = CommandError(as_make_knows_them, WRONG_USE)
    except Exception as error:
        found = explained(error)
        if found is None:
            raise
        failure = found
    complain(f"make {arguments[0] if arguments else '…'}: {failure}")
    return failure.status


if __name__ == "__main__":
    component.collect_seldom()
    sys.exit(main())
