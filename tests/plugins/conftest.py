"""What tests of plugins share."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SERVERS = ("test_output_pages", "test_warehouse_page")
"""Files whose tests ask one web application, which takes ten seconds and more to be made."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes, one runs all tests of such a file, so that its application is made once."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.stem in SERVERS:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
