"""Airflow on one machine: what `make demo`, `make backfill` and `make standalone` run, configured by the Makefile."""
