"""What the pages show of the outputs folder, and what they do not reveal."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from include.nyc_taxi import settings
from include.nyc_taxi.web import pages

PNG = b"\x89PNG\r\n\x1a\n and so on"
BASE = "/airflow/nyc-taxi"


@pytest.fixture
def put():
    """Put a file with any name into the outputs folder."""

    def put_file(path, content=PNG):
        file = settings.outputs_root() / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return put_file


@pytest.fixture
def month_files(put):
    """The outputs of three months of a fleet, as runs leave them, and those of all months."""
    for month in ("2023-01", "2023-02", "2023-03"):
        put(f"green/manhattan_map_{month}.png")
        put(f"green/manhattan_stats_{month}.geojson", geojson([{"zone": "Soho", "num_trips": 7}]))
    put("green/manhattan_map.png")
    put("green/manhattan_stats.geojson", geojson([{"zone": "Soho", "num_trips": 21}]))


def geojson(properties):
    features = [{"type": "Feature", "properties": facts, "geometry": None} for facts in properties]
    return json.dumps({"type": "FeatureCollection", "features": features})


def html(answer, status=200):
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer.body.decode()


def body(answer):
    """The whole body, whether it is sent at once or in chunks."""
    return answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)


def links(text):
    return [unquote(link) for link in re.findall(r'href="([^"]*)"', text)]


class TestRelativePath:
    def test_of_a_file_that_a_task_has_made_is_what_links_name_it_by(self):
        made = settings.outputs_dir("green") / "manhattan_map_2023-02.png"
        assert pages.relative_path(made) == "green/manhattan_map_2023-02.png"
        assert pages.relative_path(str(made)) == "green/manhattan_map_2023-02.png"

    def test_of_a_path_that_is_relative_already_is_the_same(self):
        assert pages.relative_path("green/manhattan_map.png") == "green/manhattan_map.png"

    def test_of_a_file_elsewhere_says_where_it_had_to_be(self):
        for elsewhere in (settings.raw_dir() / "trips.parquet", "../raw/trips.parquet"):
            with pytest.raises(ValueError, match=r"trips\.parquet is not in the outputs folder .*/data/outputs"):
                pages.relative_path(elsewhere)


class TestFind:
    def test_finds_a_picture_and_figures(self, put):
        for path in ("green/map.png", "requests/7/trips.csv", "green/stats.geojson", "Überblick mit Leerzeichen.png"):
            file = put(path, b"12345")
            found = pages.find(path)
            assert (found.path, found.file, found.bytes) == (path, file, 5)

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            ".",
            "..",
            "green",
            "green/",
            "green//map.png",
            "./green/map.png",
            "green/../green/map.png",
            "../outputs/green/map.png",
            "../secret.png",
            "green/../../secret.png",
            "..\\secret.png",
            "green/map.png/",
            "green/map.png/x.png",
            "green/.map.png",
            ".hidden/map.png",
            "green/notes.txt",
            "green/map.PNG.part",
            "green/folder.png",
            "green/missing.png",
            "green/map.png\0",
            "green/\0.png",
            "green/new\nline.png",
            "green/" + "x" * 5000 + ".png",
            "x/" * 3000 + "map.png",
        ],
    )
    def test_finds_nothing_else(self, put, path):
        put("green/map.png")
        put("green/.map.png")
        put(".hidden/map.png")
        put("green/notes.txt")
        put("../secret.png")
        put("green/new\nline.png")
        (settings.outputs_root() / "green/folder.png").mkdir()
        assert pages.find(path) is None

    def test_finds_no_absolute_path(self, put):
        file = put("green/map.png")
        assert pages.find(str(file)) is None
        assert pages.find("/" + str(file)) is None

    def test_follows_no_link_that_leads_out_or_to_what_is_not_shown(self, put, tmp_path):
        inside, hidden, notes = put("green/map.png"), put("green/.map.png"), put("green/notes.txt")
        outside, figures, nowhere = put("../secret.png"), put("green/a.csv"), tmp_path / "nowhere.png"
        for name, target in {"1": outside, "2": hidden, "3": notes, "4": nowhere, "5": figures}.items():
            (settings.outputs_root() / f"green/link{name}.png").symlink_to(target)
        (settings.outputs_root() / "up").symlink_to(settings.data_dir())
        (settings.outputs_root() / "round.png").symlink_to("round.png")
        for path in ("round.png", *(f"green/link{number}.png" for number in range(1, 6))):
            assert pages.find(path) is None, path
        assert pages.find("up/secret.png") is None

        (settings.outputs_root() / "latest.png").symlink_to(inside)
        assert pages.find("latest.png").bytes == len(PNG)

    def test_finds_what_is_in_an_outputs_folder_that_is_itself_a_link(self, put, tmp_path):
        (tmp_path / "big-disk").mkdir()
        settings.data_dir().mkdir()
        settings.outputs_root().symlink_to(tmp_path / "big-disk")
        put("green/map.png")
        assert pages.find("green/map.png").path == "green/map.png"

    def test_finds_nothing_where_nothing_has_been_made(self):
        assert pages.find("green/map.png") is None
        assert pages.list_outputs() == []


class TestFile:
    def test_that_is_a_picture_is_shown(self, put):
        put("green/map.png")
        answer = pages.file_answer(BASE, "green/map.png")
        assert (answer.status, body(answer)) == (200, PNG)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''map.png"

    @pytest.mark.parametrize(
        ("name", "media_type"), [("a.csv", "text/csv; charset=utf-8"), ("a.geojson", "application/geo+json")]
    )
    def test_that_holds_figures_is_downloaded(self, put, name, media_type):
        put(name, "<script>alert(1)</script>")
        answer = pages.file_answer(BASE, name)
        assert body(answer) == b"<script>alert(1)</script>"
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{name}"

    def test_is_never_more_to_the_browser_than_it_is(self, put):
        put("green/map.png")
        headers = pages.file_answer(BASE, "green/map.png").headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "sandbox" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "private, no-cache"

    def test_with_a_strange_name_breaks_no_header(self, put):
        put('a";\u20ac.csv', "x")
        headers = pages.file_answer(BASE, 'a";\u20ac.csv').headers
        assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%22%3B%E2%82%AC.csv"
        assert all(value.isascii() for value in headers.values())

    def test_that_is_not_there_is_a_page_that_says_so(self, put):
        put("../secret.png")
        for path in ("green/map.png", "../secret.png"):
            assert "No such output" in html(pages.file_answer(BASE, path), status=404)


class TestPartsOfAFile:
    """The response if the browser already has the file, or requests a part of it."""

    @pytest.fixture(autouse=True)
    def file(self, put):
        return put("a.csv", b"0123456789")

    def answer(self, **asked):
        return pages.file_answer(BASE, "a.csv", {name.replace("_", "-"): value for name, value in asked.items()})

    @pytest.mark.parametrize(
        ("asked", "sent", "span"),
        [
            ("bytes=0-3", b"0123", "bytes 0-3/10"),
            ("bytes=4-4", b"4", "bytes 4-4/10"),
            ("bytes=7-", b"789", "bytes 7-9/10"),
            ("bytes=7-99", b"789", "bytes 7-9/10"),
            ("bytes=-3", b"789", "bytes 7-9/10"),
            ("bytes=-99", b"0123456789", "bytes 0-9/10"),
            ("Bytes=0-0", b"0", "bytes 0-0/10"),
        ],
    )
    def test_a_range_is_sent_alone(self, asked, sent, span):
        answer = self.answer(Range=asked)
        assert (answer.status, body(answer)) == (206, sent)
        assert answer.headers["Content-Range"] == span
        assert answer.headers["Content-Length"] == str(len(sent))

    @pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999999999999999-"])
    def test_a_range_that_is_not_in_the_file_is_refused(self, asked):
        answer = self.answer(Range=asked)
        assert (answer.status, answer.body) == (416, b"")
        assert answer.headers["Content-Range"] == "bytes */10"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize(
        "asked", ["", "bytes=-", "bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes", "bytes=" + "9" * 5000]
    )
    def test_for_what_is_no_range_and_for_several_the_whole_file_is_sent(self, asked):
        answer = self.answer(Range=asked)
        assert (answer.status, body(answer)) == (200, b"0123456789")
        assert answer.headers["Content-Length"] == "10"
        assert answer.headers["Accept-Ranges"] == "bytes"

    def test_of_an_empty_file_no_range_can_be_sent_but_the_whole_can(self, file):
        file.write_bytes(b"")
        assert (self.answer().status, body(self.answer())) == (200, b"")
        assert self.answer(Range="bytes=0-").status == 416

    def test_a_range_of_another_edition_is_not_mixed_with_this_one(self, file, tmp_path):
        etag = self.answer().headers["ETag"]
        assert self.answer(Range="bytes=3-", If_Range=etag).status == 206
        other = file.with_name("other")
        other.write_bytes(b"abcdefghij")
        other.replace(file)
        answer = self.answer(Range="bytes=3-", If_Range=etag)
        assert (answer.status, body(answer)) == (200, b"abcdefghij")
        date = answer.headers["Last-Modified"]
        assert self.answer(Range="bytes=3-", If_Range=date).status == 200, "two editions can have the same date"

    def test_what_the_browser_has_is_not_sent_again(self, file):
        headers = self.answer().headers
        etag, date = headers["ETag"], headers["Last-Modified"]
        for asked in (
            {"If_None_Match": etag},
            {"If_None_Match": f'"x", W/{etag}'},
            {"If_None_Match": "*"},
            {"If_Modified_Since": date},
            {"If_None_Match": etag, "Range": "bytes=0-1"},
        ):
            answer = self.answer(**asked)
            assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
        for asked in (
            {"If_None_Match": '"x"'},
            {"If_None_Match": '"x"', "If_Modified_Since": date},
            {"If_Modified_Since": "Sun, 01 Jan 2023 00:00:00 GMT"},
            {"If_Modified_Since": "nonsense"},
        ):
            assert self.answer(**asked).status == 200
        os.utime(file, ns=(0, 10**18 + 1))
        assert self.answer(If_None_Match=etag).status == 200

    def test_head_has_the_same_headers_and_no_body(self):
        for answer in (
            self.answer(),
            self.answer(Range="bytes=0-1"),
            pages.index_page(BASE),
            pages.file_answer(BASE, "missing.csv"),
        ):
            length = len(body(answer))
            head = answer.without_body()
            assert (head.status, head.body) == (answer.status, b"")
            assert head.headers == answer.headers | {"Content-Length": str(length)}

    def test_a_large_file_comes_piece_by_piece(self, file, monkeypatch):
        monkeypatch.setattr(pages, "CHUNK_BYTES", 4)
        assert list(self.answer().body) == [b"0123", b"4567", b"89"]
        assert list(self.answer(Range="bytes=1-5").body) == [b"1234", b"5"]

    def test_a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was(self, file, monkeypatch):
        monkeypatch.setattr(pages, "CHUNK_BYTES", 4)
        answer = self.answer()
        first = next(answer.body)
        other = file.with_name("other")
        other.write_bytes(b"abc")
        other.replace(file)
        assert first + body(answer) == b"0123456789"

    def test_files_are_closed_again(self, file):
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            body(self.answer())
            self.answer().without_body()
            self.answer().body.close()
            self.answer(Range="bytes=20-")
            self.answer(If_None_Match="*")
            pages.find("a.csv")
            pages.output_page(BASE, "a.csv")
            pages.find("missing.csv")
        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestAFileThatIsSwappedWhileItIsOpened:
    """Somebody replaces a path by a link after it has been checked and before it is opened."""

    @pytest.fixture
    def swap(self, monkeypatch):
        """Do something after the path has been checked."""

        def swap_then(action):
            real = pages._opened

            def opened(stack, name, flags, folder=None):
                if folder is None:
                    action()
                return real(stack, name, flags, folder)

            monkeypatch.setattr(pages, "_opened", opened)

        return swap_then

    def test_for_a_link_that_leads_out_is_not_shown(self, put, swap):
        file, secret = put("green/a.csv", "a\n1\n"), put("../secret.csv", "secret\n1\n")

        def replace():
            file.unlink(missing_ok=True)
            file.symlink_to(secret)

        swap(replace)
        assert pages.file_answer(BASE, "green/a.csv").status == 404

    def test_for_a_folder_that_is_a_link_out_is_not_shown(self, put, swap):
        file = put("green/a.csv", "a\n1\n")
        put("../secret/a.csv", "secret\n1\n")

        def replace():
            if not file.parent.is_symlink():
                file.parent.rename(file.parent.with_name("elsewhere"))
                file.parent.symlink_to(settings.data_dir() / "secret")

        swap(replace)
        assert pages.file_answer(BASE, "green/a.csv").status == 404
        assert pages.output_page(BASE, "green/a.csv").status == 404

    def test_for_a_pipe_is_not_waited_for(self, put, swap):
        file = put("green/a.csv", "a\n1\n")

        def replace():
            file.unlink()
            os.mkfifo(file)

        swap(replace)
        assert pages.file_answer(BASE, "green/a.csv").status == 404


class TestOutputPage:
    def test_shows_the_picture_and_what_it_is_of(self, month_files):
        text = html(pages.output_page(BASE, "green/manhattan_map_2023-02.png"))
        assert "<h1>Manhattan map, February 2023</h1>" in text
        assert "<title>Green taxis: Manhattan map, February 2023</title>" in text
        assert f'<img src="{BASE}/files/green/manhattan_map_2023-02.png"' in text

    def test_links_to_the_month_before_and_the_month_after(self, month_files):
        def neighbours(path):
            text = html(pages.output_page(BASE, path))
            found = re.findall(r'rel="(\w+)" href="([^"]*)"', text)
            return {how: link.removeprefix(f"{BASE}/outputs/green/manhattan_map") for how, link in found}

        assert neighbours("green/manhattan_map_2023-01.png") == {"next": "_2023-02.png"}
        assert neighbours("green/manhattan_map_2023-02.png") == {"prev": "_2023-01.png", "next": "_2023-03.png"}
        assert neighbours("green/manhattan_map_2023-03.png") == {"prev": "_2023-02.png"}
        assert neighbours("green/manhattan_map.png") == {}

    def test_links_to_the_same_figures_and_to_no_other_months(self, month_files):
        found = links(html(pages.output_page(BASE, "green/manhattan_map_2023-02.png")))
        assert f"{BASE}/files/green/manhattan_stats_2023-02.geojson" in found
        assert f"{BASE}/outputs/green/manhattan_stats_2023-02.geojson" in found
        assert not [link for link in found if "stats_2023-01" in link or link.endswith("stats.geojson")]

    def test_a_map_of_trips_per_area_is_titled_and_linked_with_the_map_of_trips_and_their_figures(
        self, month_files, put
    ):
        put("green/manhattan_map_density_2023-02.png")
        text = html(pages.output_page(BASE, "green/manhattan_map_density_2023-02.png"))
        assert "<h1>Manhattan map density, February 2023</h1>" in text
        assert f"{BASE}/outputs/green/manhattan_map_2023-02.png" in links(text)
        assert f"{BASE}/files/green/manhattan_stats_2023-02.geojson" in links(text)

    def test_links_a_chart_and_its_figures(self, put):
        put("green/trips_by_week.png")
        put("green/trips_by_week.csv", "period,num_trips\n2023-01-02,7\n")
        assert f"{BASE}/files/green/trips_by_week.csv" in links(
            html(pages.output_page(BASE, "green/trips_by_week.png"))
        )

    def test_lists_the_folders_other_outputs_and_none_of_another_folder(self, month_files, put):
        put("yellow/manhattan_map_2023-02.png")
        found = links(html(pages.output_page(BASE, "green/manhattan_map_2023-02.png")))
        for name in ("manhattan_map", "manhattan_map_2023-01", "manhattan_map_2023-02", "manhattan_map_2023-03"):
            assert f"{BASE}/outputs/green/{name}.png" in found
        assert not [link for link in found if "yellow" in link]

    def test_shows_figures_as_a_table(self, put):
        put("requests/7.csv", "zone,trips\n" + "".join(f"<b>Zone {i}</b>,{i}\n" for i in range(130)))
        text = html(pages.output_page(BASE, "requests/7.csv"))
        assert "<th>zone</th><th>trips</th>" in text
        assert "<td>&lt;b&gt;Zone 99&lt;/b&gt;</td><td>99</td>" in text
        assert "Zone 100" not in text
        assert "and 30 more rows" in text

    def test_shows_the_properties_of_geojson_as_a_table(self, put):
        put("stats.geojson", geojson([{"zone": "Soho & co", "num_trips": 7}, {"num_trips": 8}]))
        text = html(pages.output_page(BASE, "stats.geojson"))
        assert "<td>Soho &amp; co</td><td>7</td>" in text
        assert "<td></td><td>8</td>" in text
        assert "more rows" not in text

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.csv", b""),
            ("a.csv", b"\xff\xfe\x00"),
            ("a.csv", b"a\n" + b"x" * 200_000),
            ("a.geojson", b"{"),
            ("a.geojson", b"[1]"),
            ("a.geojson", b'{"features": []}'),
            ("a.geojson", b'{"features": [{"properties": null}]}'),
            ("a.geojson", b'{"features": [{"properties": {"a": 1}}, {"properties": null}]}'),
            ("a.geojson", b"[" * 100_000),
            ("a.geojson", b'{"features": [{"properties": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}]}"),
            ("a.geojson", b'{"a":' * 100_000),
            ("a.csv", b"a," * 201 + b"\n1\n"),
        ],
    )
    def test_of_a_damaged_file_has_no_table_but_the_download(self, put, name, content):
        put(name, content)
        text = html(pages.output_page(BASE, name))
        assert "<table>" not in text
        assert "This file cannot be shown here" in text
        assert f"{BASE}/files/{name}" in links(text)

    def test_of_long_values_has_their_beginnings(self, put):
        put("a.csv", "a\n" + "x" * 100_000 + "\n1" + ",2" * 5000)
        text = html(pages.output_page(BASE, "a.csv"))
        assert f"<td>{'x' * pages.CELL_CHARACTERS}…</td>" in text
        assert len(text) < 20_000

    def test_of_a_picture_does_not_say_that_it_cannot_be_shown(self, put):
        put("a.png")
        assert "cannot be shown" not in html(pages.output_page(BASE, "a.png"))

    def test_of_a_large_file_has_no_table(self, put, monkeypatch):
        monkeypatch.setattr(pages, "TABLE_BYTES", 10)
        put("a.csv", "a,b\n" + "1,2\n" * 10)
        assert "<table>" not in html(pages.output_page(BASE, "a.csv"))

    def test_of_what_is_not_there_says_so_without_repeating_the_request(self):
        for path in ("green/<script>.png", "../secret.png"):
            text = html(pages.output_page(BASE, path), status=404)
            assert "No such output" in text
            assert "script" not in text
            assert "secret" not in text


class TestIndex:
    def test_lists_what_is_there_by_folder_with_what_belongs_together_in_one_row(self, month_files, put):
        put("requests/zone 7.csv", "a\n1\n")
        put(".hidden/map.png")
        put("green/.manhattan_map.lock")
        text = html(pages.index_page(BASE))
        assert re.findall("<h2>(.*)</h2>", text) == ["Green taxis", "Requests"]
        rows = re.findall(r"<td><a href=\"([^\"]*)\">([^<]*)</a></td>", text)
        assert rows == [
            (f"{BASE}/outputs/green/manhattan_map.png", "Manhattan map"),
            (f"{BASE}/outputs/green/manhattan_map_2023-01.png", "Manhattan map, January 2023"),
            (f"{BASE}/outputs/green/manhattan_map_2023-02.png", "Manhattan map, February 2023"),
            (f"{BASE}/outputs/green/manhattan_map_2023-03.png", "Manhattan map, March 2023"),
            (f"{BASE}/outputs/requests/zone%207.csv", "zone 7"),
        ]
        assert f"{BASE}/files/green/manhattan_stats_2023-01.geojson" in links(text)
        assert "hidden" not in text
        assert ".lock" not in text

    def test_links_only_to_what_is_found(self, month_files, put):
        put("requests/a b & <c>?#%41'\".csv", "a\n1\n")
        put("requests/deeper/Überblick.png")
        put("top.png")
        warehouse, *found = links(html(pages.index_page(BASE)).replace("&#39;", "'").replace("&#34;", '"'))
        assert warehouse == f"{BASE}/warehouse/#/outputs"
        for link in found:
            kind, _, path = link.removeprefix(f"{BASE}/").partition("/")
            assert kind in ("outputs", "files")
            assert pages.find(path), path

    def test_has_nothing_that_the_user_may_not_see_in_any_way(self, month_files, put):
        put("requests/queens.csv", "a\n1\n")

        def may_see(path):
            return not path.startswith("green/") or path == "green/manhattan_map_2023-02.png"

        text = html(pages.index_page(BASE, may_see))
        assert "queens" in text
        assert "2023-01" not in text
        shown = html(pages.output_page(BASE, "green/manhattan_map_2023-02.png", None, may_see))
        assert not any(word in shown for word in ("2023-01", "2023-03", "geojson"))
        html(pages.output_page(BASE, "green/manhattan_map_2023-01.png", None, may_see), status=404)
        html(pages.file_answer(BASE, "green/manhattan_map_2023-01.png", {}, may_see), status=404)

    def test_escapes_names(self, put):
        put("<img src=x onerror=alert(1)>/<script>alert('1')<_script>.png")
        put('green/"><b>.png')
        text = html(pages.index_page(BASE))
        for page in (text, html(pages.output_page(BASE, 'green/"><b>.png'))):
            assert "<script" not in page
            assert "<img src=x" not in page
            assert "<b>" not in page

    def test_says_so_when_there_are_none_and_not_where_they_are_on_the_server(self):
        text = html(pages.index_page(BASE))
        assert "There are no outputs yet" in text
        assert str(settings.data_dir()) not in text

    def test_lists_links_as_what_they_lead_to_and_none_that_leads_out_or_to_another_kind(self, put, tmp_path):
        put("green/map.png", b"12345")
        put("green/stats.geojson", "{}")
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/secret.png").write_bytes(b"secret")
        root = settings.outputs_root()
        for name, target in {
            "latest.png": "green/map.png",
            "wrong.png": "green/stats.geojson",
            "out.png": tmp_path / "outside/secret.png",
            "out": tmp_path / "outside",
            "also_green": "green",
        }.items():
            (root / name).symlink_to(target)
        listed = {output.path: output.bytes for output in pages.list_outputs()}
        assert listed == {"green/map.png": 5, "green/stats.geojson": 2, "latest.png": 5}
        assert [output.path for output in pages.list_outputs("also_green")] == [
            "also_green/map.png",
            "also_green/stats.geojson",
        ]
        assert pages.list_outputs("out") == []

    def test_leaves_out_names_that_no_address_can_hold(self, put):
        root = settings.outputs_root()
        root.mkdir(parents=True)
        with open(os.fsencode(root) + b"/\xff.png", "wb"):  # noqa: PTH123 - the name is not valid UTF-8
            pass
        assert "<table>" not in html(pages.index_page(BASE))


def test_a_page_runs_nothing_and_loads_nothing_from_elsewhere(month_files):
    for answer in (pages.index_page(BASE), pages.output_page(BASE, "green/manhattan_map.png")):
        text = answer.body.decode()
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; img-src 'self'; style-src 'sha256-")
        assert "<script" not in text
        assert not re.findall(r"\bon\w+=|style=|https?:|//\w", text)
        (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
        allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{allowed}'" in policy, "the browser would refuse the page's own style"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


class TestDbtDocs:
    """dbt's page of all tables: it brings scripts of its own, which nothing but the sandbox keeps from the session."""

    def test_is_sent_whole_or_not_at_all_to_a_browser_that_has_it(self):
        settings.dbt_docs().parent.mkdir(parents=True)
        settings.dbt_docs().write_text("<script>tables</script>")
        answer = pages.dbt_docs_answer(BASE)
        assert (answer.status, body(answer)) == (200, b"<script>tables</script>")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert pages.dbt_docs_answer(BASE, {"If-None-Match": answer.headers["ETag"]}).status == 304

    def test_may_run_its_scripts_but_has_no_origin_and_loads_nothing(self):
        settings.dbt_docs().parent.mkdir(parents=True)
        settings.dbt_docs().write_text("")
        directives = dict(
            part.strip().partition(" ")[::2]
            for part in pages.dbt_docs_answer(BASE).headers["Content-Security-Policy"].split(";")
        )
        assert directives["sandbox"] == "allow-scripts"
        assert directives["default-src"] == "'none'"
        assert not {"connect-src", "frame-src"} & directives.keys()
        assert {directives[name] for name in ("img-src", "font-src")} == {"data:"}

    def test_is_linked_from_the_list_once_it_exists(self):
        assert f"{BASE}/dbt" not in links(html(pages.index_page(BASE)))
        settings.dbt_docs().parent.mkdir(parents=True)
        settings.dbt_docs().write_text("")
        assert f"{BASE}/dbt" in links(html(pages.index_page(BASE)))

    def test_says_how_to_make_it_if_it_does_not_exist_or_is_a_link(self, tmp_path):
        assert "make dbt-docs" in html(pages.dbt_docs_answer(BASE), 404)
        settings.dbt_docs().parent.mkdir(parents=True)
        (tmp_path / "secret").write_text("secret")
        settings.dbt_docs().symlink_to(tmp_path / "secret")
        assert "secret" not in html(pages.dbt_docs_answer(BASE), 404)
