"""What `make bench PEERS=1` makes of what it has measured; that it runs is tested in `tests/long/test_benches.py`."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bench.peers import bare, compare, run
from tests.bench.peers.run import Task
from tests.bench.table import Row, table
from tests.conftest import ROOT

MIB = 1 << 20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="adopts processes, which Linux alone lets it do")


def result(seconds: float, busy: tuple[float, ...] = (2.0, 2.0, 3.0, 3.0)) -> dict[str, Any]:
    """Of a contender: four months."""
    months = [{"month": f"2023-{number:02}", "busy": spent} for number, spent in enumerate(busy, 1)]
    return {
        "seconds": seconds,
        "first_task": 0.5,
        "processor_seconds": 2 * seconds,
        "peak_bytes": 512 * MIB,
        "largest_bytes": 256 * MIB,
        "warehouse_bytes": 90_000_000,
        "set_up": 12.5,
        "months": months,
        "trips": {month["month"]: 7 for month in months},
    }


def test_a_missed_target_is_shown_and_a_passed_limit_fails() -> None:
    within = compare.LIMITS["cold"] - 0.01
    best = {"bare": result(10.0), "cold": result(10 * within), "services_up": result(15.0), "dagster": result(90.0)}
    rows = {row.what: row for row in compare.rows(best)}
    cold, up = rows[compare.TITLES["cold"]], rows[compare.TITLES["services_up"]]
    assert cold.target_cells() == ("2.00", "missed")
    assert up.target_cells() == ("1.50", "ok")
    assert not any(row.exceeded for row in rows.values())
    assert rows[compare.TITLES["dagster"]].limit is None
    too_slow = compare.rows(best | {"cold": result(10 * compare.LIMITS["cold"] + 0.1)})
    assert [row.what for row in too_slow if row.exceeded] == [compare.TITLES["cold"]]


def test_a_limit_is_never_stricter_than_its_target() -> None:
    assert compare.LIMITS.keys() == compare.TARGETS.keys()
    assert all(compare.LIMITS[name] >= target for name, target in compare.TARGETS.items())


def test_the_table_has_columns_for_targets_only_where_there_is_one() -> None:
    rows = [Row("cold", "s", 2.5, 1.0, 4.0, 2.0), Row("Dagster", "s", 9.0, 1.0)]
    assert table(rows, compare.HEADING).splitlines() == [
        "what     measured  bare script  ratio  target          limit",
        "cold      2.500 s      1.000 s  2.500    2.00  missed   4.00  ok",
        "Dagster   9.000 s      1.000 s  9.000       -  -           -  -",
    ]
    assert "target" not in table(rows[1:])


def test_growth_compares_the_second_half_with_the_first() -> None:
    assert compare.growth([1, 1, 1, 1]) == 1
    assert compare.growth([2, 2, 3, 3]) == 1.5
    assert compare.growth([1, 2, 3]) == 2.5
    best = {"bare": result(10.0), "cold": result(20.0, busy=(5.0, 5.0, 5.0, 5.0))}
    last = compare.month_by_month(best).splitlines()[-1].split("  ")
    assert [cell.strip() for cell in last if cell.strip()] == ["second half ÷ first", "1.50", "1.00"]


def test_the_table_of_what_was_taken_says_what_the_set_up_was() -> None:
    printed = compare.taken({"bare": result(10.0), "cold": result(20.0)})
    for part in ("bare script", "20.0 s", "40.0 s", "512 MiB", "256 MiB", "90 MB", "12.5 s made the database"):
        assert part in printed, part


def test_contenders_that_counted_other_trips_are_not_compared() -> None:
    compare.check_same_work({"bare": [result(1.0)], "cold": [result(2.0)]})
    other = result(2.0) | {"trips": {"2023-01": 8}}
    with pytest.raises(SystemExit, match="ours, services up has counted"):
        compare.check_same_work({"bare": [result(1.0)], "services_up": [other]})


def test_a_months_record_spans_its_tasks_and_adds_their_seconds() -> None:
    tasks = [("2023-02", 5.0, 9.0), ("2023-01", 1.0, 2.0), ("2023-01", 4.0, 6.5)]
    assert run._by_month(tasks) == [
        {"month": "2023-01", "started": 1.0, "ended": 6.5, "busy": 3.5},
        {"month": "2023-02", "started": 5.0, "ended": 9.0, "busy": 4.0},
    ]


def test_a_contenders_environment_has_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ("AIRFLOW", "AIRFLOW_HOME", "NYC_TAXI_FLEETS", "DAGSTER_HOME", "MAKEFLAGS", "FROM", "PEERS", "PYTHONPATH")
    for name in foreign:
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("KEPT", "ours")
    found = run._environment()
    assert found.keys().isdisjoint(foreign)
    assert found["KEPT"] == "ours"


def test_every_variable_of_our_makefile_is_kept_from_the_make_that_is_measured() -> None:
    (known,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("KNOWN := "))
    for name in set(known.removeprefix("KNOWN := ").split()) - {"PYTHON"}:
        assert name.startswith("AIRFLOW") or name in run.OF_OUR_MAKEFILE, name


def test_without_the_setting_dagster_is_left_out_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.find_dagster(None) is None
    assert "Dagster is left out: NYC_TAXI_BENCH_DAGSTER does not name" in capsys.readouterr().out


def test_a_setting_that_names_no_python_with_dagster_is_an_error() -> None:
    with pytest.raises(SystemExit, match="expected a Python's path, found /no/python: No such file"):
        compare.find_dagster("/no/python")
    with pytest.raises(SystemExit, match="says ModuleNotFoundError: No module named 'dagster'"):
        compare.find_dagster(sys.executable)


@pytest.mark.parametrize("months", [1, 13])
def test_there_are_two_to_twelve_months(months: int) -> None:
    assert compare.Size.of(12, 1) == compare.Size()
    assert compare.Size.of(3, 2).months == ("2023-01", "2023-03")
    with pytest.raises(SystemExit, match=f"--months: expected a number from 2 to 12, found {months}"):
        compare.Size.of(months, 1)


def test_months_between() -> None:
    assert bare.months_between("2022-11", "2023-02") == ["2022-11", "2022-12", "2023-01", "2023-02"]


# -- trees of processes

PARENT_THAT_ENDS = """
    import subprocess, sys, time
    # In a session of its own, as Airflow's components are.
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True)
    print(child.pid, flush=True)
"""
BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
IN_A_TREE = """
    import json, signal, sys, time
    from pathlib import Path
    from include.local.processes import interrupt_once
    from tests.bench.peers.tree import Tree
    signal.signal(signal.SIGTERM, interrupt_once)
    script, argument, log = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    with Tree() as tree, tree.measured() as result:
        service = tree.start(["sleep", "600"], log)
        tree.wait(tree.start([sys.executable, "-c", script, argument], log), service)
        if "sleep" in argument:
            print("waiting", flush=True)
            tree.wait_until(lambda: False, 60, "never", service)
        tree.wait_until(lambda: tree.processor_seconds() > 0.3 and tree.is_idle(0.1), 60, "idle", service)
    print(json.dumps(result))
"""


def start_tree(tmp_path: Path, child: str) -> subprocess.Popen[str]:
    """Start a process that measures a parent which ends at once and leaves a child."""
    arguments = [textwrap.dedent(IN_A_TREE), textwrap.dedent(PARENT_THAT_ENDS), child, str(tmp_path / "log")]
    return subprocess.Popen([sys.executable, "-c", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@linux_only
def test_processes_whose_parent_has_ended_are_counted(tmp_path: Path) -> None:
    printed, _ = start_tree(tmp_path, BUSY).communicate(timeout=60)
    found = json.loads(printed)
    assert found["processor_seconds"] >= 0.3
    assert 1 * MIB < found["largest_bytes"] <= found["peak_bytes"]


@linux_only
def test_nothing_is_left_when_a_measurement_is_told_to_stop(tmp_path: Path) -> None:
    process = start_tree(tmp_path, "import time; time.sleep(600)")
    assert process.stdout
    assert process.stdout.readline() == "waiting\n"
    orphan = int((tmp_path / "log").read_text())
    assert psutil.pid_exists(orphan)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert not psutil.pid_exists(orphan)


@linux_only
def test_a_service_that_ends_by_itself_is_the_failure_and_shows_what_it_printed(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tests.bench.peers.tree import Tree
        with Tree() as tree:
            service = tree.start([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], Path("service"))
            tree.wait(tree.start(["sleep", "600"], Path("waiting")), service)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=run._environment() | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("has ended by itself with status 3:\nthe reason\n")


@linux_only
def test_a_contender_ends_with_the_bench_even_if_that_is_killed(tmp_path: Path) -> None:
    """Its script waits for a site that does not answer."""
    with run.socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        task = Task(f"http://127.0.0.1:{silent.getsockname()[1]}", str(tmp_path), "2023-01", "2023-01", {}, 1)
        bench = """
            import subprocess, sys, time
            process = subprocess.Popen([sys.executable, "-m", "tests.bench.peers.run", "bare"], stdin=subprocess.PIPE)
            process.stdin.write(sys.argv[1].encode())
            process.stdin.close()
            print(process.pid, flush=True)
            time.sleep(600)
        """
        killed = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(bench), json.dumps(task.__dict__)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert killed.stdout
        contender = psutil.Process(int(killed.stdout.readline()))
        silent.settimeout(60)
        connection, _ = silent.accept()  # the script has begun
        (script,) = contender.children()
        killed.kill()
        killed.communicate()
        psutil.wait_procs([contender, script], timeout=60)
        connection.close()
    assert not script.is_running()
    assert not contender.is_running()
