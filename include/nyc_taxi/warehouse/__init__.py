"""The warehouse: its tables and views, transactions, and what is different where it is a lake.

`registry` describes every table and view, `tables` creates them, `transactions` writes to them, `months` replaces one
month of trips, `lake` has everything that concerns a DuckLake, and `compact` and `migrate` copy a whole warehouse. The
longer queries are in `sql/`. It imports the package's basics, the catalogue and the audit's rules: the views contain
them.
"""

from include.nyc_taxi.warehouse.months import Replacement, replacement
from include.nyc_taxi.warehouse.tables import ensure_tables, make_ready, readable, sql
from include.nyc_taxi.warehouse.transactions import reading, transaction, write

__all__ = [
    "Replacement",
    "ensure_tables",
    "make_ready",
    "readable",
    "reading",
    "replacement",
    "sql",
    "transaction",
    "write",
]
