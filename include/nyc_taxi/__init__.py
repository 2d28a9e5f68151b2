"""What is done: plain Python on fleets, months, paths and a DuckDB connection. Knows nothing of Airflow."""
