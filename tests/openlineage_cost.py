"""What a receiver of OpenLineage events costs tasks: one month of green through a scheduler, once for each receiver.

`.venv/bin/python -m tests.openlineage_cost` needs `make openlineage`. It prints the processor seconds of each backfill,
and how long each task takes. docs/how-to/openlineage.md has the table.
"""

import json
import resource
import socket
import sqlite3
import tempfile
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from include.tlc_simulator.server import TlcSimulator
from tests.integration.project import Project

SHORT = {"timeout": 1, "retry": {"total": 0}}
PROVIDERS_DEFAULTS = {
    "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "10",
    "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "False",
}


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def transport(port: int, **options: object) -> dict[str, str]:
    made = {"type": "http", "url": f"http://127.0.0.1:{port}", **options}
    return {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(made)}


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, site: TlcSimulator, settings: dict[str, str]) -> str:
    made = Project(folder, site.url, None, NYC_TAXI_FLEETS="green", **settings)
    made.run("setup")
    before = processor_seconds()
    status, output = made.run("backfill", FLEET="green", FROM="2023-01")
    assert status == 0, output
    with closing(sqlite3.connect(made.state / "airflow.db")) as con:
        tasks = con.execute(
            "SELECT task_id, duration FROM task_instance WHERE task_id NOT LIKE 'wait%' ORDER BY end_date"
        )
        each = ", ".join(f"{task} {seconds:.1f} s" for task, seconds in tasks)
    return f"{processor_seconds() - before:.0f} s of CPU; {each}"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        TlcSimulator(Path(name, "tlc"), rows=1000, first_month="2023-01", last_month="2023-01") as site,
        ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server,
        socket.create_server(("127.0.0.1", 0), backlog=500) as silent,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers, never = server.server_address[1], silent.getsockname()[1]
        cases = {
            "no transport": {},
            "a receiver that answers": transport(answers),
            "down": transport(9),
            "silent": transport(never),
            "silent, timeout 1, no retry": transport(never, **SHORT),
            "silent, the provider's defaults": transport(never) | PROVIDERS_DEFAULTS,
        }
        for number, (case, settings) in enumerate(cases.items()):
            print(f"{case}: {measure(Path(name, str(number)), site, settings)}", flush=True)  # noqa: T201
        server.shutdown()


if __name__ == "__main__":
    main()
