"""Run these tests of the snapshot on a lake (see this folder's conftest.py), and some that only a lake needs."""

import contextlib
from datetime import timedelta

from include.nyc_taxi import settings
from include.nyc_taxi.warehouse import lake
from include.nyc_taxi.web import contents, snapshot, uses
from tests.nyc_taxi.test_snapshot import (
    HERE,
    TestChanges,  # noqa: F401
    TestContents,  # noqa: F401
    as_if_new,
    comparable,
    load,  # noqa: F401
    put_into,
)

VISITING = """
import sys
from include.nyc_taxi import warehouse
from include.nyc_taxi.web import snapshot, uses
from include.nyc_taxi.web.visit import Visit
from tests.nyc_taxi.test_snapshot import put_into

folder, fleet, *months = sys.argv[1:]
place = snapshot.Place("lake", folder)
for month in months:
    visit = Visit(lambda _: (uses.User("dag", f"{fleet} {month}", "load"), place), None)
    with visit.recorded(), connect(folder) as con:
        visit.begin(con)
        put_into(con, month, fleet=fleet, run_id=f"{fleet} {month}")
        visit.end(con)
"""


def test_an_update_opens_no_file_of_a_month_that_has_not_changed(con, tmp_path):
    put_into(con, "2023-01")
    contents.write(con, HERE)
    moved = list((tmp_path / "lake").rglob("*.parquet"))
    assert moved
    for file in moved:
        file.rename(file.with_suffix(".away"))
    put_into(con, "2023-02")
    assert set(contents.write(con, HERE)) == {("green", "2023-02")}
    for file in moved:
        file.with_suffix(".away").rename(file)
    assert comparable(snapshot.read()) == as_if_new(con)


def test_maintenance_changes_nothing_and_what_it_forgets_is_read_again(con):
    for month in ("2023-01", "2023-02", "2023-03"):
        put_into(con, month)
    contents.write(con, HERE)
    put_into(con, "2023-03", loaded_at="2023-05-01")
    lake.maintain(con, timedelta(days=7), timedelta(days=7))
    assert set(contents.write(con, HERE)) == {("green", "2023-03")}
    put_into(con, "2023-02", loaded_at="2023-05-01")
    lake.maintain(con, timedelta(0), timedelta(days=7))  # now the lake no longer knows what has changed
    assert len(contents.write(con, HERE)) == 3
    assert comparable(snapshot.read()) == as_if_new(con)


def test_another_lake_at_the_same_place_has_its_own_months(con, tmp_path, opening):
    put_into(con, "2023-01")
    contents.write(con, HERE)
    names = {}
    exec(opening, names)
    (tmp_path / "new").mkdir()
    with contextlib.closing(names["connect"](tmp_path / "new")) as other:
        for _ in range(9):  # so that its snapshots have reached the number of the other lake's
            put_into(other, "2023-02")
        contents.write(other, HERE)
        assert list(snapshot.read().months["green"]) == ["2023-02"]


def test_of_several_writers_at_once_none_is_forgotten(con, tmp_path, opening, start_python):
    con.close()  # the catalog of this lake is a file of one process, so the writers take turns; see tests/integration
    months = [f"2023-{number:02}" for number in range(1, 5)]
    waiting = (
        opening.replace("def connect", "def open_it").replace("lake.attach(con", "lake.attach(con")
        + """
import time
def connect(folder):
    while True:
        try:
            return open_it(folder)
        except lake.LakeError as error:
            if "lock" not in str(error):
                raise
            time.sleep(0.01)
"""
    )
    processes = [start_python(waiting + VISITING, tmp_path, fleet, *months) for fleet in ("green", "yellow")]
    assert [process.wait(120) for process in processes] == [0, 0]
    found = snapshot.read().months
    assert {fleet: list(loads) for fleet, loads in found.items()} == {"green": months, "yellow": months}
    assert {use.run_id: use.wrote for use in uses.warehouse_uses()} == {
        f"{fleet} {month}": True for fleet in found for month in months
    }
    assert settings.data_dir() in snapshot.path().parents
