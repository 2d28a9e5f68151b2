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
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (group,) = yaml.safe_load(text)["groups"]
    return list(group["rules"])


def test_the_table_lists_what_the_code_sends() -> None:
    assert len(SENT) == 6
    assert set(re.findall(r"^\| `(nyc_taxi[^`]+)`", PAGE, re.MULTILINE)) == {
        name.replace("{fleet}", "<fleet>") for name in SENT
    }


@pytest.mark.parametrize("name", sorted(SENT))
def test_each_metric_has_an_alert(name: str) -> None:
    in_prometheus = "airflow_" + name.replace(".", "_").removesuffix("{fleet}")
    assert [alert["alert"] for alert in alerts() if in_prometheus in alert["expr"]] != []


def test_alerts_are_about_metrics_that_exist_and_say_what_to_do() -> None:
    prefixes = tuple("airflow_" + name.replace(".", "_").removesuffix("{fleet}") for name in SENT)
    for alert in alerts():
        named = re.findall(r"airflow_nyc_taxi_\w+", alert["expr"])
        assert named
        assert all(name.startswith(prefixes) for name in named), alert["alert"]
        assert alert["annotations"]["summary"]
