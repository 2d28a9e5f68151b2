"""What the DAG files share. These modules may import Airflow; how data is processed is in `include/nyc_taxi`."""
