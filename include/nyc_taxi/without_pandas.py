"""Keep what is slow to import out of processes that do not need it."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """Let DuckDB bind parameters without importing pandas; for functions that use no pandas themselves.

    DuckDB compares every bound value with pandas' null, and imports pandas for it where it is installed: one to three
    seconds in each task, most of what a small month costs. Serves as a context manager and as a decorator.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # what an import finds to be not there
    try:
        yield
    finally:
        del sys.modules["pandas"]
