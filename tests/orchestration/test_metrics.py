"""Metrics that Airflow sends for the project."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.nyc_taxi.audit.engine import Check, QualityError
from include.nyc_taxi.audit.rules import Severity
from include.nyc_taxi.status.freshness import State
from include.orchestration import assets, metrics
from warehouse_hook import WarehouseHook


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What Airflow is asked to send."""
    found: list[tuple[Any, ...]] = []
    stats = SimpleNamespace(
        **{kind: lambda *values, kind=kind: found.append((kind, *values)) for kind in ("incr", "gauge", "timing")}
    )
    monkeypatch.setattr(metrics, "Stats", stats)
    return found


def test_a_load_counts_rows_bytes_and_warnings(sent: list[tuple[Any, ...]]) -> None:
    asset = assets.trips("green")
    with assets.event({asset: SimpleNamespace(extra={})}, asset, month="2023-02") as facts:  # type: ignore[arg-type]
        facts.update(rows=7, bytes=1234, quality_warnings=["one", "two"])
    assert sent == [
        ("incr", "nyc_taxi.rows_loaded.green", 7),
        ("incr", "nyc_taxi.bytes_loaded.green", 1234),
        ("incr", "nyc_taxi.audit_warnings.green", 2),
    ]


def test_other_tasks_count_nothing(sent: list[tuple[Any, ...]]) -> None:
    metrics.of_event(assets.trips_file("green").uri, {"bytes": 1234})
    metrics.of_error(assets.trips_file("green").uri, ValueError("a bug"))
    metrics.of_error(assets.trips("green").uri, ValueError("a bug"))
    assert sent == []


def test_a_month_that_the_audit_refuses_is_counted(sent: list[tuple[Any, ...]]) -> None:
    error = QualityError("refused", [Check("unknown_zone", Severity.ERROR, 0, 0.5, "half of them")])
    with pytest.raises(QualityError), assets.event({}, assets.trips("green"), month="2023-02"):
        raise error
    assert sent == [("incr", "nyc_taxi.months_refused.green")]


def test_each_fleets_months_that_are_missing_are_counted_even_if_there_are_none(sent: list[tuple[Any, ...]]) -> None:
    states = [State.MISSING, State.FAILED, State.FRESH, State.NOT_PUBLISHED, State.NEW_EDITION, State.LOADED_FAILED]
    months: Any = [SimpleNamespace(fleet="green", state=state) for state in states]
    metrics.of_status(["yellow", "green"], months)
    assert sent == [
        ("gauge", "nyc_taxi.months_missing.yellow", 0),
        ("gauge", "nyc_taxi.months_missing.green", 2),
    ]


def test_each_opening_of_the_warehouse_reports_how_long_it_took(sent: list[tuple[Any, ...]], tmp_path: Path) -> None:
    with WarehouseHook(database=f"{tmp_path}/taxi.duckdb").opened():
        pass
    ((kind, name, waited),) = sent
    assert (kind, name) == ("timing", "nyc_taxi.warehouse_wait")
    assert isinstance(waited, timedelta)


def test_a_metric_that_cannot_be_sent_is_a_warning_and_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no such host")

    monkeypatch.setattr(metrics, "Stats", SimpleNamespace(timing=fail))
    metrics.of_wait(1.5)
    assert "a metric is not sent: OSError: no such host" in caplog.text
