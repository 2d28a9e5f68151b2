"""What is done to a backfill: each scenario disturbs one in its own way, always the same for the same seed."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from include.tlc_simulator.faults import parse_fault
from tests.conftest import ROOT
from tests.long.fingerprint import differences
from tests.long.kills import Kill, Metadata, kill_task
from tests.long.lane import MONTHS, PATIENCE_SECONDS, TASKS, Lane

KILL_SEEDS = range(1, 101)
BAD_SITE_SEEDS = range(101, 121)
DISK_SHARES = (10, 25, 40, 55, 70, 85)
HOLD_SECONDS = 20
CHOICES = 20

KEPT = ROOT / "build" / "long"
"""Where the data and the logs of a scenario that has ended otherwise are kept."""

FAULTS = (
    "503*3@GET:/trip-data",
    "500*1@HEAD:/trip-data",
    "429=1*2@GET:/trip-data",
    "cut=0.1*2@GET:/trip-data",
    "cut=0.9*2@GET:/trip-data",
    "wrong-length*1@GET:/trip-data",
    "wrong-length=-100*1@GET:/trip-data",
    "error-page*1@GET:/trip-data",
    "error-page=xml*1@GET:/trip-data",
    "wrong-content=0.5*1@GET:/trip-data",
    "slow=0.5*3@GET:/trip-data",
    "503*2@GET:/misc",
    "cut*2@GET:/misc",
)
"""All of them pass: what is asked for often enough is there in the end."""


class DiskRefusedError(Exception):
    """This machine lets us make no small file system; the message is mount's."""


@dataclass
class Result:
    """How a scenario went: `differences` is empty when all is as in an undisturbed backfill."""

    name: str
    what: str = ""
    completed: str = ""
    seconds: float = 0.0
    misses: int = 0
    differences: list[str] = field(default_factory=list)
    kept: Path | None = None

    @property
    def kind(self) -> str:
        return self.name.rstrip("0123456789-")

    @property
    def line(self) -> str:
        end = "same" if not self.differences else f"DIFFERENT ({'; '.join(self.differences)}), kept in {self.kept}"
        return f"{self.name:15} {self.what}; {self.completed}; {self.seconds:.0f} s; {end}"


@dataclass(frozen=True)
class Scenario:
    """A disturbance with a name; `disturb` starts the backfill, does its worst and fills in the result."""

    name: str
    disturb: Callable[[Lane, Result], None]

    def run(self, lane: Lane) -> Result:
        """Run it from nothing to the comparison."""
        result, started = Result(self.name), time.monotonic()
        try:
            try:
                lane.start_over()
                self.disturb(lane, result)
                if again := lane.finish():
                    result.completed += f", then {again} tasks that had failed for good cleared"
                result.differences += differences(lane.reference, lane.fingerprint())
            except (TimeoutError, AssertionError) as error:
                result.differences.append(str(error))
            result.seconds = time.monotonic() - started
            if result.differences:
                result.kept = _keep(lane, self.name)
        finally:
            if lane.data_dir.is_mount():
                _run("umount", "--lazy", str(lane.data_dir))
        return result


def kill(seed: int, lane: Lane, result: Result, faults: tuple[str, ...] = ()) -> None:
    """Kill one task at a random moment of its life. Of four seeds each has another task, of eight four are cleared."""
    choose = random.Random(seed)
    task_id, by_hand = TASKS[seed % len(TASKS)], seed // len(TASKS) % 2 == 1
    for number in range(CHOICES):
        if number:  # the process had ended before the signal came
            lane.finish()
            lane.start_over()
        for fault in faults:
            lane.site.add_fault_rule(parse_fault(fault))
        month, share = choose.choice(MONTHS), choose.random()
        lane.create_backfill()
        killed = _kill(lane, task_id, month, share)
        if killed:
            break
        result.misses += 1
    else:
        raise AssertionError(f"{task_id} had ended before the signal came, {CHOICES} times")
    result.what = f"{task_id} of {month} killed at {share:.0%} of its time ({killed.seconds:.2f} s), {killed.where}"
    result.completed = "cleared" if by_hand else "retried"
    if by_hand:
        lane.clear(killed.attempt.run_id, task_id)


def kill_on_bad_site(seed: int, lane: Lane, result: Result) -> None:
    """As `kill`, on a site with three of the faults."""
    faults = tuple(random.Random(-seed).sample(FAULTS, 3))
    kill(seed, lane, result, faults)
    result.what += f"; site: {', '.join(faults)}"


def fill_disk(percent: int, lane: Lane, result: Result) -> None:
    """Give the backfill a disk that holds so much of what it needs; when a task has failed, enlarge it."""
    size = percent * lane.needed // 100
    done = _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(lane.data_dir))
    if done.returncode:
        raise DiskRefusedError(f"no small file system can be mounted here: {done.stderr.strip()}")
    lane.create_backfill()
    until = time.monotonic() + PATIENCE_SECONDS
    while not lane.metadata.failed():
        if time.monotonic() > until or _all_succeeded(lane.metadata):
            raise AssertionError("the disk was large enough")
        time.sleep(0.2)
    time.sleep(5)  # others find it full too
    tasks = sorted({task_id for _, task_id in lane.metadata.failed()})
    result.what = f"a disk of {size // 1024:,} KiB, {percent} % of what is needed: {', '.join(tasks)} failed"
    _run("mount", "-o", "remount,size=256m", str(lane.data_dir)).check_returncode()
    result.completed = "retried"


def hold_from_start(lane: Lane, result: Result) -> None:
    """Another process has the warehouse open before the first task wants it."""
    _hold(lane, result, lambda: None)


def hold_midway(lane: Lane, result: Result) -> None:
    """Another process takes the warehouse when the first month is loaded."""

    def first_is_loaded() -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not any(_succeeded(lane.metadata, "load", month) for month in MONTHS):
            if time.monotonic() > until:
                raise TimeoutError("no month was loaded")
            time.sleep(0.05)

    _hold(lane, result, first_is_loaded)


def scenarios() -> list[Scenario]:
    """All of them, in the order in which they are run."""
    return [
        *(Scenario(f"kill-{seed:03}", partial(kill, seed)) for seed in KILL_SEEDS),
        *(Scenario(f"bad-site-{seed}", partial(kill_on_bad_site, seed)) for seed in BAD_SITE_SEEDS),
        *(Scenario(f"full-disk-{percent}", partial(fill_disk, percent)) for percent in DISK_SHARES),
        Scenario("held-from-start", hold_from_start),
        Scenario("held-midway", hold_midway),
    ]


def _kill(lane: Lane, task_id: str, month: str, share: float) -> Kill | None:
    delay = share * lane.typical[task_id]
    return kill_task(
        lane.metadata,
        task_id,
        month,
        lane.data_dir,
        lambda pid: time.sleep(delay),
        until=time.monotonic() + PATIENCE_SECONDS,
    )


_HOLDER = """
import duckdb, sys, time
while True:
    try:
        con = duckdb.connect(sys.argv[1])
        break
    except duckdb.IOException:
        time.sleep(0.005)
print("open", flush=True)
sys.stdin.read()
"""


def _hold(lane: Lane, result: Result, wait: Callable[[], None]) -> None:
    def start_holder() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(lane.data_dir / "warehouse.duckdb")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    lane.create_backfill()
    wait()
    holder = start_holder()
    assert holder.stdout is not None
    holder.stdout.readline()
    time.sleep(HOLD_SECONDS)
    holder.communicate()
    waited = sum("is open in process" in log.read_text() for log in lane.logs())
    result.what = f"the warehouse held for {HOLD_SECONDS} s, {waited} tasks waited"
    result.completed = "nothing to do"
    if not waited:
        raise AssertionError("no task wanted the warehouse meanwhile")
    if lane.metadata.failed():
        result.differences.append("a task failed, which should have waited")


def _succeeded(metadata: Metadata, task_id: str, month: str) -> bool:
    attempt = metadata.attempt(task_id, month)
    return attempt is not None and attempt.state == "success"


def _all_succeeded(metadata: Metadata) -> bool:
    runs = metadata.runs()
    return len(runs) == len(MONTHS) and all(state == "success" for _, state in runs.values())


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _keep(lane: Lane, name: str) -> Path:
    kept = KEPT / name
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(lane.data_dir, kept / "data")
    shutil.copytree(lane.project.state / "logs", kept / "logs", ignore=shutil.ignore_patterns("dag_processor*"))
    return kept
