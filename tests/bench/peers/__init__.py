"""`make bench PEERS=1`: this project, a bare script and Dagster do the same twelve months."""
