"""Airflow's own commands, several in one process: each process would first import Airflow, for seconds."""

END_OF_COMMAND = "== end of a command =="

AIRFLOW_COMMANDS = f"""
import sys
from airflow.__main__ import main

for command in sys.argv[1:]:
    sys.argv[1:] = command.split()
    main()
    print({END_OF_COMMAND!r}, flush=True)
"""
"""A script: it runs what each of its arguments has behind `airflow`."""
