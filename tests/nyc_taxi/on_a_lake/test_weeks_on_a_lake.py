"""On a lake: see this folder's conftest.py."""

from tests.nyc_taxi.test_weeks import *  # noqa: F403
