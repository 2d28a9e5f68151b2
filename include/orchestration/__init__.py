"""What DAG files share. May import Airflow; holds nothing of what is done to the data."""
