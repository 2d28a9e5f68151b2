"""What Airflow's processes are started with, so that a task costs no more than it must."""

import pytest

from include.local import stack


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The command lines that a stack starts. Nothing runs."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(stack, "current_settings", dict)
    monkeypatch.setattr(stack.Started, "popen", lambda self, command, **options: command)

    def started(name, *, web_ui):
        with (tmp_path / "lock").open("w") as lock:
            it = stack.Stack("make backfill", 1234, lock, ["scheduler"], web_ui=web_ui)
            it._start(name)
            return it._processes[name]

    return started


def test_a_backfill_starts_an_api_server_for_tasks_only_and_standalone_one_with_the_web_ui(commands):
    assert commands("api-server", web_ui=False) == ["airflow", "api-server", "--apps", "execution"]
    assert commands("api-server", web_ui=True) == ["airflow", "api-server"]
