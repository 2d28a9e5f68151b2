"""`make dbt`: run dbt on the warehouse that the Airflow connection `warehouse` defines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from include.local.console import say
from include.local.errors import INTERRUPTED, CommandError
from include.local.processes import home
from include.local.warehouse_reader import read_when_free
from include.nyc_taxi import catalogue, settings, warehouse
from include.nyc_taxi.files import replacing
from include.nyc_taxi.months import month_range
from include.orchestration import dbt_profile

if TYPE_CHECKING:
    from warehouse_hook import WarehouseHook

PROJECT = settings.PROJECT_ROOT / "include" / "dbt"


def run(arguments: Sequence[str], fleet: str | None = None, first: str | None = None, last: str | None = None) -> int:
    """Run dbt; returns its exit status.

    Args:
        arguments: dbt's own.
        fleet, first, last: the months to build, whether or not they have changed; else those that the marts lack.

    Raises:
        CommandError: there is no warehouse yet.
    """
    state = home() / "dbt"
    return call(arguments, state, months(fleet, first, last) | connect(state))


def months(fleet: str | None, first: str | None, last: str | None) -> dict[str, str]:
    """The variables that say which months dbt builds; none of them if these are the ones that the marts lack.

    Raises:
        FleetError: there is no such fleet.
        MonthError: these are no months, or not in order.
    """
    chosen = {}
    if fleet:
        chosen["MARTS_FLEET"] = catalogue.fleet(fleet).name
    if first or last:
        asked = month_range(first or last or "", last or first or "")
        chosen |= {"MARTS_FROM": asked[0], "MARTS_TO": asked[-1]}
    return chosen


def connect(state: Path) -> dict[str, str]:
    """Write the profile for the warehouse into the folder `state`; return the variables with its secrets.

    The warehouse is opened once before dbt opens it, so that it has all tables and views of this version.
    """

    def prepare(hook: WarehouseHook) -> str:
        if not hook.exists():
            raise CommandError(f"there is no warehouse yet at {hook.place}: run make demo or make backfill first")
        with hook.opened() as con:
            warehouse.make_ready(con)
        output, secrets = dbt_profile.profile(hook, state / "extensions")
        write_profile(state, output)
        return json.dumps(secrets)

    return dict(json.loads(read_when_free(prepare)))


def write_profile(state: Path, output: dict[str, object]) -> None:
    """Write the profile into the folder `state`; JSON is YAML, too."""
    target = {"target": dbt_profile.TARGET, "outputs": {dbt_profile.TARGET: output}}
    with replacing(state / "profiles.yml") as file:
        file.write_text(json.dumps({dbt_profile.NAME: target}, indent=2), encoding="utf-8")


def call(arguments: Sequence[str], state: Path, variables: dict[str, str], *, quiet: bool = False) -> int:
    """Run dbt with the profile, target and logs in the folder `state`; returns dbt's exit status.

    Args:
        variables: environment variables for dbt, besides this process's own.
        quiet: print dbt's output only if it fails.

    Raises:
        SettingError: dbt is not installed.
        CommandError: dbt was interrupted.
    """
    with started(arguments, state, variables, piped=quiet) as process:
        output, _ = process.communicate()
    if quiet and process.returncode:
        say(output, error=True)
    return process.returncode


@contextmanager
def started(
    arguments: Sequence[str], state: Path, variables: dict[str, str], *, piped: bool = True
) -> Iterator[subprocess.Popen[str]]:
    """Start dbt like `call`, and wait for its end after the block. On a lake, it waits for its turn first.

    Args:
        piped: what dbt prints can be read from the process's `stdout`.

    Raises:
        SettingError: dbt is not installed.
        CommandError: dbt was interrupted.
    """
    program = settings.dbt_program()
    mine = {
        "DBT_PROJECT_DIR": PROJECT,
        "DBT_PROFILES_DIR": state,
        "DBT_TARGET_PATH": state / "target",
        "DBT_LOG_PATH": state / "logs",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MARTS_")}
    environment = inherited | {name: str(value) for name, value in mine.items()} | variables
    out, errors = (subprocess.PIPE, subprocess.STDOUT) if piped else (None, None)
    # A profile with secrets is one of a lake, where dbt does not take turns by itself.
    with (
        dbt_profile.only_dbt() if any(name.startswith(dbt_profile.SECRET) for name in variables) else nullcontext(),
        subprocess.Popen([program, *arguments], env=environment, stdout=out, stderr=errors, text=True) as process,
    ):
        try:
            yield process
            process.wait()
        except KeyboardInterrupt:  # dbt rolls back what it has not committed
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise CommandError("interrupted; the months that were finished stay built", INTERRUPTED) from None
