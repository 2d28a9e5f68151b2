"""On a lake: see this folder's conftest.py."""

from tests.nyc_taxi.test_aggregate import *  # noqa: F403
