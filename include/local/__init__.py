"""The Makefile's commands, one file each, and what they share; `__main__.py` lists them with their options.

They run Airflow on one machine, configured by the Makefile through the environment. This package may import every
other one; no other one imports it.
"""
