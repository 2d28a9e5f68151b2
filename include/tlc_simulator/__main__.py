"""The simulator as a command: `python -m include.tlc_simulator --help`."""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import NycTaxiError
from include.nyc_taxi.files import replacing
from include.nyc_taxi.months import Month
from include.tlc_simulator.city import ZONES_LAYOUTS
from include.tlc_simulator.faults import FAULT_HELP, FaultRule, parse_fault
from include.tlc_simulator.server import TlcSimulator


class _Parser(argparse.ArgumentParser):
    """Reports an error in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit status, which is 2 for invalid arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (NycTaxiError, ValueError, OSError, NotImplementedError) as error:
        print(f"{parser.prog} {options.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tlc_simulator",
        description="A simulated site of the New York City Taxi & Limousine Commission (TLC) on localhost.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="print the URL, and serve the site until SIGTERM or SIGINT")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1; use 0.0.0.0 only in a container)"
    )
    serve.add_argument("--port", type=_number(0, 65535), default=0, help="port to listen on (default: any free port)")
    serve.add_argument("--folder", type=Path, help="folder for generated files (default: a temporary folder)")
    serve.add_argument("--first-month", type=_month, default="2009-01", metavar="YYYY-MM", help="first published month")
    serve.add_argument("--last-month", type=_month, default="2024-05", metavar="YYYY-MM", help="last published month")
    serve.add_argument("--serve-folder", type=Path, help="serve the files in this folder, laid out like the site")
    serve.add_argument("--fault", type=_fault, action="append", default=[], metavar="SPEC", help=FAULT_HELP)
    serve.add_argument("--url-file", type=Path, help="file that contains the URL while the simulator listens")
    serve.add_argument("--verbose", action="store_true", help="print a line on stderr for each request")
    serve.set_defaults(run=_serve)

    make = commands.add_parser("make", help="write the Parquet file of one month")
    make.add_argument("--fleet", choices=catalogue.FLEETS, default="yellow")
    make.add_argument("--month", type=_month, required=True, metavar="YYYY-MM")
    make.add_argument("--edition", type=_number(1), default=1, help="2 or more: a republished, changed month")
    make.add_argument("out", type=Path, metavar="OUT")
    make.set_defaults(run=_make)

    for command in (serve, make):
        command.add_argument("--rows", type=_number(0), help="rows per month (default: a few thousand)")
        command.add_argument("--seed", type=int, default=1, help="seed of the random trips (default: 1)")

    city = commands.add_parser("city", help="write the zone lookup and the zone shapes into a folder")
    city.add_argument("folder", type=Path, metavar="FOLDER")
    city.set_defaults(run=_city)

    for command in (serve, city):
        command.add_argument(
            "--zones-layout",
            choices=ZONES_LAYOUTS,
            default=ZONES_LAYOUTS[0],
            help="layout of the zone files: 2026, which the TLC has used since February 2026 (default), or 2023",
        )
    return parser


def _number(least: int, most: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            span = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {span}")
        return int(text)

    return read


def _month(text: str) -> str:
    try:
        Month(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _fault(text: str) -> FaultRule:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _serve(options: argparse.Namespace) -> None:
    if options.serve_folder is not None and not options.serve_folder.is_dir():
        raise NotADirectoryError(f"--serve-folder {options.serve_folder} is not a folder")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ExitStack() as stack:
        folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="tlc-simulator-"))
        simulator = TlcSimulator(
            folder,
            host=options.host,
            port=options.port,
            rows=options.rows,
            seed=options.seed,
            first_month=options.first_month,
            last_month=options.last_month,
            serve_folder=options.serve_folder,
            zones_layout=options.zones_layout,
            verbose=options.verbose,
        )
        for rule in options.fault:
            simulator.add_fault_rule(rule)
        stack.enter_context(simulator)
        if options.url_file:
            with replacing(options.url_file) as temporary:
                temporary.write_text(simulator.url + "\n")
            stack.callback(options.url_file.unlink, missing_ok=True)
        print(simulator.url, flush=True)  # last: whoever reads this line finds everything in place
        stopping.wait()


def _make(options: argparse.Namespace) -> None:
    from include.tlc_simulator.trips import write_month

    write_month(
        options.out, options.fleet, options.month, rows=options.rows, seed=options.seed, edition=options.edition
    )
    print(options.out)


def _city(options: argparse.Namespace) -> None:
    from include.tlc_simulator.city import write_lookup, write_shapes

    lookup, shapes = (
        options.folder / Path(path).name for path in (catalogue.ZONE_LOOKUP_PATH, catalogue.ZONE_SHAPES_PATH)
    )
    write_lookup(lookup)
    write_shapes(shapes, options.zones_layout)
    print(lookup, shapes, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
