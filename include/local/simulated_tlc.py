"""A simulated TLC site beside Airflow, for the demo."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from include.local.console import say
from include.local.stack import port_in_use
from include.nyc_taxi import settings
from include.nyc_taxi.files import replacing
from include.nyc_taxi.months import Month, month_range


@contextlib.contextmanager
def simulated_tlc() -> Iterator[None]:
    """Serve simulated files on localhost, and set `NYC_TAXI_TLC_URL` to the address.

    Like the real site, it has published the months that ended at least two months ago. It uses the same port as the
    last time, if that is free: files from another address count as another site's, and would be fetched again.
    """
    from include.tlc_simulator.server import TlcSimulator

    folder = settings.data_dir() / "simulated-tlc"
    months = month_range("2009-01", Month.of(datetime.now(UTC)))
    noted = folder / "port"
    port = int(noted.read_text()) if noted.exists() else 0
    with TlcSimulator(folder, port=0 if port and port_in_use(port) else port, last_month=months[-3]) as simulator:
        with replacing(noted) as temporary:
            temporary.write_text(str(urlsplit(simulator.url).port))
        os.environ["NYC_TAXI_TLC_URL"] = simulator.url
        say(f"A simulated TLC listens on {simulator.url}")
        yield
