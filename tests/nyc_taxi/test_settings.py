"""Settings are read at each call."""

from pathlib import Path

import pytest

from include.nyc_taxi import settings, tlc


def test_the_data_directory_is_beside_the_project_where_nothing_is_set(monkeypatch):
    monkeypatch.delenv("NYC_TAXI_DATA_DIR")
    assert settings.data_dir() == Path(__file__).resolve().parents[2] / "data"


def test_a_change_of_the_data_directory_holds_at_the_next_call(monkeypatch, tmp_path):
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
def test_all_fleets_of_the_catalogue_have_dags_where_none_is_named(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("NYC_TAXI_FLEETS", value)
    assert settings.fleets() == ["yellow", "green", "fhv", "fhvhv"]
    monkeypatch.setitem(tlc.FLEETS, "hover", tlc.fleet("green"))
    assert settings.fleets() == ["yellow", "green", "fhv", "fhvhv", "hover"]


def test_only_the_named_fleets_have_dags_where_some_are(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_FLEETS", " fhv ,yellow,")
    assert settings.fleets() == ["fhv", "yellow"]


@pytest.mark.parametrize("value", ["http://localhost:8000", "http://localhost:8000/", "http://localhost:8000//"])
def test_the_tlc_url_has_no_slash_at_its_end(monkeypatch, value):
    monkeypatch.setenv("NYC_TAXI_TLC_URL", value)
    assert settings.tlc_url() == "http://localhost:8000"


def test_the_tlc_url_has_no_login_which_is_apart(monkeypatch):
    monkeypatch.setenv("NYC_TAXI_TLC_URL", "http://me:p%40ss@localhost:8000/")
    assert settings.tlc_url() == "http://localhost:8000"
    assert settings.tlc_login() == ("me", "p@ss")
    monkeypatch.delenv("NYC_TAXI_TLC_URL")
    assert settings.tlc_login() is None


def test_the_tlc_url_is_none_where_it_is_not_set_or_empty(monkeypatch):
    assert settings.tlc_url() is None
    monkeypatch.setenv("NYC_TAXI_TLC_URL", "")
    assert settings.tlc_url() is None
