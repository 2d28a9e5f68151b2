"""The alert about a failed task, with a real mail server and a real webhook."""

import json
import logging
import socketserver
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pendulum
import pytest
from airflow.providers.common.compat.sdk import mask_secret, redact

from include.nyc_taxi.warehouse import make_ready
from include.nyc_taxi.web import snapshot
from include.orchestration.alerts import alert_on_failure, describe_failure
from include.orchestration.defaults import DEFAULT_ARGS
from warehouse_hook import WarehouseHook


@pytest.fixture
def context(data_dir):
    """The part of a callback's context that the alert uses."""
    return {
        "ti": SimpleNamespace(
            dag_id="taxi_trips_green", task_id="load", try_number=4, log_url="http://airflow.test/log?try=4"
        ),
        "dag_run": SimpleNamespace(
            run_id="scheduled__2023-03-01", logical_date=pendulum.datetime(2023, 2, 1, tz="UTC")
        ),
        "params": {"month": None},
        "exception": RuntimeError("first line\ngreen.parquet: expected <trips>, found none"),
    }


class TestText:
    def test_has_dag_task_month_run_try_log_and_the_errors_last_line(self, context):
        subject, text = describe_failure(context)
        assert subject == "taxi_trips_green.load failed for 2023-02"
        assert text.splitlines() == [
            "run: scheduled__2023-03-01",
            "try: 4",
            "error: green.parquet: expected <trips>, found none",
            "log: http://airflow.test/log?try=4",
        ]

    def test_has_the_month_of_the_form_where_one_was_chosen(self, context):
        assert describe_failure(context | {"params": {"month": "2021-07"}})[0].endswith("failed for 2021-07")

    @pytest.mark.parametrize(("week", "monday"), [(None, "2023-01-30"), ("2021-07-09", "2021-07-05")])
    def test_has_the_week_where_a_run_is_about_one(self, context, week, monday):
        assert describe_failure(context | {"params": {"week": week}})[0].endswith(f"failed for the week of {monday}")

    def test_has_the_name_of_a_request(self, context):
        assert describe_failure(context | {"params": {"name": "jan"}})[0].endswith("failed for the request jan")

    def test_says_so_where_the_run_has_no_date(self, context):
        context["dag_run"].logical_date = None
        assert describe_failure(context)[0].endswith("failed for a run without a date")

    @pytest.mark.parametrize("exception", [None, "", RuntimeError(), RuntimeError("\n")])
    def test_says_so_where_the_error_has_no_message(self, context, exception):
        assert "error: (no message)" in describe_failure(context | {"exception": exception})[1]

    def test_has_no_password_that_the_error_has(self, context):
        mask_secret("s3same")
        for error in (
            'Unable to connect to Postgres at "host=lake user=me password=s3other": connection refused',
            "https://me:s3other@tlc.test/trips.parquet: the connection broke off",
            "the server said: s3same is wrong",
        ):
            text = describe_failure(context | {"exception": RuntimeError(error)})[1]
            assert "***" in text
            assert "s3" not in text

    def test_names_the_web_ui_where_the_log_has_no_address(self, context):
        del context["ti"].log_url
        assert describe_failure(context)[1].endswith("log: (see the web UI)")

    @pytest.mark.parametrize("params", [{}, None])
    def test_needs_no_parameters(self, context, params):
        assert describe_failure(context | {"params": params})[0].endswith("failed for 2023-02")


class TestTextOnAMonthThatIsLoaded:
    stays = "data: the month stays loaded; it was loaded at 2023-04-21 05:31 UTC"

    @pytest.fixture(autouse=True)
    def loaded(self, data_dir):
        """Load green February, as far as the snapshot shows, which the hook writes."""
        row = (
            "INSERT INTO loads BY NAME SELECT 'green' AS fleet, DATE '2023-02-01' AS partition_month, 7 AS bytes, "
            "'u' AS source_url, 7 AS rows_in_file, 7 AS rows_loaded, '{}' AS quality, 'r' AS run_id, "
            "TIMESTAMP '2023-04-21 05:31:07' AS loaded_at"
        )
        with WarehouseHook().opened() as con:
            make_ready(con)
            con.execute(row)

    def text(self, context, **more):
        return describe_failure(context | more)[1].splitlines()

    @pytest.mark.parametrize("task_id", ["wait_for_file", "download", "load", "map"])
    def test_says_that_it_stays_loaded_and_since_when(self, context, task_id):
        context["ti"].task_id = task_id
        assert self.text(context)[-2:] == [self.stays, "log: http://airflow.test/log?try=4"]

    def test_says_it_of_the_month_of_the_form(self, context):
        context["dag_run"].logical_date = pendulum.datetime(2023, 5, 1, tz="UTC")
        assert self.stays in self.text(context, params={"month": "2023-02"})
        assert len(self.text(context)) == 4

    def test_says_nothing_of_another_month_or_fleet(self, context):
        assert len(self.text(context, params={"month": "2023-01"})) == 4
        context["ti"].dag_id = "taxi_trips_yellow"
        assert len(self.text(context)) == 4

    def test_says_nothing_of_a_run_without_a_date(self, context):
        context["dag_run"].logical_date = None
        assert len(self.text(context)) == 4

    @pytest.mark.parametrize("dag_id", ["trips_marts_green", "taxi_trips_editions", "green"])
    def test_says_nothing_in_another_dag(self, context, dag_id):
        context["ti"].dag_id = dag_id
        assert len(self.text(context)) == 4

    @pytest.mark.parametrize("params", [{"week": None}, {"name": "jan"}])
    def test_says_nothing_of_a_run_that_is_about_no_month(self, context, params):
        assert len(self.text(context, params=params)) == 4

    @pytest.mark.parametrize("file", [snapshot.path, partial(snapshot.part_path, "green")])
    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.touch])
    def test_says_nothing_where_the_snapshot_is_missing_or_damaged(self, context, file, damage):
        damage(file())
        expected = 5 if damage is Path.touch else 4
        assert len(self.text(context)) == expected

    def test_says_nothing_where_a_part_is_of_another_warehouse(self, context):
        part = snapshot.stored_part("green")
        other = snapshot.Document(part.head | {"of": ["file", "/elsewhere.duckdb"]}, part.months)
        snapshot.part_path("green").write_bytes(snapshot.encode(other))
        assert len(self.text(context)) == 4

    def test_reads_no_other_fleet_and_does_not_open_the_warehouse(self, context, monkeypatch):
        snapshot.part_path("yellow").write_text("damaged")
        monkeypatch.setattr("duckdb.connect", lambda *_, **__: pytest.fail("the warehouse is opened"))
        assert self.stays in self.text(context)


class TestAlert:
    def test_is_logged_and_nothing_else_where_no_connection_is_defined(self, context, caplog):
        alert_on_failure(context)
        (record,) = [record for record in caplog.records if record.name == "include.orchestration.alerts"]
        assert record.levelno == logging.ERROR
        assert "taxi_trips_green.load failed for 2023-02" in record.getMessage()
        assert "expected <trips>, found none" in record.getMessage()

    def test_is_mailed_where_a_connection_for_mail_is_defined(self, context, mailbox):
        alert_on_failure(context)
        (mail,) = mailbox.mails
        assert mail["Subject"] == "taxi_trips_green.load failed for 2023-02"
        assert mail["To"] == "ops@tlc.test"
        assert mail["From"] == "airflow@tlc.test"
        body = mail.get_body().get_content()
        assert "try: 4\nerror: green.parquet: expected &lt;trips&gt;, found none" in body.replace("\r\n", "\n")

    def test_is_mailed_to_its_sender_where_no_other_is_named(self, context, mailbox, define_mail):
        define_mail(mailbox.server_address[1])
        alert_on_failure(context)
        assert [mail["To"] for mail in mailbox.mails] == ["airflow@tlc.test"]

    def test_is_posted_where_a_connection_for_a_webhook_is_defined(self, context, chat):
        alert_on_failure(context)
        ((path, content_type, content),) = chat.posts
        assert path == "/hooks/42"
        assert content_type == "application/json"
        assert content == {"text": "\n".join(describe_failure(context))}

    def test_goes_both_ways_where_both_are_defined(self, context, mailbox, chat):
        alert_on_failure(context)
        assert (len(mailbox.mails), len(chat.posts)) == (1, 1)


class TestNeverRaises:
    def ours(self, caplog):
        """Return the messages that the alert itself has logged."""
        return [record.getMessage() for record in caplog.records if record.name == "include.orchestration.alerts"]

    def test_when_the_mail_server_is_away_and_still_posts(self, context, mailbox, chat, define_mail, caplog):
        with socketserver.TCPServer(("127.0.0.1", 0), None) as free:
            port = free.server_address[1]
        define_mail(port, to_email="ops@tlc.test")
        alert_on_failure(context)
        assert len(chat.posts) == 1
        assert self.ours(caplog)[1:] == ["the alert could not be sent through the connection alert_smtp"]

    def test_when_the_webhook_refuses_and_has_mailed_before(self, context, mailbox, chat, caplog):
        chat.status = 500
        alert_on_failure(context)
        assert len(mailbox.mails) == 1
        assert self.ours(caplog)[1:] == ["the alert could not be sent through the connection alert_webhook"]

    @pytest.mark.parametrize("scheme", ["http://", "htp://", "http://[", "", "nonsense "])
    def test_when_the_webhook_cannot_be_reached_and_says_nowhere_what_its_path_is(
        self, context, monkeypatch, caplog, scheme
    ):
        caplog.set_level("INFO")
        with socketserver.TCPServer(("127.0.0.1", 0), None) as free:
            address = f"{scheme}127.0.0.1:{free.server_address[1]}/services/s3same?key=s3same"
        monkeypatch.setenv("AIRFLOW_CONN_ALERT_WEBHOOK", json.dumps({"conn_type": "http", "host": address}))
        alert_on_failure(context)
        assert self.ours(caplog)[1:] == ["the alert could not be sent through the connection alert_webhook"]
        assert "could not be reached" in caplog.text
        assert "s3same" not in caplog.text

    def test_when_the_webhook_repeats_its_path_in_its_refusal(self, context, chat, caplog):
        chat.status = 404
        alert_on_failure(context)
        assert "127.0.0.1 answered with the status 404" in caplog.text
        assert "/hooks/42" not in caplog.text

    def test_and_keeps_the_webhooks_path_out_of_what_any_library_logs(self, context, chat):
        alert_on_failure(context)
        assert "/hooks/42" not in str(redact('http://127.0.0.1 "POST /hooks/42 HTTP/1.1" 200'))

    def test_when_the_connection_is_nonsense(self, context, monkeypatch, caplog):
        monkeypatch.setenv("AIRFLOW_CONN_ALERT_WEBHOOK", '{"conn_type": "http"}')
        alert_on_failure(context)
        assert self.ours(caplog)[1:] == ["the alert could not be sent through the connection alert_webhook"]

    def test_when_the_context_lacks_something(self, context, caplog):
        del context["dag_run"]
        alert_on_failure(context)
        assert self.ours(caplog)


def test_every_dags_tasks_call_it():
    assert DEFAULT_ARGS["on_failure_callback"] is alert_on_failure
