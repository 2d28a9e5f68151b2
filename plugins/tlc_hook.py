"""The hook and the sensor for the TLC's site: the HTTP provider's, which find the site without any set-up.

`include` is imported where it is used: Airflow loads plugins also in processes without the DAG bundle on their path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    Connection,
    mask_secret,
)
from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.sensors.http import HttpSensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context
    from requests import Response

CONNECT_AND_READ_TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for the next bytes. The provider's own default is for ever."""


class TlcHook(HttpHook):
    """Reads from the TLC's site.

    The connection `tlc` (type HTTP) need not exist; where it does, its proxies, headers, login and certificates apply.
    The site is `NYC_TAXI_TLC_URL` if set, else the connection's host, else the TLC's real address. A login in that
    address comes before the connection's own; it is sent with each request, and is no part of `url` or of any message.
    """

    default_conn_name = "tlc"

    def __init__(self, method: str = "GET", http_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(method, http_conn_id, **kwargs)

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """The connection `conn_id`, or an empty one, with the site's address filled in."""
        from usable_connection import usable

        from include.nyc_taxi import settings
        from include.nyc_taxi.urls import split_login

        try:
            connection = usable(super().get_connection, conn_id, "http", "https")
        except AirflowNotFoundException:
            connection = Connection(conn_id=conn_id, conn_type="http")
        if address := settings.tlc_url() or ("" if connection.host else settings.DEFAULT_TLC_URL):
            connection.host, connection.schema, connection.port = address, None, None
        connection.host, login = split_login(connection.host)
        if login := settings.tlc_login() or login:
            mask_secret(login.password)
            connection.login, connection.password = login
        return connection

    def fetch(self, path: str, headers: Mapping[str, str]) -> Response:
        """Send a GET; return the response as it is, whatever its status, with its body not yet read."""
        options = {"stream": True, "check_response": False, "timeout": CONNECT_AND_READ_TIMEOUT}
        response: Response = self.run(path, headers=dict(headers), extra_options=options)
        return response

    def url(self, path: str) -> str:
        """The full address of `path`, without the login."""
        self.get_conn()  # the provider learns the address from the connection only when it opens a session
        return str(self.url_from_endpoint(path))


class TlcFileSensor(HttpSensor):
    """The provider's HttpSensor, asking through TlcHook: True once the file at `endpoint` is there.

    403 and 404 mean "not published yet"; any other error fails the try. One HEAD request a look.
    """

    def __init__(self, *, http_conn_id: str = TlcHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(
            http_conn_id=http_conn_id,
            method="HEAD",
            response_error_codes_allowlist=["403", "404"],
            extra_options={"timeout": CONNECT_AND_READ_TIMEOUT},
            **kwargs,
        )

    def poke(self, context: Context) -> bool:  # noqa: ARG002 - the provider's signature
        from include.nyc_taxi.errors import NycTaxiError

        try:
            return self._is_there()
        except NycTaxiError as error:
            if not error.permanent:
                raise
            raise AirflowFailException(str(error)) from error

    def _is_there(self) -> bool:
        hook = TlcHook(self.method, self.http_conn_id)
        self.log.info("Looking for %s", hook.url(self.endpoint))
        try:
            hook.run(self.endpoint, headers=self.headers, extra_options=self.extra_options)
        except AirflowException as error:
            if str(error).startswith(self.response_error_codes_allowlist):
                self.log.info("Not published yet: %s", error)
                return False
            raise
        return True
