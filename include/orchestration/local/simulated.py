"""A simulated TLC beside Airflow, for the demo."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from include.nyc_taxi import settings


@contextlib.contextmanager
def simulated_tlc() -> Iterator[str]:
    """Serve simulated files on a free port of localhost, and point `NYC_TAXI_TLC_URL` at it; yields the URL."""
    from include.tlc_simulator.server import TlcSimulator

    with TlcSimulator(settings.data_dir() / "simulated-tlc") as simulator:
        os.environ["NYC_TAXI_TLC_URL"] = simulator.url
        print(f"A simulated TLC listens on {simulator.url}", flush=True)
        yield simulator.url
