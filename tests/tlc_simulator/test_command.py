"""The simulator's command, run in processes of its own."""

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import duckdb
import pytest
import requests

from include.tlc_simulator.__main__ import main
from include.tlc_simulator.server import TlcSimulator

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "include.tlc_simulator"]


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("serve", "make", "city"))


def test_make_writes_a_month(tmp_path: Path) -> None:
    out = tmp_path / "green.parquet"
    command = [*COMMAND, "make", "--fleet", "green", "--month", "2023-02", "--rows", "123", str(out)]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == f"{out}\n"
    assert duckdb.sql(f"SELECT count(*) FROM '{out}'").fetchone() == (123,)


def test_city_writes_the_zone_files(tmp_path: Path) -> None:
    assert main(["city", str(tmp_path)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["taxi_zone_lookup.csv", "taxi_zones.zip"]


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [([], "taxi_zones"), (["--zones-layout", "2026"], "taxi_zones"), (["--zones-layout", "2023"], ".")],
)
def test_city_writes_the_layout_that_is_asked_for(tmp_path: Path, arguments: list[str], folder: str) -> None:
    assert main(["city", *arguments, str(tmp_path)]) == 0
    with zipfile.ZipFile(tmp_path / "taxi_zones.zip") as archive:
        assert {str(PurePosixPath(name).parent) for name in archive.namelist()} == {folder}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["make", "--month", "2023-1", "x"], "'2023-1' is not a month"),
        (["make", "--month", "2013-01", "--fleet", "green", "x"], "first month is 2014-01"),
        (["make", "--month", "2023-01", "--rows", "-5", "x"], "'-5' is not a whole number of at least 0"),
        (["serve", "--fault", "mishap"], "'mishap' is not a fault"),
        (["serve", "--host", "203.0.113.1"], "Cannot assign requested address"),
        (["serve", "--port", "70000"], "'70000' is not a whole number from 0 to 65535"),
        (["serve", "--zones-layout", "2022"], "invalid choice: '2022'"),
        (["serve", "--serve-folder", "/no/such"], "/no/such is not a folder"),
    ],
)
def test_bad_arguments_give_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_prints_its_url_and_stops_cleanly_when_told_to(number: signal.Signals, tmp_path: Path) -> None:
    url_file = tmp_path / "url"
    process = subprocess.Popen(
        [
            *COMMAND,
            "serve",
            "--zones-layout",
            "2023",
            "--rows",
            "50",
            "--fault",
            "503*1:lookup",
            "--url-file",
            str(url_file),
            "--verbose",
        ],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        lookup = f"{url}/misc/taxi_zone_lookup.csv"
        assert [requests.get(lookup, timeout=10).status_code for _ in range(2)] == [503, 200]
        assert url_file.read_text() == f"{url}\n"
        zones = requests.get(f"{url}/misc/taxi_zones.zip", timeout=30).content
        assert "taxi_zones.shp" in zipfile.ZipFile(io.BytesIO(zones)).namelist()  # at the top level, as requested
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert (
        errors
        == "GET /misc/taxi_zone_lookup.csv 503\nGET /misc/taxi_zone_lookup.csv 200\nGET /misc/taxi_zones.zip 200\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("host", "elsewhere"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_others_reach_it_only_where_the_host_says_so(host: str, elsewhere: bool, tmp_path: Path) -> None:
    with TlcSimulator(tmp_path, host=host) as simulator:
        assert simulator.url.startswith("http://127.0.0.1:")
        other = simulator.url.replace("127.0.0.1", "127.0.0.2")  # another address of this machine
        # In another process, because the tests' own may only connect to 127.0.0.1.
        code = f"import requests; print(requests.get('{other}/misc/taxi_zone_lookup.csv', timeout=10).status_code)"
        asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        if elsewhere:
            assert asked.stdout == "200\n"
        else:
            assert "Connection refused" in asked.stderr
