"""Small copies of pictures: what a browser gets, and what is left as it is."""

import io
from pathlib import Path

import pytest
from PIL import Image

from include.nyc_taxi import settings
from include.nyc_taxi.web import pages, thumbnails

BASE = "/nyc-taxi"
MAP = Path(__file__).parents[1] / "browser/recorded/map.png"
PATH = "green/manhattan_map_2023-01.png"


@pytest.fixture
def picture():
    file = settings.outputs_root() / PATH
    file.parent.mkdir(parents=True)
    file.write_bytes(MAP.read_bytes())
    return file


def size(answer):
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.body)) as picture:
        return picture.size


def test_a_thumbnail_is_a_tenth_of_the_picture_with_the_same_shape(picture):
    answer = thumbnails.thumbnail_answer(BASE, PATH)
    width, height = size(answer)
    assert (width, height) == (360, 468)
    assert len(answer.body) < picture.stat().st_size / 10


def test_a_browser_keeps_the_thumbnail_of_the_version_that_its_address_names(picture):
    now = pages.find(PATH).version
    assert "immutable" in thumbnails.thumbnail_answer(BASE, PATH, {}, now).headers["Cache-Control"]
    for other in ("", "older"):
        answer = thumbnails.thumbnail_answer(BASE, PATH, {}, other)
        assert answer.headers["Cache-Control"] == "private, no-cache"
        known = thumbnails.thumbnail_answer(BASE, PATH, {"If-None-Match": answer.headers["ETag"]}, other)
        assert (known.status, known.body) == (304, b"")


def test_a_picture_that_is_made_again_has_another_thumbnail(picture):
    before = thumbnails.thumbnail_answer(BASE, PATH)
    other = picture.with_name("other")
    Image.new("RGB", (900, 300), "red").save(other, "PNG")
    other.replace(picture)
    after = thumbnails.thumbnail_answer(BASE, PATH)
    assert size(after) == (360, 120)
    assert before.headers["ETag"] != after.headers["ETag"]


def test_a_transparent_picture_stands_on_white(picture):
    Image.new("RGBA", (500, 500), (255, 0, 0, 0)).save(picture, "PNG")
    with Image.open(io.BytesIO(thumbnails.thumbnail_answer(BASE, PATH).body)) as made:
        assert made.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("case", ["damaged", "cut", "another kind", "large"])
def test_a_picture_that_cannot_be_made_smaller_is_sent_as_it_is(picture, monkeypatch, case):
    content = picture.read_bytes()
    if case == "large":
        monkeypatch.setattr(thumbnails, "LARGEST_PIXELS", 1000)
    elif case == "another kind":
        Image.new("RGB", (9, 9)).save(picture, "GIF")
    else:
        picture.write_bytes(content[:20_000] if case == "cut" else b"\x89PNG\r\n\x1a\n and so on")
    answer = thumbnails.thumbnail_answer(BASE, PATH)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"".join(answer.body) == picture.read_bytes()


@pytest.mark.parametrize("path", ["green/missing.png", "../secret.png", "green/trips.csv", "", PATH + "/x"])
def test_what_is_no_picture_has_no_thumbnail(picture, path):
    (settings.data_dir() / "secret.png").write_bytes(MAP.read_bytes())
    (settings.outputs_root() / "green/trips.csv").write_text("a\n1\n")
    assert thumbnails.thumbnail_answer(BASE, path).status == 404


def test_a_user_who_may_not_see_a_picture_gets_no_thumbnail_of_it(picture):
    assert thumbnails.thumbnail_answer(BASE, PATH, may_see=lambda path: False).status == 404
