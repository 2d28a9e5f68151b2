"""The repository's own files: checks before a commit and in CI are those of the Makefile."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import PURE, ROOT


def recipe(target: str) -> list[str]:
    """The commands of a target, with the paths of their virtual environments."""
    found = re.search(rf"^{target}:[^\n]*\n((?:\t[^\n]*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    lines = found[1].replace("$(VENV)", ".venv").replace("$(DBT_VENV)", ".venv-dbt").splitlines()
    return [line.strip().removeprefix("@") for line in lines]


def test_pre_commit_checks_what_make_lint_checks() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == recipe("lint")
    assert all(hook["always_run"] and not hook["pass_filenames"] for hook in repository["hooks"])


def test_the_workflow_runs_what_ci_runs_and_may_only_read() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"] <= 90
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert all(re.search(r"@(v\d+|[0-9a-f]{40})$", step["uses"]) for step in job["steps"] if "uses" in step)


def test_ci_runs_quick_and_slow_tests_once_and_all_that_may_differ_on_the_other_line() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make (test.*) \|\|", script, re.MULTILINE) == ["test", 'test-all ARGS="-m slow"']
    (different,) = re.findall(r'^different="((?:tests/\w+ )+)', script, re.MULTILINE)
    folders = {file.relative_to(ROOT).parts[1] for file in ROOT.glob("tests/*/**/test_*.py")}
    of_one_line = {folder.removeprefix("tests/") for folder in PURE} | {"bench", "long"}
    assert set(different.split()) == {f"tests/{folder}" for folder in folders - of_one_line}


def collected(*options: str) -> set[str]:
    """The tests that pytest selects."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line for line in done.stdout.splitlines() if "::" in line}


@pytest.mark.slow
def test_slow_tests_are_left_out_unless_all_or_their_path_is_asked_for() -> None:
    quick, everything, slow = collected(), collected("--all"), collected("--all", "-m", "slow")
    assert quick
    assert slow
    assert (quick & slow, quick | slow) == (set(), everything)
    assert collected("tests/nyc_taxi/on_a_lake") <= slow


def test_dependabot_looks_at_packages_images_and_actions() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "docker", "github-actions"}


def test_the_dev_container_has_an_ordinary_user_and_calls_what_there_is() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["remoteUser"] not in ("", "root")
    assert container["postCreateCommand"] == "sudo .ci/packages && make setup"
    assert (ROOT / ".ci" / "packages").stat().st_mode & 0o111


@pytest.mark.parametrize("text", ["Apache License", "END OF TERMS AND CONDITIONS", "Copyright [yyyy]"])
def test_the_license_is_there_in_full(text: str) -> None:
    assert text in (ROOT / "LICENSE").read_text()
