"""Many processes at a lake whose catalog is in a real Postgres: what a catalog in a file cannot show."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE, Popen

import duckdb
import pytest

from include.nyc_taxi.warehouse import lake
from tests.cluster.services import Postgres
from tests.conftest import ROOT
from tests.integration.real_services import require

WRITERS, COMMITS, MAINTENANCES = 6, 8, 3

PROCESS = """
import sys
from datetime import timedelta
import duckdb
from include.nyc_taxi import warehouse
from include.nyc_taxi.warehouse import lake

port, password, data_path, kind, number, count = sys.argv[1:]
secret = lake.Secret(
    "postgres", {"host": "127.0.0.1", "port": int(port), "database": "lake", "user": "lake", "password": password}
)
with duckdb.connect() as con:
    lake.attach(con, "ducklake:postgres:", data_path, catalog=secret)
    warehouse.make_ready(con)
    for trips in range(int(count)):
        if kind == "maintain":
            lake.maintain(con, keep=timedelta(0), abandoned_after=timedelta(days=1))
        else:
            values = [int(number), trips]
            warehouse.write(
                con, lambda: con.execute("INSERT INTO trips_by_zone VALUES ('green', '2023-01-01', ?, ?)", values)
            )
"""


@pytest.fixture(scope="module", params=["", "de_DE", "es_ES"], ids=["English", "German", "Spanish"])
def postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A Postgres with an empty database for a lake; the language is the one in which it says what is wrong.

    The lake's role may not change that. German has words of its own for all of it, Spanish has `ERROR` in common.
    """
    require("Postgres")
    language = request.param and f"{request.param}.UTF-8"
    settings = {"lc_messages": language} if language else {}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as locales:
        if language:
            compiled = ["localedef", "-i", request.param, "-f", "UTF-8", f"{locales}/{language}"]
            if not shutil.which("localedef") or subprocess.run(compiled, capture_output=True, check=False).returncode:
                pytest.skip(f"{language} cannot be made here; as root: apt-get install --yes locales")
            Path(locales).chmod(0o755)
            patch.setenv("LOCPATH", locales)
        with Postgres(tmp_path_factory.mktemp("postgres") / "log", **settings) as postgres:
            postgres.create_role("lake", postgres.password)
            postgres.create_database("lake", owner="lake")
            yield postgres


def test_processes_that_make_a_lake_write_it_and_tidy_it_at_once_lose_nothing(
    postgres: Postgres, tmp_path: Path
) -> None:
    def start(kind: str, number: int, count: int) -> Popen[str]:
        arguments = [str(postgres.port), postgres.password, f"{tmp_path}/lake/", kind, str(number), str(count)]
        return Popen([sys.executable, "-c", PROCESS, *arguments], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True)

    # All find an empty catalog.
    processes = [start("write", number, COMMITS) for number in range(1, WRITERS + 1)] + [
        start("maintain", 0, MAINTENANCES)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    with duckdb.connect() as con:
        values = {"host": "127.0.0.1", "port": postgres.port, "database": "lake", "user": "lake"}
        secret = lake.Secret("postgres", {**values, "password": postgres.password})
        lake.attach(con, "ducklake:postgres:", f"{tmp_path}/lake/", catalog=secret)
        found = con.execute("SELECT zone_id, list_sort(list(num_trips)) FROM trips_by_zone GROUP BY ALL ORDER BY ALL")
        assert found.fetchall() == [(zone, [*range(COMMITS)]) for zone in range(1, WRITERS + 1)]
        # Everybody has taken a turn for each commit, maintenance one for each of the other tables; none came back.
        (others,) = con.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND table_name <> 'turns'"
        ).fetchone()
        turns = WRITERS * COMMITS + MAINTENANCES * others
        assert con.execute("SELECT count(*), any_value(turn) FROM turns").fetchone() == (1, turns)

        # Of the files that nobody has registered, those go that a killed load has left; never one in use.
        con.execute("CALL warehouse.set_option('data_inlining_row_limit', 0)")
        con.execute("INSERT INTO trips_by_zone SELECT 'green', '2023-01-01', 99, i FROM range(10) AS r(i)")
        abandoned = tmp_path / "lake" / "main" / "trips_by_zone" / "abandoned.parquet"
        abandoned.write_bytes(b"of a load that was killed")
        lake.maintain(con, keep=timedelta(days=7), abandoned_after=timedelta(0))
        assert not abandoned.exists()
        assert con.execute("SELECT count(*) FROM trips_by_zone").fetchone() == (WRITERS * COMMITS + 10,)


def test_an_error_that_no_attempt_can_mend_is_given_up_on_in_any_language(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake, "LONGEST_WAIT_SECONDS", 0.01)
    postgres.create_database("closed")
    postgres.query("closed", "REVOKE ALL ON SCHEMA public FROM public")
    postgres.query("closed", "REVOKE ALL ON SCHEMA public FROM lake")
    values = {"host": "127.0.0.1", "port": postgres.port, "database": "closed", "user": "lake"}
    secret = lake.Secret("postgres", {**values, "password": postgres.password})
    with duckdb.connect() as con, pytest.raises(lake.LakeError, match="public") as error:
        lake.attach(con, "ducklake:postgres:", f"{tmp_path}/lake/", catalog=secret)
    assert postgres.password not in str(error.value)
