"""The records of who uses the warehouse and the TLC's site."""

import pytest

from include.nyc_taxi.files import locked
from include.nyc_taxi.web import uses

PROCESSES, RECORDS = 4, 50
APPEND = f"""
import sys
from include.nyc_taxi.web import uses
uses.MAX_BYTES = 10_000_000
for number in range({RECORDS}):
    uses.record(uses.WarehouseUse(uses.now(), "d", sys.argv[1], "t", number, 0.1, 0.2, False))
"""


def site_use(task="download", **facts):
    return uses.SiteUse(uses.now(), "d", "r", task, **facts)


def warehouse_use(number=0):
    return uses.WarehouseUse(uses.now(), "d", f"run{number}", "t", number, 0.1, 0.2, wrote=True, rows=7)


def test_are_read_as_they_were_written():
    first, second = warehouse_use(1), warehouse_use(2)
    uses.record(first)
    uses.record(second)
    assert uses.warehouse_uses() == [first, second]


def test_requests_of_one_task_are_added_up():
    uses.record(site_use(bytes=10))
    uses.record(site_use(refused=1, retries=1))
    uses.record(site_use("ask"))
    one, other = uses.site_uses()
    assert (one.task_id, one.requests, one.bytes, one.refused, one.retries) == ("download", 2, 10, 1, 1)
    assert (other.task_id, other.requests) == ("ask", 1)


def test_are_none_where_nothing_has_been_recorded():
    assert uses.warehouse_uses() == []
    assert uses.site_uses() == []


def test_none_is_lost_when_several_processes_append_at_once(start_python):
    processes = [start_python(APPEND, name) for name in range(PROCESSES)]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    found = uses.warehouse_uses()
    assert len(found) == PROCESSES * RECORDS
    assert len({(use.run_id, use.pid) for use in found}) == PROCESSES * RECORDS


def test_are_bounded_and_the_newest_are_kept(monkeypatch):
    monkeypatch.setattr(uses, "MAX_BYTES", 2000)
    for number in range(100):
        uses.record(warehouse_use(number))
    found = uses.warehouse_uses()
    assert [use.pid for use in found] == list(range(100 - len(found), 100))
    assert 10 < len(found) < 30
    assert sum(file.stat().st_size for file in uses.status_dir().glob("*.jsonl")) < 5000


@pytest.mark.parametrize("damage", ['{"at": "2023', "null\n", '{"unknown": 1}\n', "\x00\x00"])
def test_half_a_line_of_a_killed_process_costs_no_other_record(damage):
    uses.record(warehouse_use(1))
    with (uses.status_dir() / "warehouse_uses.jsonl").open("a") as file:
        file.write(damage)
    uses.record(warehouse_use(2))
    assert [use.pid for use in uses.warehouse_uses()] == [1, 2]


def test_a_record_that_cannot_be_written_is_left_out_with_a_warning(monkeypatch, logged):
    monkeypatch.setattr(uses, "TURN_SECONDS", 0.05)
    with locked(uses.status_dir() / "warehouse_uses.lock"):
        uses.record(warehouse_use())
    assert uses.warehouse_uses() == []
    assert "this use is not recorded" in logged()
