"""Settings are read at each call."""

from pathlib import Path

import pytest

from include.nyc_taxi import catalogue, settings
from include.nyc_taxi.errors import SettingError


def test_the_data_directory_is_in_the_project_if_nothing_is_set(monkeypatch):
    monkeypatch.delenv("NYC_TAXI_DATA_DIR")
    assert settings.data_dir() == Path(__file__).resolve().parents[2] / "data"


def test_a_change_of_the_data_directory_takes_effect_at_the_next_call(monkeypatch, tmp_path):
    monkeypatch.setenv("NYC_TAXI_DATA_DIR", str(tmp_path / "one"))
    assert settings.warehouse_path() == tmp_path / "one" / "warehouse.duckdb"
    monkeypatch.setenv("NYC_TAXI_DATA_DIR", str(tmp_path / "two"))
    assert settings.warehouse_path() == tmp_path / "two" / "warehouse.duckdb"
    assert settings.raw_dir() == tmp_path / "two" / "raw"
    assert settings.outputs_dir("green") == tmp_path / "two" / "outputs" / "green"


def test_a_relative_data_directory_becomes_absolute_because_tasks_run_in_other_folders(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NYC_TAXI_DATA_DIR", "mine")
    assert settings.data_dir() == tmp_path / "mine"


@pytest.mark.parametrize("value", [None, "", " , "])
def test_all_fleets_of_the_catalogue_have_dags_if_none_is_named(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("NYC_TAXI_FLEETS", value)
    assert settings.fleets() == ["yellow", "green", "fhv", "fhvhv"]
    monkeypatch.setitem(catalogue.FLEETS, "hover", catalogue.fleet("green"))
    assert settings.fleets() == ["yellow", "green", "fhv", "fhvhv", "hover"]


def test_only_the_named_fleets_have_dags_if_some_are_named(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_FLEETS", " fhv ,yellow,")
    assert settings.fleets() == ["fhv", "yellow"]


@pytest.mark.parametrize("value", ["http://localhost:8000", "http://localhost:8000/", "http://localhost:8000//"])
def test_the_tlc_url_has_no_trailing_slash(monkeypatch, value):
    monkeypatch.setenv("NYC_TAXI_TLC_URL", value)
    assert settings.tlc_url() == "http://localhost:8000"


def test_the_tlc_url_has_no_login_because_that_is_separate(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_TLC_URL", "http://me:p%40ss@localhost:8000/")
    assert settings.tlc_url() == "http://localhost:8000"
    assert settings.tlc_login() == ("me", "p@ss")
    monkeypatch.delenv("NYC_TAXI_TLC_URL")
    assert settings.tlc_login() is None


def test_the_tlc_url_is_none_if_it_is_not_set_or_empty(monkeypatch):
    assert settings.tlc_url() is None
    monkeypatch.setenv("NYC_TAXI_TLC_URL", "")
    assert settings.tlc_url() is None


@pytest.mark.parametrize(("value", "on"), [(None, False), ("", False), ("0", False), ("1", True), ("True", True)])
def test_maps_of_trips_per_area_are_drawn_on_request(monkeypatch, value, on):
    if value is not None:
        monkeypatch.setenv("NYC_TAXI_MAP_DENSITY", value)
    assert settings.map_density() is on


def test_an_invalid_value_for_density_maps_names_the_setting(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_MAP_DENSITY", "2")
    with pytest.raises(SettingError, match="NYC_TAXI_MAP_DENSITY: expected 1 or 0, found '2'"):
        settings.map_density()


@pytest.mark.parametrize(
    ("name", "value", "call", "said"),
    [
        ("NYC_TAXI_TLC_URL", "localhost:8000", settings.tlc_url, "expected an address such as https://"),
        ("NYC_TAXI_TLC_URL", "d37ci6vzurychx.cloudfront.net", settings.tlc_url, "expected an address"),
        ("NYC_TAXI_TLC_URL", "ftp://files.test", settings.tlc_url, "expected an address"),
        ("NYC_TAXI_TLC_URL", "http://files.test:port", settings.tlc_url, "expected an address"),
        ("NYC_TAXI_FLEETS", "yellow,gren", settings.fleets, "no fleet 'gren' in the catalogue: expected one of"),
        ("NYC_TAXI_FLEETS", "yellow green", settings.fleets, "no fleet 'yellow green'"),
        ("NYC_TAXI_FIRST_MONTH", "2023-1", settings.first_month, "'2023-1' is not a month: expected YYYY-MM"),
        ("NYC_TAXI_FIRST_MONTH", "2023-13", settings.first_month, "expected YYYY-MM"),
        ("NYC_TAXI_LAKE_KEEP_DAYS", "a week", settings.lake_keep, "expected a number of days"),
        ("NYC_TAXI_LAKE_KEEP_DAYS", "nan", settings.lake_keep, "expected a number of days"),
        ("NYC_TAXI_LAKE_ABANDONED_DAYS", "0.5", settings.lake_abandoned_after, "at least 1"),
    ],
)
def test_the_error_for_an_invalid_value_names_the_variable(monkeypatch, name, value, call, said):
    monkeypatch.setenv(name, value)
    for asked in (call, settings.check):
        with pytest.raises(SettingError, match=said) as error:
            asked()
        assert str(error.value).startswith(f"{name}: ")


def test_an_error_never_contains_the_password_of_an_address(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_TLC_URL", "ftp://me:ses4ame@files.test")
    with pytest.raises(SettingError) as error:
        settings.tlc_url()
    assert "ame@" not in str(error.value)


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_data_directory_that_is_a_file_is_refused_and_nothing_is_created(monkeypatch, tmp_path, below):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NYC_TAXI_DATA_DIR", f"{tmp_path}/file{below}")
    with pytest.raises(SettingError, match=rf"NYC_TAXI_DATA_DIR: expected a folder, found the file {tmp_path}/file$"):
        settings.data_dir()


def test_a_data_directory_that_is_not_writable_is_refused_before_a_command_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(settings.os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(SettingError, match=f"NYC_TAXI_DATA_DIR: expected a writable folder, found that {tmp_path}"):
        settings.check()


@pytest.mark.parametrize("name", settings.KNOWN)
def test_an_empty_variable_counts_as_not_set(monkeypatch, name):
    before = [settings.tlc_url(), settings.fleets(), settings.first_month(), settings.lake_keep()]
    for empty in ("", " "):
        if name != "NYC_TAXI_DATA_DIR":
            monkeypatch.setenv(name, empty)
        settings.check()
        assert [settings.tlc_url(), settings.fleets(), settings.first_month(), settings.lake_keep()] == before


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NYC_TAXI_FLEET", "NYC_TAXI_FLEETS"),
        ("NYC_TAXI_DATADIR", "NYC_TAXI_DATA_DIR"),
        ("NYC_TAXI_FIRST_MONHT", "NYC_TAXI_FIRST_MONTH"),
        ("NYC_TAXI_LAKE_KEEP_DAY", "NYC_TAXI_LAKE_KEEP_DAYS"),
        ("NYC_TAXI_TLC_URI", "NYC_TAXI_TLC_URL"),
    ],
)
def test_a_misspelled_variable_is_refused_by_every_setting(monkeypatch, name, meant):
    monkeypatch.setenv(name, "green")
    for call in (settings.tlc_url, settings.data_dir, settings.fleets, settings.first_month, settings.lake_keep):
        with pytest.raises(SettingError, match=f"{name}: there is no such setting; did you mean {meant}"):
            call()


def test_a_users_own_variable_is_not_a_misspelling(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_MY_OWN", "1")
    settings.check()


def test_without_dbt_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "PROJECT_ROOT", tmp_path)
    with pytest.raises(
        SettingError, match=rf"dbt is not installed: expected it at {tmp_path}/.venv-dbt/bin/dbt. `make"
    ):
        settings.dbt_program()


def test_dbt_can_be_elsewhere(monkeypatch, tmp_path):
    program = tmp_path / "dbt"
    monkeypatch.setenv("NYC_TAXI_DBT", str(program))
    with pytest.raises(SettingError, match=f"NYC_TAXI_DBT: expected .*, found no program at {program}"):
        settings.dbt_program()
    program.touch(mode=0o755)
    assert settings.dbt_program() == program
