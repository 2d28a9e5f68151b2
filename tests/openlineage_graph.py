"""The graph that Marquez would draw from OpenLineage events, as Mermaid, which GitHub draws: datasets, jobs and arrows.

python -m tests.openlineage_graph events.ndjson > graph.mmd
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def graph(events: Iterable[Mapping[str, Any]]) -> str:
    """Draw all jobs that have read or made data, each once, with what all their runs have read and made."""
    arrows: set[tuple[str, str]] = set()
    jobs: set[str] = set()
    datasets: set[str] = set()
    for event in events:
        job = event["job"]["name"]
        read, made = ([label(dataset) for dataset in event.get(kind) or []] for kind in ("inputs", "outputs"))
        if read or made:
            jobs.add(job)
            datasets |= {*read, *made}
            arrows |= {(dataset, job) for dataset in read} | {(job, dataset) for dataset in made}
    ids = {name: f"n{number}" for number, name in enumerate(sorted(jobs | datasets))}
    lines = ["flowchart LR"]
    lines += [f'    {ids[name]}["{name}"]' for name in sorted(jobs)]
    lines += [f'    {ids[name]}[("{name}")]' for name in sorted(datasets)]
    lines += sorted(f"    {ids[source]} --> {ids[target]}" for source, target in arrows)
    return "\n".join(lines)


def label(dataset: Mapping[str, Any]) -> str:
    """A dataset's name, short: of a file its own, and of a table its schema and table."""
    namespace, name = str(dataset["namespace"]), str(dataset["name"])
    if namespace.startswith(("http:", "https:")):
        return f"TLC: {name.rpartition('/')[2]}"
    if namespace == "file":
        return name.rpartition("/")[2]
    return name.partition(".")[2].removeprefix("main.")


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    print(graph(json.loads(line) for line in lines if line))  # noqa: T201
