"""The rule that keeps the source of tasks out of OpenLineage events."""

import importlib.util
import json
import os
import re
from typing import Any

import openlineage_policy
import pytest
from openlineage_policy import RULE, VARIABLE, forbid_source_code

from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is installed, and its policy is not configured; both are as before afterwards."""
    monkeypatch.setenv(VARIABLE, "[]")
    monkeypatch.setattr(openlineage_policy, "find_spec", lambda name: name == "airflow.providers.openlineage")


def policy() -> list[Any]:
    rules = json.loads(os.environ[VARIABLE])
    assert isinstance(rules, list)
    return rules


def test_the_rule_is_added_once() -> None:
    forbid_source_code()
    forbid_source_code()
    assert policy() == [RULE]


def test_other_rules_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"scope": {"dag_id": "theirs"}, "controls": {"emit": False}}
    monkeypatch.setenv(VARIABLE, json.dumps([theirs]))
    forbid_source_code()
    assert policy() == [theirs, RULE]


@pytest.mark.parametrize("text", ["{", '{"scope": {}}', "true"])
def test_a_policy_that_cannot_be_read_is_replaced_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    forbid_source_code()
    assert policy() == [RULE]
    assert "emission_policy: expected a JSON list of rules" in caplog.text


def test_without_the_provider_nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openlineage_policy, "find_spec", lambda _: None)
    forbid_source_code()
    assert policy() == []


def test_the_rule_is_about_all_dags_of_the_project_and_no_others() -> None:
    ids = json.loads((ROOT / "tests" / "dags" / "structure.json").read_text())
    assert len(ids) > 10
    assert [dag_id for dag_id in ids if not re.fullmatch(RULE["scope"]["dag_id"], dag_id)] == []
    assert not re.fullmatch(RULE["scope"]["dag_id"], "sales")


@pytest.mark.skipif(
    not importlib.util.find_spec("airflow.providers.openlineage"), reason="the provider is not installed"
)
def test_the_provider_obeys_the_rule() -> None:
    from airflow.providers.openlineage.utils import emission_policy
    from airflow.providers.standard.operators.python import PythonOperator

    forbid_source_code()
    task = PythonOperator(task_id="load", python_callable=print)
    found = {
        dag_id: emission_policy.resolve_task_emission_policy(operator=task, dag_id=dag_id, task_id="load")
        for dag_id in ("taxi_trips_green", "sales")
    }
    assert {dag_id: controls.include_source_code for dag_id, controls in found.items()} == {
        "taxi_trips_green": False,
        "sales": True,
    }
