"""Lanes: Airflows that run scenarios side by side, while the tests wait for their results in order."""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from include.orchestration.compat import IS_AIRFLOW_3
from tests.long.lane import Lane
from tests.long.scenarios import KEPT, Result, Scenario

RESULTS = pytest.StashKey[list[Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lanes", type=int, default=3, help="how many Airflows run scenarios side by side")


@pytest.fixture(scope="session")
def run_scenario(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Scenario], Result]]:
    """Give the result of a scenario, when it is there; all that were selected begin with the first call."""
    if not IS_AIRFLOW_3:
        pytest.skip("2.11 has no backfills in its scheduler; tests/integration/test_kills.py kills tasks there")
    selected = [item.callspec.params["scenario"] for item in request.session.items if "scenario" in item.fixturenames]
    lanes: queue.Queue[Lane] = queue.Queue()
    count = min(request.config.getoption("--lanes"), len(selected))
    results = request.config.stash.setdefault(RESULTS, [])

    def run(scenario: Scenario) -> Result:
        lane = lanes.get()
        try:
            result = scenario.run(lane)
        finally:
            lanes.put(lane)
        results.append(result)
        return result

    with ExitStack() as ending, ThreadPoolExecutor(count) as pool:
        folder = tmp_path_factory.mktemp("lanes")
        starting = [pool.submit(ending.enter_context, Lane.running(folder / str(number))) for number in range(count)]
        for lane in starting:
            lanes.put(lane.result())
        futures: dict[str, Future[Result]] = {scenario.name: pool.submit(run, scenario) for scenario in selected}
        yield lambda scenario: futures[scenario.name].result()
        pool.shutdown(cancel_futures=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How many of each kind ended in the same warehouse, and the table that docs/explanation/reliability.md quotes."""
    results = sorted(config.stash.get(RESULTS, []), key=lambda result: result.name)
    if not results:
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    lines = ["| scenario | what was done | completed | seconds | end |", "|---|---|---|---|---|"]
    for result in results:
        end = "; ".join(result.differences) or "same"
        lines.append(f"| {result.name} | {result.what} | {result.completed} | {result.seconds:.0f} | {end} |")
    table = KEPT / "results.md"
    table.write_text("\n".join(lines) + "\n")
    terminalreporter.section("scenarios")
    for kind in dict.fromkeys(result.kind for result in results):
        of_kind = [result for result in results if result.kind == kind]
        same = sum(not result.differences for result in of_kind)
        terminalreporter.write_line(f"{kind}: {same} of {len(of_kind)} ended as an undisturbed backfill does")
    terminalreporter.write_line(f"{sum(result.misses for result in results)} choices more came too late for a kill")
    terminalreporter.write_line(f"Table: {table}")
