"""The warehouse: its tables and views, transactions, and what is different where it is a lake.

`tables` defines and creates the tables and views, `transactions` writes to them, `months` replaces one month of trips,
`lake` is all that concerns a DuckLake, and `compact` and `migrate` rewrite a whole warehouse; the longer queries are in
`sql/`. It imports the package's basics, the catalogue and the audit's rules, which the views contain.
"""

from include.nyc_taxi.warehouse.months import Incoming, incoming
from include.nyc_taxi.warehouse.tables import ensure_tables, make_ready, sql
from include.nyc_taxi.warehouse.transactions import reading, transaction, write

__all__ = ["Incoming", "ensure_tables", "incoming", "make_ready", "reading", "sql", "transaction", "write"]
