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
from tests.integration.project import TIMEOUT_SECONDS, Project
from tests.long.fingerprint import differences, fingerprint
from tests.long.kills import Kill, Metadata, kill_task, wait_until_at_work

VICTIMS = {"download": "2023-01", "load": "2023-02", "aggregate": "2023-03", "map": "2023-04"}
FIRST, LAST = "2023-01", "2023-04"


def kill_at_work(project: Project, task_id: str, month: str) -> Kill | None:
    return kill_task(
        Metadata(project.state, "taxi_trips_green"),
        task_id,
        month,
        project.data_dir,
        partial(wait_until_at_work, month=month, data_dir=project.data_dir),
        until=time.monotonic() + TIMEOUT_SECONDS,
    )


@pytest.fixture(scope="module")
def backfills(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The data directories of an undisturbed backfill and of one with a killed task of each kind; what the latter said.

    Both run at once: while one waits for its retries, the other has the machine.
    """
    folder = tmp_path_factory.mktemp("kills")
    with TlcSimulator(folder / "tlc", rows=1000, first_month=FIRST, last_month=LAST) as site:
        # So that there is time to find the process in the midst of it.
        site.add_fault(VICTIMS["download"], Slow(per_chunk=2), methods=["GET"])
        undisturbed, killed = Project(folder / "undisturbed", site.url), Project(folder / "killed", site.url)
        with ThreadPoolExecutor() as pool:
            for status, output in pool.map(lambda project: project.run("setup"), (killed, undisturbed)):
                assert status == 0, output
            runs = [
                pool.submit(project.run, "backfill", FLEET="green", FROM=FIRST, TO=LAST)
                for project in (killed, undisturbed)
            ]
            kills = list(pool.map(partial(kill_at_work, killed), VICTIMS.keys(), VICTIMS.values()))
            (status, output), (undisturbed_status, undisturbed_output) = [run.result() for run in runs]
    assert undisturbed_status == 0, undisturbed_output
    assert status == 0, output
    assert None not in kills, f"a process had ended before it was killed: {kills}"
    return undisturbed.data_dir, killed.data_dir, output


def test_a_backfill_whose_tasks_were_killed_ends_as_an_undisturbed_one(backfills: tuple[Path, Path, str]) -> None:
    undisturbed, killed, output = backfills
    for task, month in VICTIMS.items():
        assert f"taxi_trips_green.{task} for {month}, try 1: will be tried again" in output
    assert differences(fingerprint(undisturbed), fingerprint(killed)) == []


def test_any_other_row_pixel_byte_or_file_would_have_been_a_difference(
    backfills: tuple[Path, Path, str], tmp_path: Path
) -> None:
    data_dir = shutil.copytree(backfills[0], tmp_path / "copy")
    before = fingerprint(data_dir)
    with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
        con.execute("UPDATE loads SET loaded_at = '2000-01-01', run_id = 'another'")
    assert differences(before, fingerprint(data_dir)) == []

    with duckdb.connect(str(data_dir / "warehouse.duckdb")) as con:
        con.execute("UPDATE green_trips SET fare_amount = fare_amount + 0.01 WHERE rowid = 17")
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
