"""Keep DuckDB from importing pandas, which takes one to three seconds in each task: most of what a small month costs.

DuckDB compares every bound value with pandas' null values, and imports pandas for that if it is installed. It has no
setting against it, and suppressing the import once for the whole process does not work:

- While pandas cannot be imported, DuckDB tries again for every value. If `sys.modules` blocked it for good, whatever
  else runs in the process (geopandas, `.df()`) could not import it either; a finder cannot tell who is asking.
- If DuckDB finds a stub once, it keeps the stub's `NaT` and `NA`, and no longer recognizes the real ones as null:
  a bound `NaT` would become the year 1, and an `NA` in a data frame the text "<NA>", without an error.

So the import is blocked only while a statement runs, by the connection itself: see `binding_without_pandas`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """Block the import of pandas for a block or a decorated function, unless pandas has been imported already."""
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # makes an import raise ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules["pandas"]


def binding_without_pandas(con: DuckDBPyConnection) -> DuckDBPyConnection:
    """The connection, whose statements do not import pandas for the values bound to them.

    Results as data frames (`con.execute(…).df()`) import it as usual. A data frame in a local variable cannot be
    queried by its name; `con.register("name", frame)` makes it a table.
    """
    return cast("DuckDBPyConnection", _Connection(con))


class _Connection:
    """A DuckDB connection, except that the methods that take values run without pandas."""

    def __init__(self, con: DuckDBPyConnection) -> None:
        self._con = con
        for name in ("execute", "executemany", "register"):
            setattr(self, name, without_pandas()(getattr(con, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._con, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()
