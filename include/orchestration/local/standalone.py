"""`make standalone`: Airflow with its web UI."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

from include.orchestration import pool
from include.orchestration.airflow_line import IS_AIRFLOW_3
from include.orchestration.local.simulated import simulated_tlc
from include.orchestration.local.stack import (
    STOP_SECONDS,
    Stack,
    StackError,
    home,
    only_scheduler,
    port_in_use,
    signal_group,
)

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
    with contextlib.ExitStack() as ending:
        if simulate:
            ending.enter_context(simulated_tlc())
        if not IS_AIRFLOW_3:
            os.environ["AIRFLOW__WEBSERVER__WEB_SERVER_PORT"] = str(port)
            os.environ["AIRFLOW__WEBSERVER__BASE_URL"] = f"http://localhost:{port}"  # alerts link to it
            return _airflow_standalone()
        lock = ending.enter_context(only_scheduler())
        if lock is None:
            print("Airflow is running already (make standalone or make backfill); stop that first", file=sys.stderr)
            return 1
        print("Starting Airflow …", flush=True)
        try:
            stack = ending.enter_context(
                Stack(port=port, lock=lock, components=("dag-processor", "scheduler", "triggerer"), extra={})
            )
            password = json.loads((home() / PASSWORDS).read_text())["admin"]
            print(f"Web UI: http://localhost:{port}  user admin, password {password}")
            print(f"Logs: {stack.logs}\nCtrl-C stops it", flush=True)
            while True:
                stack.check()
                time.sleep(1)
        except StackError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopping Airflow …", file=sys.stderr)
            return 0


def _airflow_standalone() -> int:
    """2.11's own command, in a session of its own: Ctrl-C is for us, who give it the time to stop its components."""
    # A shell's background ignores SIGINT, and so would the command, which knows no other way to end in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(["airflow", "standalone"], start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        print("\nStopping Airflow …", file=sys.stderr)
        process.send_signal(signal.SIGINT)
        return 0
    finally:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:
            signal_group(process, signal.SIGKILL)  # whoever is left
