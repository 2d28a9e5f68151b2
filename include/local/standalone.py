"""`make standalone`: Airflow with its web UI, until Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

from sqlalchemy.exc import OperationalError

from include.local import command_lock, pool
from include.local.console import say
from include.local.errors import CommandError
from include.local.processes import Started, end_abandoned, home, interrupt_once
from include.local.simulated_tlc import simulated_tlc
from include.local.stack import Stack, lock_scheduler, owner, port_in_use
from include.orchestration.compat import IS_AIRFLOW_3

PASSWORDS = "simple_auth_manager_passwords.json.generated"


def run(port: int, *, simulate: bool) -> int:
    """Run Airflow until Ctrl-C; returns the exit status.

    On 3.x this starts what `airflow standalone` starts, but listens on localhost only. On 2.11 it runs that command.
    """
    if port_in_use(port):
        raise CommandError(
            f"Port {port} of localhost is in use, perhaps by an Airflow that is running already. Stop that program, or "
            f"choose another port, for example make standalone PORT={port + 1}"
        )
    pool.set_up_and_release()
    with contextlib.ExitStack() as ending:
        if simulate:
            ending.enter_context(simulated_tlc())
        try:
            if IS_AIRFLOW_3:
                _run_stack(port, ending)
            else:
                return _run_airflow_2(port)
        except KeyboardInterrupt:
            say("\nStopping Airflow …")
        return 0


def _run_stack(port: int, ending: contextlib.ExitStack) -> None:
    lock = lock_scheduler()
    if lock is None:
        raise CommandError(f"Airflow is running already: {owner() or 'it is just starting'}; stop that first")
    say("Starting Airflow …")
    stack = ending.enter_context(Stack("make standalone", port, lock, web_ui=True))
    password = json.loads((home() / PASSWORDS).read_text())["admin"]
    say(f"Web UI: http://localhost:{port}  user admin, password {password}")
    say(f"Logs: {stack.logs}\nCtrl-C stops it")
    while True:
        stack.check()
        # If a backfill that used this scheduler was killed, its runs would go on, and its DAG would stay unpaused.
        with contextlib.suppress(OperationalError):  # the database is busy: the next second will do
            command_lock.restore_if_abandoned()
        time.sleep(1)


def _run_airflow_2(port: int) -> int:
    """2.11's own command, in its own session: we handle Ctrl-C, and give it the time to stop its components."""
    os.environ["AIRFLOW__WEBSERVER__WEB_SERVER_PORT"] = str(port)
    os.environ["AIRFLOW__WEBSERVER__BASE_URL"] = f"http://localhost:{port}"  # alerts link to it
    end_abandoned()
    # In a shell's background SIGINT is ignored; Airflow's command would ignore it too, but can only be stopped by it.
    signal.signal(signal.SIGINT, interrupt_once)
    started = Started("make standalone AIRFLOW=2", has_scheduler=True)
    try:
        return started.popen(["airflow", "standalone"]).wait()
    finally:
        started.stop(signal.SIGINT)
