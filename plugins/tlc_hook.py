"""The hook and the sensor for the TLC's site: the HTTP provider's, which find the site without any set-up.

`include` is imported where it is used: Airflow also loads plugins in processes without the DAG bundle on their path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, Connection, mask_secret
from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.sensors.http import HttpSensor
from current_user import current_user

from permanent_failure import failing_for_good_when_permanent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context
    from requests import PreparedRequest, Response, Session

    from include.nyc_taxi.web.uses import User

CONNECT_AND_READ_TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for the next bytes. The provider's default is to wait for ever."""
FORBIDDEN = 403
"""What the site answers about a file that is not published, and to a machine that it blocks."""


class TlcHook(HttpHook):
    """Reads from the TLC's site.

    The connection `tlc` (type HTTP) is optional; its proxies, headers, login and certificates apply if it exists.
    The site is `NYC_TAXI_TLC_URL` if set, else the connection's host, else the TLC's real address. A login in that
    address takes precedence over the connection's own. It is sent with each request, masked in logs, and left out of
    `url` and of all messages.
    """

    default_conn_name = "tlc"

    def __init__(self, method: str = "GET", http_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(method, http_conn_id, **kwargs)
        self._asked: set[tuple[str | None, str | None]] = set()

    def get_conn(self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None) -> Session:
        """Return a session that, in a task, records its requests (see include/nyc_taxi/web/uses.py)."""
        session: Session = super().get_conn(headers, extra_options)
        send, user = session.send, current_user()
        if not user.dag_id:  # a command, which may have nothing to do with the data directory
            return session

        def send_and_record(request: PreparedRequest, **kwargs: Any) -> Response:
            answer = None
            try:
                answer = send(request, **kwargs)
                return answer
            finally:
                self._record(user, request, answer)

        session.send = send_and_record  # type: ignore[method-assign]  # an adapter would miss what the provider mounts
        return session

    def _record(self, user: User, request: PreparedRequest, answer: Response | None) -> None:
        """Record a request. A request for the same address as before, by the same hook, is a retry."""
        from include.nyc_taxi.web import uses

        asked = request.method, request.url
        length = answer.headers.get("Content-Length", "") if answer is not None and request.method == "GET" else ""
        uses.record(
            uses.SiteUse(
                *(uses.now(), user.dag_id, user.run_id, user.task_id),
                bytes=int(length) if length.isdecimal() else 0,
                refused=int(answer is not None and answer.status_code == FORBIDDEN),
                retries=int(asked in self._asked),
            )
        )
        self._asked.add(asked)

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """The connection `conn_id`, or an empty one, with the site's address filled in."""
        from include.nyc_taxi import settings
        from include.nyc_taxi.urls import split_login
        from usable_connection import usable

        try:
            connection = usable(super().get_connection, conn_id, "http", "https")
        except AirflowNotFoundException:
            connection = Connection(conn_id=conn_id, conn_type="http")
        if address := settings.tlc_url() or ("" if connection.host else settings.DEFAULT_TLC_URL):
            connection.host, connection.schema, connection.port = address, None, None
        connection.host, login = split_login(connection.host or "")
        if login := settings.tlc_login() or login:
            for secret in (login.password, quote(login.password, safe="")):  # as it is sent, and as an address has it
                mask_secret(secret)
            connection.login, connection.password = login
        return connection

    def fetch(self, path: str, headers: Mapping[str, str]) -> Response:
        """Send a GET; return the response, whatever its status, before its body is read."""
        options = {"stream": True, "check_response": False, "timeout": CONNECT_AND_READ_TIMEOUT}
        response: Response = self.run(path, headers=dict(headers), extra_options=options)
        return response

    def url(self, path: str) -> str:
        """The full address of `path`, without the login."""
        self.get_conn()  # the provider reads the address from the connection only when it opens a session
        return str(self.url_from_endpoint(path))


class TlcFileSensor(HttpSensor):
    """The provider's HttpSensor with TlcHook: succeeds once the file at `endpoint` is published.

    403 and 404 mean "not published yet"; any other error fails the try. Each check sends one HEAD request.
    """

    def __init__(self, *, http_conn_id: str = TlcHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(
            http_conn_id=http_conn_id,
            method="HEAD",
            response_error_codes_allowlist=["403", "404"],
            extra_options={"timeout": CONNECT_AND_READ_TIMEOUT},
            **kwargs,
        )

    @failing_for_good_when_permanent()
    def poke(self, context: Context) -> bool:  # noqa: ARG002 - the provider's signature
        hook = TlcHook(self.method, self.http_conn_id)
        self.log.info("Checking whether %s is published", hook.url(self.endpoint))
        try:
            hook.run(self.endpoint, headers=self.headers, extra_options=self.extra_options)
        except AirflowException as error:
            if str(error).startswith(self.response_error_codes_allowlist):
                self.log.info("Not published yet: %s", error)
                return False
            raise
        return True
