"""What a failed task's log has to say."""

import json

import pytest

from include.local.task_log import failure


@pytest.fixture
def log(tmp_path):
    """Write a log, of lines or of JSON records; returns its path."""

    def write(*records):
        path = tmp_path / "attempt=1.log"
        path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in records) + "\n")
        return path

    return write


def test_the_errors_message_is_whole_however_much_was_logged_after_it(log):
    message = "2023-02 stays as it was:\n" + "\n".join(f"rule {n}: {'found ' * 40}" for n in range(20))
    path = log(
        {"event": "::group::Log message source details", "level": "info"},
        {"event": "reading the file", "level": "info"},
        {
            "event": "Task failed with exception",
            "level": "error",
            "error_detail": [{"exc_type": "QualityError", "exc_value": message, "exc_notes": ["see make quality"]}],
        },
        {"event": "::endgroup::", "level": "info"},
        *({"event": f"clearing up {n}", "level": "info"} for n in range(30)),
    )
    said = failure(path)
    assert said[0] == "INFO     reading the file"
    assert said[1] == "ERROR    Task failed with exception"
    assert "\n".join(said[2:]) == f"QualityError: {message}\nsee make quality"


def test_an_error_raised_from_another_that_says_the_same_is_said_once(log):
    details = [{"exc_type": kind, "exc_value": "the file is no Parquet file"} for kind in ("AirflowFail", "Layout")]
    path = log({"event": "failed", "level": "error", "error_detail": details})
    assert failure(path) == ["ERROR    failed", "AirflowFail: the file is no Parquet file"]


def test_the_text_log_of_2_11(log):
    path = log(
        "[2026-11-27T02:00:00.000+0000] {logging_mixin.py:1} INFO - ::group::Pre task execution logs",
        "[2026-11-27T02:00:00.000+0000] {load.py:1} INFO - reading the file",
        "[2026-11-27T02:00:01.000+0000] {taskinstance.py:3313} ERROR - Task failed with exception",
        "Traceback (most recent call last):",
        '  File "load.py", line 1, in load',
        "    raise QualityError(text)",
        "include.nyc_taxi.errors.QualityError: 2023-02 stays as it was:",
        "rule 1: found 7",
        *(f"[2026-11-27T02:00:02.000+0000] {{x.py:1}} INFO - clearing up {n}" for n in range(30)),
    )
    said = failure(path)
    assert said[-2:] == ["include.nyc_taxi.errors.QualityError: 2023-02 stays as it was:", "rule 1: found 7"]
    assert said[0].endswith("reading the file")
    assert not [line for line in said if "::group::" in line or "clearing up" in line]


def test_without_an_error_its_last_lines_are_shown(log):
    path = log(*({"event": f"line {n}", "level": "info"} for n in range(30)))
    assert failure(path, context=2) == ["INFO     line 28", "INFO     line 29"]


def test_a_log_that_is_not_there_is_said_to_be(tmp_path):
    assert failure(tmp_path / "attempt=1.log") == [f"(no log at {tmp_path}/attempt=1.log)"]
