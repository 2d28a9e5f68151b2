"""Tasks killed in the midst of `make backfill`: a short sample of what `make test-long` does a hundred times."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import duckdb
import pytest
from PIL import Image

from include.tlc_simulator.faults import Slow
from include.tlc_simulator.server import TlcSimulator
from tests.integration.project import MONTHS, TIMEOUT_SECONDS, Project
from tests.long.fingerprint import differences, fingerprint
from tests.long.kills import Kill, Metadata, kill_task, wait_until_at_work

pytestmark = pytest.mark.xdist_group("undisturbed")  # one backfill for the three files

VICTIMS = {"download": "2023-01", "load": "2023-02", "aggregate": "2023-03", "map": "2023-01"}
CHOICES = 5
"""How many backfills may pass until each of them was killed once."""


def kill_at_work(project: Project, task_id: str, month: str) -> Kill | None:
    return kill_task(
        Metadata(project.state, "taxi_trips_green"),
        task_id,
        month,
        project.data_dir,
        partial(wait_until_at_work, month=month, data_dir=project.data_dir),
        until=time.monotonic() + TIMEOUT_SECONDS,
    )


def test_a_backfill_whose_tasks_were_killed_ends_as_an_undisturbed_one(
    undisturbed: tuple[Project, str], site: TlcSimulator, set_up: Path, tmp_path: Path
) -> None:
    expected = fingerprint(undisturbed[0].data_dir)
    victims = dict(VICTIMS)
    for choice in range(CHOICES):
        killed = Project(tmp_path / str(choice), site.url, set_up)
        kills = backfill_and_kill(killed, site, victims)
        assert differences(expected, fingerprint(killed.data_dir)) == []
        # As the long tests do: who had ended before the signal came is no failure; another month of it is chosen.
        victims = {task_id: following(victims[task_id]) for task_id, kill in kills.items() if kill is None}
        if not victims:
            return
    pytest.fail(f"{', '.join(victims)}: the process had ended before the signal came, {CHOICES} times")


def backfill_and_kill(project: Project, site: TlcSimulator, victims: dict[str, str]) -> dict[str, Kill | None]:
    """Backfill in a new project and kill these tasks of these months; returns what was killed, by task."""
    if "download" in victims:  # so that there is time to find the process in the midst of it
        site.add_fault(victims["download"], Slow(per_chunk=2), methods=["GET"])
    with ThreadPoolExecutor() as pool:
        backfill = pool.submit(project.run, "backfill", FLEET="green", **MONTHS)
        kills = list(pool.map(partial(kill_at_work, project), victims.keys(), victims.values()))
        status, output = backfill.result()
    site.clear_faults()

    assert status == 0, output
    for kill in filter(None, kills):
        reported = f"taxi_trips_green.{kill.task_id} for {kill.month}, try {kill.attempt.number}: will be tried again"
        assert reported in output, output
    return dict(zip(victims, kills, strict=True))


def following(month: str) -> str:
    """The next of the three months; after the last one the first."""
    months = sorted(set(VICTIMS.values()))
    return months[(months.index(month) + 1) % len(months)]


def test_any_other_row_pixel_byte_or_file_would_have_been_a_difference(
    undisturbed: tuple[Project, str], tmp_path: Path
) -> None:
    data_dir = shutil.copytree(undisturbed[0].data_dir, tmp_path / "copy")
    before = fingerprint(data_dir)
    with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
        con.execute("UPDATE loads SET loaded_at = '2000-01-01', run_id = 'another'")
    assert differences(before, fingerprint(data_dir)) == []

    with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
        any_trip = "rowid = (SELECT min(rowid) FROM green_trips)"
        con.execute(f"UPDATE green_trips SET fare_amount = fare_amount + 0.01 WHERE {any_trip}")
        con.execute("ALTER TABLE zones ADD COLUMN is_new BOOLEAN")
    outputs = data_dir / "outputs" / "green"
    with Image.open(outputs / "manhattan_map.png") as picture:
        picture.load()
    picture.putpixel((5, 5), (0, 0, 0, 255))
    picture.save(outputs / "manhattan_map.png")
    (outputs / "manhattan_stats_2023-01.geojson").write_text("{}")
    (outputs / "manhattan_map_2023-01.png").unlink()
    (data_dir / "raw" / ".green_tripdata_2023-01.parquet.x.part.parquet").touch()
    assert differences(before, fingerprint(data_dir)) == [
        "missing: outputs/green/manhattan_map_2023-01.png",
        "left over: raw/.green_tripdata_2023-01.parquet.x.part.parquet",
        "different: outputs/green/manhattan_map.png",
        "different: outputs/green/manhattan_stats_2023-01.geojson",
        "different: table green_trips",
        "different: table zones",
    ]
