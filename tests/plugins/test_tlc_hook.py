"""The hook and the sensor for the TLC's site, against the simulator."""

import base64
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, redact

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import DownloadError, NotPublishedError
from include.nyc_taxi.settings import DEFAULT_TLC_URL
from include.nyc_taxi.source.download import download_month
from include.nyc_taxi.web import uses
from include.orchestration.compat import IS_AIRFLOW_3
from include.tlc_simulator.faults import CutOff, Status
from tlc_hook import TlcFileSensor, TlcHook

MONTH = "2023-02"
PATH = catalogue.file_path("green", MONTH)


@pytest.fixture
def tlc_url(tlc_site, monkeypatch):
    """NYC_TAXI_TLC_URL is set, to the simulator."""
    monkeypatch.setenv("NYC_TAXI_TLC_URL", tlc_site.url)
    return tlc_site.url


@pytest.fixture
def define(monkeypatch):
    """Define the connection `tlc` by the environment, as an operator does."""

    def define_connection(**fields):
        monkeypatch.setenv("AIRFLOW_CONN_TLC", json.dumps({"conn_type": "http"} | fields))

    return define_connection


class TestAddress:
    def test_is_the_tlcs_own_by_default(self):
        assert TlcHook().url(PATH) == DEFAULT_TLC_URL + PATH

    def test_is_the_connections_host(self, define, tlc_site):
        define(host=tlc_site.url)
        assert TlcHook().url(PATH) == tlc_site.url + PATH
        assert TlcHook().fetch(PATH, {}).status_code == 200

    def test_can_be_given_as_the_connections_host_scheme_and_port(self, define):
        define(host="tlc.test", schema="https", port=8443)
        assert TlcHook().url(PATH) == f"https://tlc.test:8443{PATH}"

    def test_is_the_setting_rather_than_the_connections(self, define, tlc_url):
        define(host="tlc.test", schema="https", port=8443)
        assert TlcHook().url(PATH) == tlc_url + PATH

    def test_is_the_tlcs_own_if_the_connection_has_no_host(self, define):
        define(extra={"X-Client": "me"})
        assert TlcHook().url(PATH) == DEFAULT_TLC_URL + PATH

    def test_is_read_anew_by_each_hook(self, monkeypatch):
        for address in ("http://one.test", "http://two.test"):
            monkeypatch.setenv("NYC_TAXI_TLC_URL", address)
            assert TlcHook().url(PATH) == address + PATH


def with_login(url):
    return url.replace("http://", "http://me:s3s%40me@")


SENT = "Basic " + base64.b64encode(b"me:s3s@me").decode()


class TestALoginInTheAddress:
    """It is sent with each request, and shown nowhere."""

    @pytest.fixture(params=["setting", "connection", "connection without a scheme", "setting before connection"])
    def hook(self, request, tlc_site, monkeypatch, define):
        url = with_login(tlc_site.url)
        if request.param.startswith("setting"):
            monkeypatch.setenv("NYC_TAXI_TLC_URL", url)
        if request.param.startswith("connection"):
            define(host=url.removeprefix("http://") if "without" in request.param else url)
        if "before" in request.param:
            define(host="http://you:other@tlc.test", login="you", password="other")
        return TlcHook()

    def test_is_sent_but_is_not_part_of_the_url(self, hook, tlc_site):
        assert hook.url(PATH) == tlc_site.url + PATH
        response = hook.fetch(PATH, {})
        assert tlc_site.requests[0].headers["Authorization"] == SENT
        assert response.url == tlc_site.url + PATH
        with TlcHook("HEAD").get_conn() as session:
            assert session.auth.password == "s3s@me"

    def test_is_sent_but_not_logged_by_the_sensor(self, hook, tlc_site, caplog):
        caplog.set_level("DEBUG")
        sensor = TlcFileSensor(task_id="wait_for_file", endpoint=PATH)
        assert sensor.poke({}) is True
        assert tlc_site.requests[0].headers["Authorization"] == SENT
        assert tlc_site.url in caplog.text
        assert "s3s" not in caplog.text

    def test_is_in_no_log_file_or_error_of_a_download(self, hook, tlc_site, caplog):
        caplog.set_level("DEBUG")
        done = download_month(hook, "green", MONTH)
        assert done.edition.url == tlc_site.url + PATH
        notes = [file.read_text() for file in done.path.parent.glob("*.json")]
        assert len(notes) == 1
        tlc_site.add_fault(PATH, Status(401))
        with pytest.raises(DownloadError) as error:
            download_month(hook, "green", MONTH)
        for text in (*notes, str(error.value), caplog.text):
            assert "s3s" not in text

    def test_is_masked_in_both_spellings_if_a_library_logs_it(self, hook):
        hook.url(PATH)
        assert redact("the password is s3s@me") == "the password is ***"
        assert redact("http://me:s3s%40me@tlc.test") == "http://me:***@tlc.test"


class TestFetch:
    def test_returns_the_response_whatever_its_status(self, tlc_site, tlc_url):
        assert TlcHook().fetch(PATH, {}).status_code == 200
        for status in (403, 404, 429, 500):
            tlc_site.add_fault(PATH, Status(status), times=1)
            assert TlcHook().fetch(PATH, {}).status_code == status

    def test_sends_the_headers_of_the_caller_and_of_the_connection(self, tlc_site, tlc_url, define):
        define(extra={"X-Client": "nyc taxi"})
        TlcHook().fetch(PATH, {"If-None-Match": '"abc"'})
        (request,) = tlc_site.requests
        assert request.method == "GET"
        assert request.headers["X-Client"] == "nyc taxi"
        assert request.headers["If-None-Match"] == '"abc"'

    def test_sends_the_connections_login(self, tlc_site, tlc_url, define):
        define(login="me", password="secret")
        TlcHook().fetch(PATH, {})
        assert tlc_site.requests[0].headers["Authorization"].startswith("Basic ")

    def test_goes_through_the_connections_proxy(self, tlc_site, monkeypatch, define):
        monkeypatch.setenv("NYC_TAXI_TLC_URL", "http://tlc.test")
        define(extra={"proxies": {"http": tlc_site.url}})
        TlcHook().fetch(PATH, {})
        assert [request.path for request in tlc_site.requests] == [f"http://tlc.test{PATH}"]

    def test_does_not_read_the_body(self, tlc_url):
        response = TlcHook().fetch(PATH, {})
        assert not response._content_consumed
        assert len(response.content) == int(response.headers["Content-Length"])


class TestRecords:
    """The record of each request of a task."""

    @pytest.fixture(autouse=True)
    def in_a_task(self, monkeypatch):
        monkeypatch.setattr("tlc_hook.current_user", lambda: uses.User("d", "r", "t"))

    def test_a_command_leaves_none(self, tlc_url, data_dir, monkeypatch):
        monkeypatch.setattr("tlc_hook.current_user", uses.User)
        TlcHook().fetch(PATH, {})
        assert not data_dir.exists()

    def test_counts_requests_bytes_refusals_and_retries(self, tlc_site, tlc_url):
        hook = TlcHook()
        size = len(hook.fetch(PATH, {}).content)
        tlc_site.add_fault(PATH, Status(403), times=1)
        hook.fetch(PATH, {})
        with TlcHook("HEAD").get_conn() as session:
            session.head(hook.url(PATH))
        (use,) = uses.site_uses()
        refused = use.bytes - size  # the size of the message
        assert (use.requests, use.refused, use.retries) == (3, 1, 1)
        assert 0 <= refused < size

    def test_counts_a_request_that_got_no_answer(self, monkeypatch):
        monkeypatch.setenv("NYC_TAXI_TLC_URL", "http://127.0.0.1:1")
        with pytest.raises(requests.ConnectionError):
            TlcHook().fetch(PATH, {})
        (use,) = uses.site_uses()
        assert (use.requests, use.bytes, use.refused) == (1, 0, 0)

    def test_has_no_address_and_no_login(self, tlc_site, monkeypatch):
        monkeypatch.setenv("NYC_TAXI_TLC_URL", with_login(tlc_site.url))
        TlcHook().fetch(PATH, {})
        assert len(uses.site_uses()) == 1
        for file in uses.status_dir().iterdir():
            assert not any(word in file.read_text() for word in ("127.0.0.1", "parquet", "Basic", "://"))


class TestDownload:
    """Downloads through this hook, whose provider must not hide their errors."""

    def test_fetches_a_month_only_once(self, tlc_site, tlc_url):
        assert download_month(TlcHook(), "green", MONTH).fetched
        assert not download_month(TlcHook(), "green", MONTH).fetched
        assert [(request.method, request.status) for request in tlc_site.requests] == [("GET", 200), ("GET", 304)]

    def test_reports_an_unpublished_month(self, tlc_site, tlc_url):
        tlc_site.withdraw("green", MONTH)
        with pytest.raises(NotPublishedError):
            download_month(TlcHook(), "green", MONTH)

    @pytest.mark.parametrize("fault", [CutOff(0.5), Status(503, retry_after=0)], ids=str)
    def test_succeeds_at_the_second_attempt(self, tlc_site, tlc_url, fault):
        tlc_site.add_fault(PATH, fault, times=1)
        assert download_month(TlcHook(), "green", MONTH).fetched
        assert len(tlc_site.requests) == 2

    def test_fails_at_once_if_the_login_is_refused(self, tlc_site, tlc_url):
        tlc_site.add_fault(PATH, Status(401))
        with pytest.raises(DownloadError, match=r"found 401 .*the connection `tlc`"):
            download_month(TlcHook(), "green", MONTH)
        assert len(tlc_site.requests) == 1


class TestSensor:
    @pytest.fixture
    def sensor(self, tlc_url):
        return TlcFileSensor(
            task_id="wait_for_file",
            endpoint=PATH,
            mode="reschedule",
            poke_interval=timedelta(hours=6),
            timeout=timedelta(days=120),
        )

    def test_sees_a_published_file_with_one_head_request(self, sensor, tlc_site):
        assert sensor.poke({}) is True
        assert [(request.method, request.path) for request in tlc_site.requests] == [("HEAD", PATH)]

    @pytest.mark.parametrize("status", [403, 404])
    def test_treats_403_and_404_as_not_published_yet(self, sensor, tlc_site, status):
        tlc_site.add_fault(PATH, Status(status))
        assert sensor.poke({}) is False
        assert [(request.method, request.status) for request in tlc_site.requests] == [("HEAD", status)]

    @pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
    def test_fails_on_any_other_error_after_one_request(self, sensor, tlc_site, status):
        tlc_site.add_fault(PATH, Status(status))
        with pytest.raises(AirflowException, match=str(status)):
            sensor.poke({})
        assert [request.method for request in tlc_site.requests] == ["HEAD"]

    def test_fails_for_good_if_a_setting_is_invalid(self, sensor, monkeypatch):
        monkeypatch.setenv("NYC_TAXI_TLC_URL", "no address")
        with pytest.raises(AirflowFailException, match="NYC_TAXI_TLC_URL: expected"):
            sensor.poke({})

    def test_sees_the_file_once_it_is_published(self, sensor, tlc_site):
        tlc_site.withdraw("green", MONTH)
        assert sensor.poke({}) is False
        tlc_site.publish("green", MONTH)
        assert sensor.poke({}) is True

    def test_sends_the_connections_headers(self, sensor, tlc_site, define):
        define(extra={"X-Client": "nyc taxi"})
        sensor.poke({})
        assert tlc_site.requests[0].headers["X-Client"] == "nyc taxi"

    def test_frees_its_worker_after_each_request_until_the_month_is_published(self, sensor, tlc_site, monkeypatch):
        tlc_site.withdraw("green", MONTH)
        if IS_AIRFLOW_3:
            from airflow.sdk.exceptions import AirflowRescheduleException
        else:
            from airflow.exceptions import AirflowRescheduleException

            # 2.11 searches its metadata database for this task's first check: there was none.
            monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)
        instance = SimpleNamespace(
            dag_id="d", task_id="t", run_id="r", map_index=-1, max_tries=0, get_first_reschedule_date=lambda _: None
        )
        for checks in (1, 2, 3):
            with pytest.raises(AirflowRescheduleException) as error:
                sensor.execute({"ti": instance})
            assert [request.method for request in tlc_site.requests] == ["HEAD"] * checks
            assert sensor.poke_interval == timedelta(hours=6).total_seconds()
            assert error.value.reschedule_date is not None
        tlc_site.publish("green", MONTH)
        sensor.execute({"ti": instance})
        assert [request.status for request in tlc_site.requests] == [403, 403, 403, 200]
