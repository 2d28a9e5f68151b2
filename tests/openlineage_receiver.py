"""Stands for OpenLineage's provider, which is not among the packages that the lock files install."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class Receiver:
    """What the provider is asked to send, whether it is active, and what it does when it is asked."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.active = True
        self.answer: Callable[[], None] = lambda: None

    def emit(self, **datasets: Any) -> None:
        """Take the place of `emit_dataset_lineage`."""
        self.sent.append(datasets)
        self.answer()


def installed(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """Let `airflow.providers.openlineage.api` be importable, and return what receives its calls."""
    made = Receiver()
    api = ModuleType("airflow.providers.openlineage.api")
    api.is_openlineage_active = lambda: made.active  # type: ignore[attr-defined]
    api.emit_dataset_lineage = made.emit  # type: ignore[attr-defined]
    package = ModuleType("airflow.providers.openlineage")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", package)
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.api", api)
    return made
