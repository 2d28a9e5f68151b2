"""The alert on a task that has failed for good: always a log line; mail and webhook where a connection for it exists.

`alert_smtp` (type SMTP; extra `to_email`, and `from_email` as for Airflow's own mails) sends a mail.
`alert_webhook` (type HTTP; host with scheme and path) gets a POST of `{"text": …}`, as chat services take it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret, redact
from usable_connection import usable

from calendar_timetables import written_dates
from include.nyc_taxi.months import monday_of
from include.orchestration.month import chosen_month

log = logging.getLogger(__name__)

SMTP_CONNECTION, WEBHOOK_CONNECTION = "alert_smtp", "alert_webhook"


class AlertError(Exception):
    """An alert could not be sent; the message has nothing secret in it."""


def alert_on_failure(context: Mapping[str, Any]) -> None:
    """Say that a task has failed for good, with what an operator needs to find it. Never raises: the failure stands."""
    subject, text = describe_failure(context)
    log.error("%s\n%s", subject, text)
    for connection, send, kinds in (
        (SMTP_CONNECTION, _mail, ("smtp", "email")),
        (WEBHOOK_CONNECTION, _post, ("http", "https")),
    ):
        try:
            usable(BaseHook.get_connection, connection, *kinds)
            send(subject, text)
        except AirflowNotFoundException:
            log.debug("no connection %s: no such alert", connection)
        except Exception:  # an alert that cannot be sent must not hide the failure it is about
            log.exception("the alert could not be sent through the connection %s", connection)


def describe_failure(context: Mapping[str, Any]) -> tuple[str, str]:
    """A subject line and a text: DAG, task, month or week, run, try, the error's last line and a link to the log.

    Also, of a month that was loaded when the run began: that it still is.
    """
    from include.nyc_taxi.warehouse.lake import without_passwords  # not for the parsing of DAG files: it imports DuckDB

    instance, dag_run = context["ti"], context.get("dag_run")
    error = str(context.get("exception") or "").strip().splitlines() or ["(no message)"]
    subject = f"{instance.dag_id}.{instance.task_id} failed for {_partition(context.get('params') or {}, dag_run)}"
    return subject, (
        f"run: {getattr(dag_run, 'run_id', '(unknown)')}\n"
        f"try: {instance.try_number}\n"
        f"error: {redact(without_passwords(error[-1]))}\n"  # nothing masks what is mailed and posted
        f"{_what_stays(context)}"
        f"log: {getattr(instance, 'log_url', None) or '(see the web UI)'}"
    )


def _what_stays(context: Mapping[str, Any]) -> str:
    """A line on the month that the warehouse has all the same, as the run's task `prepare` found it; or nothing.

    The warehouse itself is not asked: an alert must not wait for its lock. No task ever takes a month away: one that
    fails leaves it as it was, or as this very run has loaded it.
    """
    instance = context["ti"]
    if "month" not in (context.get("params") or {}) or instance.task_id in ("wait_for_file", "prepare"):
        return ""
    try:
        found = instance.xcom_pull(task_ids="prepare")
        loaded_at = datetime.fromisoformat(found["loaded_at"]) if found else None
    except Exception:  # the alert is worth more than this line
        log.debug("not known whether the month is loaded", exc_info=True)
        return ""
    return (
        f"data: the month stays loaded; before this run it was loaded at {loaded_at:%Y-%m-%d %H:%M} UTC\n"
        if loaded_at
        else ""
    )


def _partition(params: Mapping[str, Any], dag_run: Any) -> str:
    """What the run is about, as far as it is known: a month, a week, or only its date."""
    date = getattr(dag_run, "logical_date", None)
    if "week" in params:
        days = [params["week"]] if params["week"] else sorted(written_dates(date)) if date else []
        return f"the week of {monday_of(days[-1])}" if days else "a run without a date"
    if "name" in params:
        return f"the request {params['name']}"
    return chosen_month(params, date) or "a run without a date"


def _mail(subject: str, text: str) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    with SmtpHook(smtp_conn_id=SMTP_CONNECTION) as hook:
        to = hook.get_connection(SMTP_CONNECTION).extra_dejson.get("to_email") or hook.from_email
        hook.send_email_smtp(to=to, subject=subject, html_content=f"<pre>{escape(text)}</pre>")


def _post(subject: str, text: str) -> None:
    """Send it to the webhook.

    Its path is a secret: who knows it can post. The provider's `run` logs errors with it, and `requests` has it in its
    messages; so what is raised here says where and what, and nothing else, and has no cause.

    Raises:
        AlertError: it could not be sent.
    """
    from airflow.providers.http.hooks.http import HttpHook

    hook, host = HttpHook("POST", http_conn_id=WEBHOOK_CONNECTION), None
    try:
        with hook.get_conn() as session:
            url = hook.url_from_endpoint(None)
            address = urlsplit(url)
            host = address.hostname
            for secret in (url, address.path, address.query, address.password):
                if secret and secret.strip("/"):
                    mask_secret(secret)  # for what other libraries log, at whatever level
            response = session.post(url, json={"text": f"{subject}\n{text}"}, timeout=30)
    except AirflowNotFoundException:
        raise
    except Exception as error:  # of whatever kind: what it says may have the address in it
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        names = " ".join(type(each).__name__ for each in (error, reason) if each)
        where = host or "the connection's host, which should be an address as https://host/path,"
        raise AlertError(f"{where} could not be asked: {names}") from None
    if not response.ok:
        raise AlertError(f"{host} answered with the status {response.status_code}")
