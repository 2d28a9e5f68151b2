"""What Airflow asks for the name of the machine that it runs on: here all machines are one."""

import os

VARIABLE = "NYC_TAXI_MACHINE"


def machine_name() -> str:
    """For Airflow's setting `hostname_callable`."""
    return os.environ[VARIABLE]
