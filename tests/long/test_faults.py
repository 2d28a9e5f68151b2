"""Whatever happens to a backfill, completed the ordinary way it ends in the same warehouse and the same outputs.

`make test-long` runs all of it; docs/explanation/reliability.md says what is done, and how long it takes.
"""

from collections.abc import Callable

import pytest

from tests.long.scenarios import DiskRefusedError, Result, Scenario, scenarios


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.name)
def test_a_disturbed_backfill_ends_as_an_undisturbed_one(
    scenario: Scenario, run_scenario: Callable[[Scenario], Result], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        result = run_scenario(scenario)
    except DiskRefusedError as error:
        pytest.skip(str(error))
    with capsys.disabled():
        print(f"\n{result.line}", flush=True)
    assert result.differences == []
