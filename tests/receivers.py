"""Servers on localhost that receive what an alert sends, and the connections to them."""

import email
import email.policy
import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest


class _Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to receive a mail."""

    def handle(self):
        self._say("220 localhost")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            if verb == "DATA":
                self._say("354 go on")
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(email.message_from_bytes(body, policy=email.policy.default))
            self._say("221 bye" if verb == "QUIT" else "250 ok")

    def _say(self, line):
        self.wfile.write(f"{line}\r\n".encode())


class _Chat(BaseHTTPRequestHandler):
    """A webhook that keeps what is posted to it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, self.headers["Content-Type"], json.loads(body)))
        answer = b"" if self.server.status == 200 else f"nothing at {self.path}".encode()
        self.send_response(self.server.status, answer.decode() or None)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def serve():
    """Run a server in a thread until the test has ended."""
    servers = []

    def start(server):
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def define_mail(monkeypatch):
    """Define the connection `alert_smtp`."""

    def define(port, **extra):
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@tlc.test"} | extra
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_ALERT_SMTP", json.dumps(connection))

    return define


@pytest.fixture
def mailbox(serve, define_mail):
    """A mail server, and the connection to it."""
    server = serve(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mailbox))
    server.mails = []
    define_mail(server.server_address[1], to_email="ops@tlc.test")
    return server


@pytest.fixture
def chat(serve, monkeypatch):
    """A webhook, and the connection to it."""
    server = serve(HTTPServer(("127.0.0.1", 0), _Chat))
    server.posts, server.status = [], 200
    connection = {"conn_type": "http", "host": f"http://127.0.0.1:{server.server_address[1]}/hooks/42"}
    monkeypatch.setenv("AIRFLOW_CONN_ALERT_WEBHOOK", json.dumps(connection))
    return server
