"""Tests that run dbt's own program. Where it is not installed they are skipped; in CI, which installs it, they fail."""

import os

import pytest

from include.nyc_taxi import settings
from include.nyc_taxi.errors import SettingError


def is_installed() -> bool:
    """Whether the program is here, or must be."""
    try:
        settings.dbt_program()
    except SettingError:
        return bool(os.environ.get("CI"))
    return True


needs_dbt = pytest.mark.skipif(not is_installed(), reason="dbt is not installed; `make dbt-manifest` installs it")
