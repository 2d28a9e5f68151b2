"""What users are told about the checkpoints of a large DuckDB file."""

import duckdb
import pytest

from include.nyc_taxi.warehouse import checkpoints


@pytest.mark.parametrize(
    ("gigabytes", "seconds"),
    [(29, None), (30, "about 1 s each, and up to 7 s"), (101, "about 3 s each, and up to 22 s")],
)
def test_a_file_whose_checkpoints_take_a_second_is_better_a_lake(gigabytes, seconds):
    advice = checkpoints.advice(gigabytes * checkpoints.GB)
    if seconds is None:
        assert advice is None
    else:
        assert f"has {gigabytes} GB" in advice
        assert seconds in advice
        assert "`make migrate`" in advice


def test_there_is_no_advice_about_a_lake_or_about_a_file_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "LAKE_ADVISED_BYTES", 0)
    assert checkpoints.advice_about(None) is None
    assert checkpoints.advice_about(tmp_path / "missing.duckdb") is None
    assert checkpoints.state(tmp_path / "missing.duckdb") is None


def test_a_checkpoint_shows_in_the_state_of_the_file(tmp_path):
    file = tmp_path / "warehouse.duckdb"

    def makes_one(*statements):
        with duckdb.connect(str(file)) as con:
            before = checkpoints.state(file)
            for statement in ("PRAGMA disable_checkpoint_on_shutdown", *statements):
                con.execute(statement).fetchall()
        return checkpoints.was_made(before, checkpoints.state(file))

    assert not makes_one("CREATE TABLE t (i INTEGER)")
    assert not makes_one("FROM t")
    assert makes_one("INSERT INTO t VALUES (1)", "CHECKPOINT")
    assert not makes_one("FROM t")
    assert makes_one("INSERT INTO t SELECT i FROM range(200_000) AS r(i)", "CHECKPOINT")
