"""`make standalone`: Airflow with its web UI."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

from sqlalchemy.exc import OperationalError

from include.local import turn
from include.local.processes import Started, end, end_abandoned, home, interrupt_once
from include.local.simulated import simulated_tlc
from include.local.stack import Stack, StackError, only_scheduler, owner, port_in_use
from include.orchestration import pool, pool_holders
from include.orchestration.compat import IS_AIRFLOW_3

PASSWORDS = "simple_auth_manager_passwords.json.generated"


def standalone(port: int, *, simulate: bool) -> int:
    """Run Airflow until Ctrl-C; returns the exit status.

    On 3.x this starts what `airflow standalone` starts, but listening on localhost only. On 2.11 it is that command.
    """
    if port_in_use(port):
        print(
            f"Port {port} of localhost is in use, by Airflow itself if that is running already: stop what uses it, or "
            f"take another, as in make standalone PORT={port + 1}",
            file=sys.stderr,
        )
        return 1
    pool.set_up()
    for holder in pool_holders.release():
        print(f"A task held a slot of the pool `warehouse`; it is marked failed: {holder}", flush=True)
    command = f"make standalone{' AIRFLOW=2' if not IS_AIRFLOW_3 else ''}"
    with contextlib.ExitStack() as ending:
        if simulate:
            ending.enter_context(simulated_tlc())
        if not IS_AIRFLOW_3:
            os.environ["AIRFLOW__WEBSERVER__WEB_SERVER_PORT"] = str(port)
            os.environ["AIRFLOW__WEBSERVER__BASE_URL"] = f"http://localhost:{port}"  # alerts link to it
            return _airflow_standalone(command)
        lock = ending.enter_context(only_scheduler())
        if lock is None:
            print(f"Airflow is running already: {owner() or 'it is just starting'}; stop that first", file=sys.stderr)
            return 1
        print("Starting Airflow …", flush=True)
        try:
            stack = ending.enter_context(
                Stack(
                    command=command,
                    port=port,
                    lock=lock,
                    components=("dag-processor", "scheduler", "triggerer"),
                    extra={},
                )
            )
            password = json.loads((home() / PASSWORDS).read_text())["admin"]
            print(f"Web UI: http://localhost:{port}  user admin, password {password}")
            print(f"Logs: {stack.logs}\nCtrl-C stops it", flush=True)
            while True:
                stack.check()
                # A backfill that used this scheduler and was killed: its runs would go on, and the DAG stay unpaused.
                with contextlib.suppress(OperationalError):  # the database is busy: the next second will do
                    turn.put_right_if_abandoned()
                time.sleep(1)
        except StackError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopping Airflow …", file=sys.stderr)
            return 0


def _airflow_standalone(command: str) -> int:
    """2.11's own command, in a session of its own: Ctrl-C is for us, who give it the time to stop its components."""
    end_abandoned()
    # A shell's background ignores SIGINT, and so would the command, which knows no other way to end in order.
    signal.signal(signal.SIGINT, interrupt_once)
    started = Started.by_us(command, has_scheduler=True)
    process, leader = started.popen(["airflow", "standalone"])
    try:
        return process.wait()
    except KeyboardInterrupt:
        print("\nStopping Airflow …", file=sys.stderr)
        process.send_signal(signal.SIGINT)
        return 0
    finally:
        end(process, leader)
        started.forget()
