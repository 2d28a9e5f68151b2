"""What tests of commands share."""

import signal

import pytest
from rich.console import Console

from include.local import console
from tests.dags.conftest import dag_bag, metadata_database, no_pauses, simulator  # noqa: F401


@pytest.fixture(autouse=True)
def own_signals():
    """Commands set signal handlers; this process gets its own back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def in_terminal(monkeypatch):
    """As if the standard output were a colour terminal of 120 columns."""
    monkeypatch.setattr(console, "is_plain", lambda stream=None: False)
    drawn = Console(force_terminal=True, color_system="standard", width=120, highlight=False, markup=False, emoji=False)
    monkeypatch.setattr(console, "terminal", lambda *, error=False: drawn)
    return drawn
