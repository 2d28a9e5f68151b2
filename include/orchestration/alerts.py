"""The alert when a task has failed and will not be retried: a log line, and a mail and a POST if they are configured.

The connection `alert_smtp` sends a mail (type SMTP; `to_email` in its extra, `from_email` as for Airflow's own mails).
The connection `alert_webhook` receives a POST of `{"text": …}`, the format of chat services (type HTTP; its host is the
address with scheme and path).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret, redact

from calendar_timetables import written_dates
from include.nyc_taxi import catalogue
from include.nyc_taxi.months import monday_of
from include.orchestration.month import chosen_month
from usable_connection import usable

log = logging.getLogger(__name__)

SMTP_CONNECTION, WEBHOOK_CONNECTION = "alert_smtp", "alert_webhook"


class AlertError(Exception):
    """An alert could not be sent. The message contains no secrets."""


def alert_on_failure(context: Mapping[str, Any]) -> None:
    """Send the alert for a failed task. Never raises an error."""
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
            log.debug("there is no connection %s, so no alert is sent through it", connection)
        except Exception:  # the alert must not hide the failure that it reports
            log.exception("the alert could not be sent through the connection %s", connection)


def describe_failure(context: Mapping[str, Any]) -> tuple[str, str]:
    """Return a subject and a text with DAG, task, month or week, run, try, last line of the error, and link to the log.

    If the month is loaded, the text also says that it stays so.
    """
    from include.nyc_taxi.warehouse.lake import without_passwords  # imports DuckDB, which parsing DAG files must not

    instance, dag_run = context["ti"], context.get("dag_run")
    error = str(context.get("exception") or "").strip().splitlines() or ["(no message)"]
    subject = f"{instance.dag_id}.{instance.task_id} failed for {_partition(context.get('params') or {}, dag_run)}"
    return subject, (
        f"run: {getattr(dag_run, 'run_id', '(unknown)')}\n"
        f"try: {instance.try_number}\n"
        f"error: {redact(without_passwords(error[-1]))}\n"  # Airflow masks secrets only in logs
        f"{_what_stays(context)}"
        f"log: {getattr(instance, 'log_url', None) or '(see the web UI)'}"
    )


def _what_stays(context: Mapping[str, Any]) -> str:
    """Return a line that says that the run's month stays loaded, if the snapshot in status/ has it; or "".

    The warehouse is not opened, because an alert must not wait for its lock. The statement is true whether the run has
    failed before its load or after it, because no task removes a month: a failed one leaves the month as it was, or as
    this run has loaded it.
    """
    dag_id, params = context["ti"].dag_id, context.get("params") or {}
    fleet = dag_id.removeprefix("taxi_trips_")
    if fleet == dag_id or fleet not in catalogue.FLEETS or "month" not in params:
        return ""
    try:
        from include.nyc_taxi.web import snapshot  # imports DuckDB, which parsing DAG files must not

        month = chosen_month(params, getattr(context.get("dag_run"), "logical_date", None))
        load = snapshot.loaded_month(fleet, month) if month else None
        loaded_at = load.as_loaded_month.loaded_at if load else None
    except Exception:  # of any kind, such as a damaged snapshot: the alert matters more than this line
        log.debug("it is not known whether the month is loaded", exc_info=True)
        return ""
    return f"data: the month stays loaded; it was loaded at {loaded_at:%Y-%m-%d %H:%M} UTC\n" if loaded_at else ""


def _partition(params: Mapping[str, Any], dag_run: Any) -> str:
    """Describe the run's month, week or request, as far as it is known."""
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
        to: Any = hook.get_connection(SMTP_CONNECTION).extra_dejson.get("to_email") or hook.from_email
        hook.send_email_smtp(to=to, subject=subject, html_content=f"<pre>{escape(text)}</pre>")


def _post(subject: str, text: str) -> None:
    """Post the alert to the webhook.

    The webhook's path is a secret, because anybody who knows it can post. The provider's `run` logs it, and errors of
    `requests` contain it. Errors raised here therefore have no cause and contain only the host and the kind of error.

    Raises:
        AlertError: the alert could not be posted.
    """
    from airflow.providers.http.hooks.http import HttpHook

    hook, host = HttpHook("POST", http_conn_id=WEBHOOK_CONNECTION), None
    try:
        with hook.get_conn() as session:
            url = hook.url_from_endpoint(None)
            address = urlsplit(url)
            host = address.hostname
            for secret in (host and url, address.path, address.query, address.password):
                if secret and secret.strip("/"):  # not what is in many texts, such as "http://" without a host
                    mask_secret(secret)  # because other libraries may log it
            response = session.post(url, json={"text": f"{subject}\n{text}"}, timeout=30)
    except AirflowNotFoundException:
        raise
    except Exception as error:  # any kind of error: its message may contain the address
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        names = " ".join(type(each).__name__ for each in (error, reason) if each)
        where = host or "the host of the connection, which should be an address such as https://host/path,"
        raise AlertError(f"{where} could not be reached: {names}") from None
    if not response.ok:
        raise AlertError(f"{host} answered with the status {response.status_code}")
