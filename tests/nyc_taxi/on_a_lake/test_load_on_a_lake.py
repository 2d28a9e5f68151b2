"""Run these tests on a lake (see this folder's conftest.py)."""

from tests.nyc_taxi.test_load import *  # noqa: F403
