"""The page on metrics: each metric that the code sends, with an example of an alert, and no others."""

import re
from typing import Any

import pytest
import yaml

from include.orchestration import metrics
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "how-to" / "metrics.md").read_text()
SENT = {str(value) for value in vars(metrics).values() if str(value).startswith("nyc_taxi.")}


def alerts() -> list[dict[str, Any]]:
    _, text = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (group,) = yaml.safe_load(text)["groups"]
    return list(group["rules"])


def in_prometheus(name: str) -> str:
    """The name that the page's mapping gives a metric."""
    return "airflow_" + name.removesuffix(".{fleet}").replace(".", "_")


def names_in(alert: dict[str, Any]) -> set[str]:
    return set(re.findall(r"airflow_nyc_taxi_\w+", alert["expr"]))


def test_the_table_lists_what_the_code_sends() -> None:
    assert len(SENT) == 6
    assert set(re.findall(r"^\| `(nyc_taxi[^`]+)`", PAGE, re.MULTILINE)) == {
        name.replace("{fleet}", "<fleet>") for name in SENT
    }


@pytest.mark.parametrize("name", sorted(SENT))
def test_each_metric_has_an_alert(name: str) -> None:
    assert [alert["alert"] for alert in alerts() if in_prometheus(name) in names_in(alert)] != []


def test_alerts_are_about_metrics_that_exist_and_say_what_to_do() -> None:
    known = {in_prometheus(name) for name in SENT}
    for alert in alerts():
        assert names_in(alert)
        assert names_in(alert) <= known, alert["alert"]
        assert alert["annotations"]["summary"]
