"""Inspecting and verifying Parquet files."""

import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import DownloadError, LayoutError
from include.nyc_taxi.source.parquet import FOOTER_BYTES, Footer, read_footer, verify_parquet
from include.tlc_simulator.trips import write_month


def test_a_footer_says_rows_and_columns_in_the_files_order(con, write_trips):
    path = write_trips("yellow", "2023-02", rows=7)
    layout = catalogue.fleet("yellow").layout("2023-02")
    footer = read_footer(con, path)
    assert footer == Footer(rows=7, types=dict(layout.columns), simulated=False, ranges=footer.ranges)
    assert footer.columns == layout.names


def test_a_footer_gives_the_ranges_of_numbers_unless_a_part_of_the_file_lacks_them(con, tmp_path):
    path = tmp_path / "numbers.parquet"
    con.execute(
        "COPY (SELECT i::BIGINT AS id, i / 2.0::DOUBLE AS amount, 'a' AS text, if(i < 2048, i, NULL)::BIGINT AS half, "
        f"if(i = 7, 'nan', '3')::DOUBLE AS odd FROM range(4096) AS t(i)) TO '{path}' (ROW_GROUP_SIZE 2048)"
    )
    ranges = read_footer(con, path).ranges
    assert {name: ranges[name] for name in ("id", "amount")} == {"id": (0, 4095), "amount": (0, 2047.5)}
    assert not ranges.keys() & {"text", "half"}


def test_a_simulated_file_says_that_it_is_one(con, tmp_path):
    write_month(tmp_path / "made.parquet", "green", "2023-02", rows=5)
    assert read_footer(con, tmp_path / "made.parquet").simulated


def test_the_footer_of_a_file_without_rows_says_so(con, write_trips):
    assert read_footer(con, write_trips("green", "2023-02", rows=0)).rows == 0


def test_a_nested_column_counts_as_one(con, write_trips):
    path = write_trips("green", "2023-02", columns={"stops": "{'first': 1, 'second': [1, 2]}"})
    assert read_footer(con, path).columns[-1] == "stops"


def test_a_whole_file_passes(write_trips):
    verify_parquet(write_trips("green", "2023-02"))


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1PAR1", b"<html><body>Service unavailable</body></html>", b"<?xml version='1.0'?><Error/>"],
)
def test_something_else_is_refused_with_how_it_begins(tmp_path, content):
    path = tmp_path / "page.parquet"
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=r"page\.parquet: expected a Parquet file") as error:
        verify_parquet(path)
    assert repr(content[:60]) in str(error.value)
    assert f"{len(content)} bytes" in str(error.value)


def test_a_footer_that_would_take_all_memory_is_refused_before_it_is_read(con, tmp_path):
    path = tmp_path / "many.parquet"
    con.execute(f"COPY (SELECT 1 AS a) TO '{path}' (KV_METADATA {{large: repeat('x', {FOOTER_BYTES + 1})}})")
    assert path.stat().st_size > FOOTER_BYTES
    for check in (verify_parquet, lambda path: read_footer(con, path)):
        with pytest.raises(LayoutError, match=r"many\.parquet: expected a footer of at most 16,000,000 bytes, found"):
            check(path)
    con.execute(f"COPY (SELECT 1 AS a) TO '{path}' (KV_METADATA {{large: repeat('x', {FOOTER_BYTES - 1000})}})")
    verify_parquet(path)


def test_a_footer_that_claims_to_be_larger_than_the_file_is_a_damaged_one(write_trips):
    path = write_trips("green", "2023-02")
    path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1")
    with pytest.raises(DownloadError, match="its footer cannot be read"):
        verify_parquet(path)


def test_a_file_that_lacks_its_end_is_refused(write_trips):
    path = write_trips("green", "2023-02")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DownloadError, match="expected a Parquet file"):
        verify_parquet(path)


def test_a_file_with_both_magics_but_a_broken_footer_is_refused(write_trips):
    path = write_trips("green", "2023-02")
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * (len(whole) - 8) + whole[-4:])
    with pytest.raises(DownloadError, match="its footer cannot be read"):
        verify_parquet(path)
