"""Requests for reports: what is taken, and what is said of what is not."""

from datetime import date

import jsonschema
import pytest
from pydantic import ValidationError

from include.nyc_taxi.errors import RequestError
from include.nyc_taxi.reports import adhoc
from include.nyc_taxi.trips.zones import lookup_path
from include.tlc_simulator.server import TlcSimulator

GIVEN = {
    "fleet": "yellow",
    "borough": "Staten Island",
    "start_date": "2023-01-30",
    "end_date": "2023-02-01",
    "name": "island-1",
}


def test_a_request_is_what_was_given_with_dates_as_dates():
    request = adhoc.parse(GIVEN)
    assert (request.fleet, request.borough, request.name) == ("yellow", "Staten Island", "island-1")
    assert (request.start_date, request.end_date) == (date(2023, 1, 30), date(2023, 2, 1))


def test_a_request_as_json_is_what_was_given():
    assert adhoc.parse(GIVEN).model_dump(mode="json") == GIVEN


def test_a_request_that_was_checked_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        adhoc.parse(GIVEN).name = "../up"


def test_one_day_is_a_range():
    request = adhoc.parse(GIVEN | {"end_date": "2023-01-30"})
    assert request.start_date == request.end_date


def test_the_name_may_be_given_apart_but_the_requests_own_comes_first():
    without = {key: value for key, value in GIVEN.items() if key != "name"}
    assert adhoc.parse(without, default_name="file").name == "file"
    assert adhoc.parse(GIVEN, default_name="file").name == "island-1"
    with pytest.raises(RequestError, match="name missing"):
        adhoc.parse(without)
    with pytest.raises(RequestError, match="name 'my file': expected"):
        adhoc.parse(without, default_name="my file")


WRONG = [
    ({"fleet": "purple"}, "fleet 'purple': expected one of yellow, green"),
    ({"fleet": None}, "fleet None: expected one of"),
    ({"fleet": ["yellow"]}, "fleet a list: expected one of"),
    ({"borough": "'; drop table zones; --"}, 'drop table zones; --": expected one of Manhattan, Brooklyn'),
    ({"borough": "manhattan"}, "borough 'manhattan': expected one of Manhattan"),
    ({"borough": {"in": "Queens"}}, "borough an object: expected"),
    ({"start_date": "30.01.2023"}, "start_date '30.01.2023': expected a date written YYYY-MM-DD"),
    ({"start_date": "20230130"}, "start_date '20230130'"),
    ({"start_date": "2023-W05-1"}, "start_date '2023-W05-1'"),
    ({"start_date": "2023-01-30\n"}, r"start_date '2023-01-30\n'"),
    ({"start_date": "2023-01-3\u0660"}, "start_date"),  # an Arabic zero is a digit too, but not to us
    ({"start_date": 20230130}, "start_date 20230130"),
    ({"end_date": "2023-02-30"}, "end_date '2023-02-30': expected a date"),
    ({"end_date": "2123-02-01"}, "end_date '2123-02-01': expected a date"),
    ({"end_date": None}, "end_date None: expected a date"),
]

WRONG_TOGETHER = [
    (
        {"end_date": "2023-01-29"},
        "end_date 2023-01-29 is before start_date 2023-01-30; expected the same day or a later one",
    ),
    (
        {"start_date": "2008-12-31"},
        "start_date 2008-12-31: the TLC has no yellow trips before 2009-01; expected 2009-01-01 or later",
    ),
    ({"fleet": "green", "start_date": "2013-12-31"}, "no green trips before 2014-01"),
    ({"borrough": "Queens"}, "unknown keys 'borrough': expected only fleet, borough, start_date, end_date, name"),
]
"""What no field is wrong by itself in, so that the form cannot refuse it."""


@pytest.mark.parametrize(("changed", "says"), [*WRONG, *WRONG_TOGETHER])
def test_what_is_wrong_is_named_with_what_was_expected(changed, says):
    with pytest.raises(RequestError) as error:
        adhoc.parse(GIVEN | changed)
    assert says in str(error.value)


@pytest.mark.parametrize("changed", [changed for changed, _ in WRONG], ids=str)
def test_the_form_refuses_each_wrong_value_that_the_check_refuses(changed):
    ((field, value),) = changed.items()
    form = jsonschema.Draft7Validator(adhoc.form()[field], format_checker=jsonschema.FormatChecker())
    assert form.is_valid(GIVEN[field])
    assert not form.is_valid(value)


def test_the_form_has_a_title_and_a_description_for_each_field_and_needs_them_all():
    assert list(adhoc.form()) == list(GIVEN)
    for schema in adhoc.form().values():
        assert schema["title"]
        assert schema["description"].endswith(".")
    assert adhoc.Request.model_json_schema()["required"] == list(GIVEN)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        "a.b",
        "-rf",
        "_x",
        "a b",
        "a\n",
        "a\0",
        "é",
        "x" * 65,
        None,
        7,
        {},
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(RequestError, match="expected 1 to 64 letters, digits, - and _"):
        adhoc.parse(GIVEN | {"name": name})


@pytest.mark.parametrize("name", ["a", "7", "A_b-9", "x" * 64, "2023-01"])
def test_a_plain_name_is_taken(name):
    assert adhoc.parse(GIVEN | {"name": name}).name == name


def test_dates_are_compared_also_where_another_field_is_wrong():
    with pytest.raises(RequestError) as error:
        adhoc.parse(GIVEN | {"borough": "Hoboken", "end_date": "2023-01-01", "name": "../up"})
    for part in ("borough 'Hoboken': expected", "end_date 2023-01-01 is before", "name '../up': expected"):
        assert part in str(error.value)


def test_all_that_is_wrong_is_said_at_once_on_one_line():
    with pytest.raises(RequestError) as error:
        adhoc.parse({"fleet": "red\n", "start_date": "x" * 5000, "end_date": "soon", "name": "../up", "speed": 1, 2: 3})
    message = str(error.value)
    for part in ("unknown keys 2, 'speed'", "borough missing", "fleet", "start_date", "end_date", "name"):
        assert part in message
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize("given", [None, [], "yellow", 7, [GIVEN]])
def test_what_is_no_object_is_refused(given):
    with pytest.raises(RequestError, match="expected an object with fleet, borough, start_date, end_date, name"):
        adhoc.parse(given)


def test_the_boroughs_are_those_of_the_tlcs_lookup(real_data):
    lookup = real_data / "tlc" / "misc" / lookup_path().name
    assert set(adhoc.BOROUGHS) == boroughs(lookup.read_text())


def test_the_boroughs_are_those_of_the_simulators_lookup(tlc_site: TlcSimulator, site):
    assert set(adhoc.BOROUGHS) == boroughs(site.fetch("/misc/taxi_zone_lookup.csv", {}).text)


def boroughs(lookup):
    return {line.split(",")[1].strip('"') for line in lookup.splitlines()[1:]}
