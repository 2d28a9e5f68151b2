"""The simulated site, asked with plain `requests`."""

import hashlib
import io
import json
import socket
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
import requests

from include.nyc_taxi.errors import FleetError
from include.tlc_simulator import TlcSimulator, trips
from include.tlc_simulator.faults import (
    CutOff,
    ErrorPage,
    FaultRule,
    Slow,
    Status,
    WrongContent,
    WrongLength,
    parse_fault,
)

MONTH = "/trip-data/yellow_tripdata_2023-01.parquet"
OTHER_MONTH = "/trip-data/green_tripdata_2023-01.parquet"
LOOKUP = "/misc/taxi_zone_lookup.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the tests of this module share, so that each file is generated only once."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def tlc(folder: Path) -> Iterator[TlcSimulator]:
    with TlcSimulator(folder, rows=300) as simulator:
        yield simulator


def get(tlc: TlcSimulator, path: str = MONTH, **headers: str) -> requests.Response:
    return requests.get(tlc.url + path, headers={name.replace("_", "-"): v for name, v in headers.items()}, timeout=10)


def head(tlc: TlcSimulator, path: str = MONTH) -> requests.Response:
    return requests.head(tlc.url + path, timeout=10)


class TestFiles:
    def test_a_month_comes_with_the_headers_of_s3(self, tlc: TlcSimulator) -> None:
        answer = get(tlc)
        assert answer.status_code == 200
        assert answer.headers["ETag"] == f'"{hashlib.md5(answer.content).hexdigest()}"'
        assert answer.headers["Last-Modified"] == "Mon, 20 Mar 2023 14:30:00 GMT"
        assert answer.headers["Content-Length"] == str(len(answer.content))
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Content-Type"] == "binary/octet-stream"
        assert answer.content[:4] == answer.content[-4:] == b"PAR1"

    def test_head_says_what_get_says_without_a_body(self, tlc: TlcSimulator) -> None:
        answer, full = head(tlc), get(tlc)
        assert answer.content == b""
        for name in ("ETag", "Last-Modified", "Content-Length", "Accept-Ranges", "Content-Type"):
            assert answer.headers[name] == full.headers[name]

    def test_the_zone_files_are_there(self, tlc: TlcSimulator) -> None:
        lookup, shapes = get(tlc, LOOKUP), get(tlc, "/misc/taxi_zones.zip")
        assert lookup.content.startswith(b'"LocationID","Borough","Zone","service_zone"\r\n')
        assert lookup.headers["Content-Type"] == "text/csv"
        assert shapes.content[:2] == b"PK"
        assert shapes.headers["Content-Type"] == "application/zip"

    def test_zone_files_have_todays_layout_unless_the_old_one_is_asked_for(self, tmp_path: Path) -> None:
        answers = []
        for options in ({}, {"zones_layout": "2023"}, {"zones_layout": "2026"}):
            with TlcSimulator(tmp_path, **options) as tlc:  # type: ignore[arg-type]
                answers.append(get(tlc, "/misc/taxi_zones.zip"))
        names = [zipfile.ZipFile(io.BytesIO(answer.content)).namelist() for answer in answers]
        assert "taxi_zones/taxi_zones.shp" in names[0]
        assert "taxi_zones.shp" in names[1]
        assert names[2] == names[0]
        assert answers[0].headers["ETag"] == answers[2].headers["ETag"] != answers[1].headers["ETag"]
        assert answers[0].headers["Last-Modified"] != answers[1].headers["Last-Modified"]

    def test_zone_files_that_an_earlier_version_has_made_are_not_served(self, tmp_path: Path) -> None:
        (tmp_path / "taxi_zones.zip").write_bytes(b"PK of another layout")
        with TlcSimulator(tmp_path) as tlc:
            assert (
                "taxi_zones/taxi_zones.shp"
                in zipfile.ZipFile(io.BytesIO(get(tlc, "/misc/taxi_zones.zip").content)).namelist()
            )

    def test_an_unknown_layout_of_the_zones_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no layout '2022' of the zones"):
            TlcSimulator(tmp_path, zones_layout="2022")

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/misc/",
            "/trip-data/yellow_tripdata_2024-06.parquet",
            "/trip-data/green_tripdata_2013-12.parquet",
            "/trip-data/yellow_tripdata_2023-13.parquet",
            "/trip-data/purple_tripdata_2023-01.parquet",
            "/trip-data/../misc/taxi_zone_lookup.csv",
            "/misc/%2e%2e/%2e%2e/etc/passwd",
            "//etc/passwd",
        ],
    )
    def test_all_else_is_forbidden_as_on_the_real_site(self, path: str, tlc: TlcSimulator) -> None:
        with socket.create_connection(("127.0.0.1", int(tlc.url.rpartition(":")[2]))) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"<Code>AccessDenied</Code>" in answer

    def test_two_first_requests_make_one_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = []
        real = trips.write_month

        def slowly(path: Path, *arguments: object, **options: object) -> None:
            made.append(path)
            time.sleep(0.2)
            real(path, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(trips, "write_month", slowly)
        with TlcSimulator(tmp_path, rows=100) as tlc, ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: get(tlc), range(4)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len(made) == 1

    def test_files_of_a_folder_are_served_and_no_others(self, tmp_path: Path) -> None:
        (tmp_path / "site/trip-data").mkdir(parents=True)
        (tmp_path / "site/trip-data/fhv_tripdata_2020-04.parquet").write_bytes(b"PAR1 whatever PAR1")
        with TlcSimulator(tmp_path / "made", serve_folder=tmp_path / "site") as tlc:
            assert get(tlc, "/trip-data/fhv_tripdata_2020-04.parquet").content == b"PAR1 whatever PAR1"
            assert get(tlc, MONTH).status_code == 403
            assert get(tlc, LOOKUP).status_code == 403
        assert not (tmp_path / "made").exists()

    def test_real_files_are_served_as_they_are(self, tmp_path: Path, real_data: Path) -> None:
        with TlcSimulator(tmp_path, serve_folder=real_data / "tlc") as tlc:
            assert get(tlc, OTHER_MONTH).content == (real_data / f"tlc{OTHER_MONTH}").read_bytes()


class TestHttp:
    def test_a_known_etag_is_not_sent_again(self, tlc: TlcSimulator) -> None:
        etag = head(tlc).headers["ETag"]
        answer = get(tlc, If_None_Match=f'"other", {etag}')
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
        assert get(tlc, If_None_Match='"other"').status_code == 200

    def test_if_modified_since_compares_dates_unless_an_etag_is_given(self, tlc: TlcSimulator) -> None:
        modified = head(tlc).headers["Last-Modified"]
        assert get(tlc, If_Modified_Since=modified).status_code == 304
        assert get(tlc, If_Modified_Since="Sun, 19 Mar 2023 00:00:00 GMT").status_code == 200
        assert get(tlc, If_Modified_Since="the other day").status_code == 200
        assert get(tlc, If_Modified_Since=modified, If_None_Match='"other"').status_code == 200

    @pytest.mark.parametrize(
        ("span", "part"),
        [
            ("bytes=0-3", slice(0, 4)),
            ("bytes=100-", slice(100, None)),
            ("bytes=-8", slice(-8, None)),
            ("bytes=10-99999999", slice(10, None)),
        ],
    )
    def test_a_range_is_that_part_of_the_file(self, span: str, part: slice, tlc: TlcSimulator) -> None:
        full = get(tlc).content
        answer = get(tlc, Range=span)
        assert (answer.status_code, answer.content) == (206, full[part])
        begin, end, _ = part.indices(len(full))
        assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(full)}"

    def test_a_range_beyond_the_end_is_refused(self, tlc: TlcSimulator) -> None:
        size = head(tlc).headers["Content-Length"]
        answer = get(tlc, Range="bytes=99999999-")
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")

    def test_a_range_of_another_edition_gives_the_whole_file(self, tlc: TlcSimulator) -> None:
        headers = head(tlc).headers
        assert get(tlc, Range="bytes=0-3", If_Range=headers["ETag"]).status_code == 206
        assert get(tlc, Range="bytes=0-3", If_Range=headers["Last-Modified"]).status_code == 206
        assert get(tlc, Range="bytes=0-3", If_Range='"other"').status_code == 200

    def test_a_connection_is_kept_for_many_requests(self, tlc: TlcSimulator) -> None:
        with socket.create_connection(("127.0.0.1", int(tlc.url.rpartition(":")[2]))) as connection:
            for path in (LOOKUP, "/none", LOOKUP):
                connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert connection.recv(4096).endswith(b"\r\n\r\n")

    def test_requests_are_recorded(self, tlc: TlcSimulator) -> None:
        before = time.monotonic()
        head(tlc, LOOKUP)
        get(tlc, "/none", X_Why="test")
        first, second = tlc.requests
        assert (first.method, first.path, first.status) == ("HEAD", LOOKUP, 200)
        assert (second.method, second.path, second.status) == ("GET", "/none", 403)
        assert second.headers["X-Why"] == "test"
        assert before <= first.time <= second.time

    def test_stopping_ends_kept_connections_at_once(self, folder: Path) -> None:
        tlc = TlcSimulator(folder, rows=300).start()
        url = tlc.url
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as kept:
            kept.sendall(f"HEAD {LOOKUP} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert kept.recv(4096).startswith(b"HTTP/1.1 200 ")
            tlc.stop()
            tlc.stop()
            kept.setblocking(False)
            assert kept.recv(1) == b"", "the connection was still open"
        with pytest.raises(requests.ConnectionError):
            requests.get(url + LOOKUP, timeout=10)


class TestPublishing:
    def test_months_within_the_span_are_published(self, folder: Path) -> None:
        with TlcSimulator(folder, rows=300, first_month="2023-01", last_month="2023-01", fleets=["yellow"]) as tlc:
            assert head(tlc, "/trip-data/yellow_tripdata_2022-12.parquet").status_code == 403
            assert head(tlc, MONTH).status_code == 200
            assert head(tlc, "/trip-data/yellow_tripdata_2023-02.parquet").status_code == 403
            assert head(tlc, OTHER_MONTH).status_code == 403

    def test_a_month_can_be_published_and_withdrawn(self, tlc: TlcSimulator) -> None:
        path = "/trip-data/green_tripdata_2024-06.parquet"
        assert head(tlc, path).status_code == 403
        tlc.publish("green", "2024-06")
        assert head(tlc, path).status_code == 200
        tlc.withdraw("green", "2024-06")
        assert head(tlc, path).status_code == 403

    def test_a_republished_month_is_another_edition(self, tlc: TlcSimulator) -> None:
        first = get(tlc)
        tlc.republish("yellow", "2023-01")
        second = get(tlc, If_None_Match=first.headers["ETag"])
        assert second.status_code == 200
        assert second.content != first.content
        assert second.headers["ETag"] != first.headers["ETag"]
        assert second.headers["Last-Modified"] == "Wed, 19 Apr 2023 14:30:00 GMT"

    def test_publishing_what_cannot_be_is_an_error(self, tlc: TlcSimulator) -> None:
        with pytest.raises(FleetError, match="yelow"):
            tlc.publish("yelow", "2023-01")
        with pytest.raises(ValueError, match="2014-01"):
            tlc.withdraw("green", "2013-01")


class TestFaults:
    @pytest.mark.parametrize("code", [403, 404, 500, 503])
    def test_a_status_befalls_so_many_requests_and_no_more(self, code: int, tlc: TlcSimulator) -> None:
        tlc.add_fault("yellow", Status(code), times=2)
        assert get(tlc, OTHER_MONTH).status_code == 200
        assert [get(tlc).status_code for _ in range(3)] == [code, code, 200]

    def test_too_many_requests_says_when_to_come_again(self, tlc: TlcSimulator) -> None:
        tlc.add_fault("", Status(429, retry_after=7))
        assert (get(tlc).status_code, get(tlc).headers["Retry-After"]) == (429, "7")

    def test_a_fault_can_be_for_one_method(self, tlc: TlcSimulator) -> None:
        tlc.add_fault("", Status(500), methods=("HEAD",))
        assert (head(tlc).status_code, get(tlc).status_code) == (500, 200)

    def test_the_first_fault_that_matches_wins_until_it_is_used_up(self, tlc: TlcSimulator) -> None:
        tlc.add_fault("trip-data", Status(503), times=1)
        tlc.add_fault("yellow", Status(404), times=1)
        assert [get(tlc).status_code for _ in range(3)] == [503, 404, 200]

    def test_faults_can_be_cleared(self, tlc: TlcSimulator) -> None:
        tlc.add_fault("", Status(503))
        assert get(tlc).status_code == 503
        tlc.clear_faults()
        assert get(tlc).status_code == 200

    def test_a_slow_answer_is_right_but_late(self, tlc: TlcSimulator) -> None:
        tlc.add_fault("", Slow(before=0.2, per_chunk=0.1))
        begin = time.monotonic()
        answer = get(tlc)
        assert time.monotonic() - begin >= 0.3
        assert answer.headers["ETag"] == f'"{hashlib.md5(answer.content).hexdigest()}"'

    def test_a_cut_off_transfer_breaks_half_way(self, tlc: TlcSimulator) -> None:
        tlc.add_fault("", CutOff(after=0.5), times=1)
        answer = requests.get(tlc.url + MONTH, stream=True, timeout=10)
        received: list[bytes] = []
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            received.extend(answer.iter_content(100))
        assert 0 < len(b"".join(received)) <= int(answer.headers["Content-Length"]) / 2
        assert len(get(tlc).content) == int(answer.headers["Content-Length"])

    def test_a_length_can_be_too_large_or_too_small(self, tlc: TlcSimulator) -> None:
        size = int(head(tlc).headers["Content-Length"])
        tlc.add_fault("", WrongLength(by=100), times=1)
        tlc.add_fault("", WrongLength(by=-100), times=1)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            get(tlc)
        assert len(get(tlc).content) == size - 100
        assert len(get(tlc).content) == size

    def test_an_error_page_claims_success(self, tlc: TlcSimulator) -> None:
        tlc.add_fault("", ErrorPage("html"), times=1)
        tlc.add_fault("", ErrorPage("xml"), times=1)
        html, xml = get(tlc), get(tlc)
        assert (html.status_code, html.headers["Content-Type"]) == (200, "text/html")
        assert (xml.status_code, xml.headers["Content-Type"]) == (200, "application/xml")
        assert b"<html>" in html.content
        assert xml.content.startswith(b"<?xml")

    def test_wrong_content_has_the_right_length_but_is_no_parquet_file(self, tlc: TlcSimulator, tmp_path: Path) -> None:
        right = get(tlc)
        tlc.add_fault("", WrongContent(), times=1)
        wrong = get(tlc)
        assert wrong.headers["ETag"] == right.headers["ETag"]
        assert len(wrong.content) == len(right.content)
        (tmp_path / "wrong.parquet").write_bytes(wrong.content)
        with pytest.raises(duckdb.Error, match=r"[Pp]arquet"):
            duckdb.sql(f"FROM '{tmp_path}/wrong.parquet'")

    @pytest.mark.parametrize(
        ("spec", "rule"),
        [
            ("503*2:/trip-data/yellow", FaultRule("/trip-data/yellow", Status(503), 2)),
            ("429=5", FaultRule("", Status(429, retry_after=5))),
            ("429", FaultRule("", Status(429, retry_after=1))),
            ("cut*1@GET:2023-01", FaultRule("2023-01", CutOff(), 1, ("GET",))),
            ("slow=0.5", FaultRule("", Slow(0.5, 0.5))),
            ("wrong-length=-3", FaultRule("", WrongLength(-3))),
            ("error-page=xml", FaultRule("", ErrorPage("xml"))),
            ("wrong-content=0.9:.parquet", FaultRule(".parquet", WrongContent(0.9))),
        ],
    )
    def test_a_fault_can_be_written_in_a_command(self, spec: str, rule: FaultRule) -> None:
        assert parse_fault(spec) == rule

    @pytest.mark.parametrize("spec", ["", "403*", "599", "200", "cut=half", "error-page=pdf", "sloow", "503@PUT"])
    def test_what_is_no_fault_is_refused(self, spec: str) -> None:
        with pytest.raises(ValueError, match="is not a fault"):
            parse_fault(spec)


def test_importing_the_package_is_light(start_python) -> None:  # type: ignore[no-untyped-def]
    process = start_python(
        "import json, sys, include.tlc_simulator\n"
        "print(json.dumps([m for m in ('duckdb', 'geopandas', 'shapely', 'pandas', 'airflow') if m in sys.modules]))"
    )
    assert json.loads(process.communicate(timeout=60)[0]) == []
