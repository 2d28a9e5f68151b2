"""What Dagster has on record of its runs, as JSON: `<Dagster's Python> -m tests.bench.peers.dagster_records`.

For each month when its run began and ended (epoch), and how many seconds its steps took.
"""

import json

from dagster import DagsterInstance

with DagsterInstance.get() as instance:
    records = instance.get_run_records()
    months = [
        {
            "month": record.dagster_run.tags["dagster/partition"],
            "state": record.dagster_run.status.value,
            "started": record.start_time,
            "ended": record.end_time,
            "busy": sum(
                step.end_time - step.start_time
                for step in instance.get_run_step_stats(record.dagster_run.run_id)
                if step.end_time and step.start_time
            ),
        }
        for record in records
    ]
print(json.dumps(months))
