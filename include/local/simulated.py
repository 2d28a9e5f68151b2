"""A simulated TLC beside Airflow, for the demo."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from include.nyc_taxi import settings
from include.nyc_taxi.months import Month, month_range


@contextlib.contextmanager
def simulated_tlc() -> Iterator[str]:
    """Serve simulated files on localhost, and point `NYC_TAXI_TLC_URL` at it; yields the URL.

    As the true one, it has published what ended two months ago. It listens where it did the last time, if that port is
    free: a file from another address would count as another site's, and be fetched again.
    """
    from include.tlc_simulator.server import TlcSimulator

    folder = settings.data_dir() / "simulated-tlc"
    months = month_range("2009-01", Month.of(datetime.now(UTC)))
    noted = folder / "port"
    port = int(noted.read_text()) if noted.exists() else 0
    if port and not _is_free(port):
        port = 0
    with TlcSimulator(folder, port=port, last_month=months[-3]) as simulator:
        folder.mkdir(parents=True, exist_ok=True)
        noted.write_text(str(urlsplit(simulator.url).port))
        os.environ["NYC_TAXI_TLC_URL"] = simulator.url
        print(f"A simulated TLC listens on {simulator.url}", flush=True)
        yield simulator.url


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
