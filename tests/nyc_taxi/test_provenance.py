"""The provenance of trips, as shown in pictures."""

from datetime import date

import pytest

from include.nyc_taxi.reports import provenance
from include.nyc_taxi.reports.provenance import Provenance

JANUARY, FEBRUARY, MARCH = (date(2023, month, 1) for month in (1, 2, 3))
TLC = "NYC Taxi & Limousine Commission (TLC)"


@pytest.fixture
def loaded(con):
    """Record loads of months, each later than the one before."""

    def record(month, url="https://tlc.test/x.parquet", simulated=False, fleet="green"):
        con.execute(
            "INSERT INTO loads (fleet, partition_month, source_url, bytes, rows_in_file, rows_loaded, quality, "
            "loaded_at, run_id, simulated) SELECT ?, ?, ?, 1, 1, 1, '{}', "
            "TIMESTAMP '2023-05-01' + count(*) * INTERVAL 1 HOUR, 'run', ? FROM loads",
            [fleet, month, url, simulated],
        )

    return record


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://d37ci6vzurychx.cloudfront.net/trip-data/x.parquet", "d37ci6vzurychx.cloudfront.net"),
        ("http://127.0.0.1:8080/x", "127.0.0.1"),
        ("https://me:secret@mirror.test/x", "mirror.test"),
        ("https://me:se%40cret@mirror.test:8443/x?signature=secret#secret", "mirror.test"),
        ("https://token@mirror.test", "mirror.test"),
    ],
)
def test_a_source_is_named_by_its_host_alone(con, loaded, url, host):
    loaded(JANUARY, url)
    assert provenance.of_months(con, "green", [JANUARY]).source == f"{TLC}, from {host}"


@pytest.mark.parametrize("url", ["url", "", "http://[half/x", "file:///home/me/x.parquet"])
def test_what_has_no_host_is_not_shown(con, loaded, url):
    loaded(JANUARY, url)
    assert provenance.of_months(con, "green", [JANUARY]).source == TLC


def test_simulated_trips_are_not_said_to_be_the_tlcs(con, loaded):
    loaded(JANUARY, "http://127.0.0.1:1/x", simulated=True)
    assert provenance.of_months(con, "green", [JANUARY]) == Provenance(
        True, "simulated trips, not the TLC's data, from 127.0.0.1"
    )


def test_real_and_simulated_months_together_are_simulated_and_have_both_sources(con, loaded):
    loaded(JANUARY)
    loaded(FEBRUARY, "http://127.0.0.1:1/x", simulated=True)
    assert provenance.of_months(con, "green", [JANUARY, FEBRUARY]) == Provenance(
        True, f"{TLC}, from tlc.test; simulated trips, not the TLC's data, from 127.0.0.1"
    )


@pytest.mark.parametrize(
    ("marks", "simulated"),
    [((False, False), False), ((True, False), True), ((True, None), True), ((None, False), None), ((None, None), None)],
)
def test_whether_months_are_simulated(con, loaded, marks, simulated):
    for month, mark in zip((JANUARY, FEBRUARY), marks, strict=True):
        loaded(month, simulated=mark)
    assert provenance.of_months(con, "green", {JANUARY, FEBRUARY}).simulated is simulated


def test_other_months_and_other_fleets_do_not_count(con, loaded):
    loaded(JANUARY)
    loaded(FEBRUARY, simulated=True)
    loaded(JANUARY, simulated=True, fleet="yellow")
    assert provenance.of_months(con, "green", [JANUARY]).simulated is False


def test_the_edition_that_is_loaded_now_counts(con, loaded):
    loaded(JANUARY, "http://127.0.0.1:1/x", simulated=True)
    loaded(JANUARY)
    assert provenance.of_months(con, "green", [JANUARY]) == Provenance(False, f"{TLC}, from tlc.test")


def test_of_months_that_are_not_in_the_record_nothing_is_known(con, loaded):
    assert provenance.of_months(con, "green", [JANUARY]) == Provenance(None, None)
    loaded(JANUARY)
    assert provenance.of_months(con, "green", [JANUARY, MARCH]).simulated is None


def test_many_hosts_are_counted_and_not_all_named(con, loaded):
    for number in range(1, 8):
        loaded(date(2023, number, 1), f"https://mirror{number}.test/x")
    months = [date(2023, number, 1) for number in range(1, 8)]
    assert provenance.of_months(con, "green", months).source == (
        f"{TLC}, from mirror1.test, mirror2.test, mirror3.test and 4 more"
    )


@pytest.mark.parametrize("what", [Provenance(True, "é"), Provenance(False, "x"), Provenance(None, None)])
def test_it_is_kept_beside_a_file_of_figures(tmp_path, what):
    provenance.write(what, tmp_path / "figures.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["figures.csv.source.json"]
    assert provenance.read(tmp_path / "figures.csv") == what


def test_nothing_is_known_of_a_file_that_an_older_version_has_written(tmp_path):
    assert provenance.read(tmp_path / "figures.csv") == Provenance(None, None)
