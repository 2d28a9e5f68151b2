"""Whether a month's load can be skipped."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.nyc_taxi.reports.by_zone import month_map_path, month_stats_path
from include.nyc_taxi.source.download import Download, Edition
from include.nyc_taxi.trips.loaded import LoadedMonth
from include.nyc_taxi.trips.up_to_date import reason_to_skip

LOADED_AT = datetime(2023, 4, 21, 5, 31, 7, tzinfo=UTC)
EDITION = Edition(url="https://tlc.test/green.parquet", etag='"1"', last_modified="Tue, 21 Mar 2023", bytes=17)
LOAD = LoadedMonth(
    rows_in_file=1,
    rows_loaded=1,
    source_url=EDITION.url,
    etag=EDITION.etag,
    last_modified=EDITION.last_modified,
    bytes=EDITION.bytes,
    loaded_at=LOADED_AT,
    run_id="run 1",
)


@pytest.fixture
def outputs(tmp_path):
    """The fleet's outputs, made a minute after the load."""
    for path in (month_stats_path(tmp_path, "2023-02"), month_map_path(tmp_path, "2023-02")):
        path.write_text("made")
        os.utime(path, ((LOADED_AT + timedelta(minutes=1)).timestamp(),) * 2)
    return tmp_path


@pytest.fixture
def downloaded(tmp_path):
    """What `download` has found: the edition that is loaded."""
    return Download(path=tmp_path / "green.parquet", edition=EDITION, fetched=False)


def reason(downloaded, outputs, loaded=LOAD):
    return reason_to_skip("green", "2023-02", downloaded, loaded, outputs)


def test_a_month_with_its_edition_loaded_and_its_map_drawn_is_up_to_date_and_the_reason_says_so(downloaded, outputs):
    assert reason(downloaded, outputs) == (
        "nothing new: green 2023-02 has been loaded from this edition since 2023-04-21 05:31 UTC "
        '(ETag "1", Last-Modified Tue, 21 Mar 2023), and its map is drawn. '
        "To repeat the work anyway, clear this task and those after it, or trigger the month with Load again"
    )


def test_a_month_that_is_not_loaded_is_not_up_to_date(downloaded, outputs):
    assert reason(downloaded, outputs, loaded=None) is None


@pytest.mark.parametrize("changed", [{"etag": '"2"'}, {"bytes": 18}, {"last_modified": None}, {"url": "https://x"}])
def test_another_edition_has_to_be_loaded(downloaded, outputs, changed):
    other = replace(downloaded, edition=replace(EDITION, **changed))
    assert reason(other, outputs) is None


def test_a_file_that_was_fetched_again_has_to_be_loaded(downloaded, outputs):
    assert reason(replace(downloaded, fetched=True), outputs) is None


@pytest.mark.parametrize("path", [month_stats_path, month_map_path])
def test_outputs_that_are_missing_or_older_than_the_load_have_to_be_made(downloaded, outputs, path):
    os.utime(path(outputs, "2023-02"), ((LOADED_AT - timedelta(minutes=1)).timestamp(),) * 2)
    assert reason(downloaded, outputs) is None
    path(outputs, "2023-02").unlink()
    assert reason(downloaded, outputs) is None
