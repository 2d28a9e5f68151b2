"""Tests on a real Postgres and a real Redis, where these are installed."""

import os

import pytest

from tests.cluster.services import APT, missing


def require(*services: str) -> None:
    """Skip the test where one of the services is not installed; in CI, where all have to be, let it fail."""
    absent = [name for name in missing() if name in services]
    if not absent:
        return
    message = f"{' and '.join(absent)} not installed; as root: {APT}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
