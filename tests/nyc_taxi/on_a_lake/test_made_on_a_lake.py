"""Run these tests on a lake (see this folder's conftest.py)."""

from tests.nyc_taxi.test_made import *  # noqa: F403
