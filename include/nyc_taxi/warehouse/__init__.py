"""The warehouse: its tables and views, its transactions, and the differences between a DuckDB file and a lake.

`registry` describes every table and view, `tables` creates them, `transactions` runs transactions, `months` replaces
one month of trips, `lake` opens, writes and maintains a DuckLake, and `compact` and `migrate` copy a whole warehouse.
The longer queries are in `sql/`. It imports the package's basics, the catalogue and, because the views contain them,
the audit's `rules`.
"""

from include.nyc_taxi.warehouse.lake import write
from include.nyc_taxi.warehouse.months import Replacement, replacement
from include.nyc_taxi.warehouse.tables import all_readable, ensure_tables, make_ready, readable, sql
from include.nyc_taxi.warehouse.transactions import reading, transaction

__all__ = [
    "Replacement",
    "all_readable",
    "ensure_tables",
    "make_ready",
    "readable",
    "reading",
    "replacement",
    "sql",
    "transaction",
    "write",
]
