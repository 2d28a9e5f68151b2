"""`make dbt`: run dbt on the warehouse that the Airflow connection `warehouse` defines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
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
    chosen = {}
    if fleet:
        chosen["MARTS_FLEET"] = catalogue.fleet(fleet).name
    if first or last:
        months = month_range(first or last or "", last or first or "")
        chosen |= {"MARTS_FROM": months[0], "MARTS_TO": months[-1]}
    state = home() / "dbt"
    return call(arguments, state, chosen | connect(state))


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
    program = settings.dbt_program()
    mine = {
        "DBT_PROJECT_DIR": PROJECT,
        "DBT_PROFILES_DIR": state,
        "DBT_TARGET_PATH": state / "target",
        "DBT_LOG_PATH": state / "logs",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MARTS_")}
    environment = inherited | {name: str(value) for name, value in mine.items()} | variables
    pipe = subprocess.PIPE if quiet else None
    with subprocess.Popen([program, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate()
        except KeyboardInterrupt:  # dbt rolls back what it has not committed
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise CommandError("interrupted; the months that were finished stay built", INTERRUPTED) from None
    if quiet and process.returncode:
        say(output + errors, error=True)
    return process.returncode
