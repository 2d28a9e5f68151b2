"""Called by the Makefile, which sets Airflow's configuration in the environment."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from include.local.processes import interrupt_once
from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.errors import NycTaxiError, SettingError
from include.nyc_taxi.months import month_range


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("backfill", "run months on the TLC's files"),
        ("backfill-weeks", "run the weeks that lie wholly in the months"),
        ("demo", "run months on a simulated TLC"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--fleet", required=True, help=f"one of {', '.join(catalogue.FLEETS)}")
        command.add_argument("--from", dest="first", required=True, metavar="YYYY-MM")
        command.add_argument("--to", dest="last", required=True, metavar="YYYY-MM")
        command.add_argument(
            "--reprocess",
            choices=("completed", "failed", "none"),
            default="completed",
            help="which run again that have run before: all, those that failed, none",
        )
        command.add_argument(
            "--wait",
            choices=("yes", "no"),
            default="yes",
            help="what to do while another backfill is at work: wait for its end, or stop at once",
        )
    command = commands.add_parser("standalone", help="Airflow with its web UI")
    command.add_argument("--simulate", action="store_true", help="on a simulated TLC")
    command.add_argument("--port", type=_port, required=True)
    commands.add_parser("docs", help="write the generated pages in docs/reference")
    command = commands.add_parser("status", help="how fresh the warehouse is, by fleet and month")
    command.add_argument(
        "--fleet", help=f"one of {', '.join(catalogue.FLEETS)}; all that have DAGs, where none is named"
    )
    command = commands.add_parser("quality", help="what the audit of a month has found")
    command.add_argument("--fleet", required=True, help=f"one of {', '.join(catalogue.FLEETS)}")
    command.add_argument("--month", required=True, metavar="YYYY-MM")
    commands.add_parser("compact", help="give the disk back what replaced months have left in the warehouse")
    commands.add_parser("pool", help="make the pool of tasks that open the warehouse, as the connection asks for it")
    command = commands.add_parser("migrate", help="copy the warehouse from a DuckDB file into a lake, or back")
    command.add_argument("--to", required=True, metavar="CONNECTION", help="an Airflow connection: TO= of make migrate")
    options = parser.parse_args(arguments)
    try:
        settings.check()
        return _run(options)
    except SettingError as error:
        print(f"make {options.command}: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    # End as on Ctrl-C, and stop what was started, also when told to end or when the terminal is closed.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's background, or nohup, has it
            signal.signal(number, interrupt_once)
    if options.command == "standalone":
        from include.local.standalone import standalone

        return standalone(options.port, simulate=options.simulate)
    if options.command == "docs":
        from include.local import docs

        return docs.write(settings.PROJECT_ROOT)
    if options.command == "status":
        with _quiet_hooks():
            from include.local import status

        return status.show(settings.fleets() if options.fleet is None else [options.fleet])
    if options.command == "quality":
        with _quiet_hooks():
            from include.local import quality

        return quality.show(options.fleet, options.month)
    if options.command == "compact":
        with _quiet_hooks():
            from include.local import compact

        return compact.run()
    if options.command == "migrate":
        with _quiet_hooks():
            from include.local import migrate

        return migrate.run(options.to)
    if options.command == "pool":
        with _quiet_hooks():
            from include.orchestration import pool

        print(f"pool warehouse: {pool.set_up()} slots")
        return 0
    try:
        months = month_range(options.first, options.last)
        catalogue.file_name(options.fleet, months[0])
    except NycTaxiError as error:
        print(f"make {options.command}: {error}", file=sys.stderr)
        return 2
    _make_dag(options.fleet)
    settings.data_dir().mkdir(parents=True, exist_ok=True)

    with _quiet_hooks():
        from include.local import backfill  # imports Airflow, which takes seconds and the settings above
    from include.local.simulated import simulated_tlc

    with simulated_tlc() if options.command == "demo" else contextlib.nullcontext():
        return backfill.run(
            options.command,
            options.fleet,
            options.first,
            options.last,
            options.reprocess,
            wait=options.wait == "yes",
        )


@contextlib.contextmanager
def _quiet_hooks() -> Iterator[None]:
    """Have Airflow imported, with hooks that do not log each thing they do. What this process starts logs as ever.

    `warehouse_hook` can be imported from then on: Airflow puts the plugins folder on the path.
    """
    name = "AIRFLOW__LOGGING__LOGGING_LEVEL"
    chosen = os.environ.get(name)
    os.environ.setdefault(name, "WARNING")
    try:
        import airflow  # noqa: F401

        yield
    finally:
        if chosen is None:
            del os.environ[name]


def _port(text: str) -> int:
    """A port that a user may listen on."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"expected PORT= and a number from 1024 to 65535, found {text!r}")
    return int(text)


def _make_dag(fleet: str) -> None:
    """Let there be a DAG for the fleet."""
    if fleet not in settings.fleets():
        os.environ["NYC_TAXI_FLEETS"] = ",".join([*settings.fleets(), fleet])


if __name__ == "__main__":
    sys.exit(main())
