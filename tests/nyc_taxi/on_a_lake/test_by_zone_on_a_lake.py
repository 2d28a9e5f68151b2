"""Run these tests on a lake (see this folder's conftest.py)."""

from tests.nyc_taxi.test_by_zone import *  # noqa: F403
