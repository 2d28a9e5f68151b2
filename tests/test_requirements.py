"""The lock files: valid for every supported version of Python, complete, and with a hash for every file."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

LOCKS = {
    "requirements.txt": ("3.3.2", ("3.11", "3.12", "3.13")),
    "requirements-airflow2.txt": ("2.11.2", ("3.11", "3.12")),  # Airflow 2.11 supports Python up to 3.12
}
CASES = [(lock, python) for lock, (_, versions) in LOCKS.items() for python in versions]
NEEDED_BY_OPENLINEAGE = (
    *("apache-airflow>=2.11.0", "apache-airflow-providers-common-sql>=1.32.0", "attrs>=22.2"),
    *("apache-airflow-providers-common-compat>=1.15.0", "openlineage-integration-common>=1.52.0"),
    "openlineage-python>=1.52.0",
)
"""What apache-airflow-providers-openlineage 2.20.3 says that it needs."""
UNREACHABLE = re.compile(r"error sending request|dns error|timed out|connection (refused|reset)", re.IGNORECASE)


def logical_lines(path: Path) -> Iterator[str]:
    """Requirements without comments; lines that a backslash continues are one."""
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if found := line.split(" #")[0].partition("#")[0].strip():
            yield found


def requirements(path: Path) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a file, with its hashes."""
    parts = (line.split(" --hash=") for line in logical_lines(path))
    return [(Requirement(first.strip()), [value.strip() for value in hashes]) for first, *hashes in parts]


def versions(lock: Path, python: str) -> dict[str, str]:
    """What the lock installs on Linux with this version of Python, by name."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",  # uv takes it for this
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found: dict[str, str] = {}
    for requirement, _ in requirements(lock):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{lock.name} has two versions of {name} for Python {python}"
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{lock.name}: expected one exact version, found {requirement}"
            found[name] = specifier.version
    return found


@functools.cache
def pypi_is_unreachable(uv: str) -> bool:
    """Whether PyPI does not answer; asked once for all tests."""
    asked = install(uv, "--no-deps", "--refresh", "tabulate")
    return asked.returncode != 0 and UNREACHABLE.search(asked.stderr) is not None


def install(uv: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `uv pip install` would do in an empty environment."""
    command = [uv, "pip", "install", "--dry-run", "--python", sys.executable]
    environment = {name: value for name, value in os.environ.items() if name != "no_proxy"}  # which is the tests' own
    environment |= {"UV_HTTP_RETRIES": "1", "UV_HTTP_TIMEOUT": "20"}
    with tempfile.TemporaryDirectory() as empty:  # uv locks it, dry run or not
        command += ["--target", empty, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_has_an_exact_version_and_hashes(lock: str) -> None:
    for requirement, hashes in requirements(ROOT / lock):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert hashes, f"{lock}: {requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize(("lock", "python"), CASES)
def test_a_lock_has_one_version_that_suits_of_everything_that_is_asked_for(lock: str, python: str) -> None:
    locked = versions(ROOT / lock, python)
    for requirement, _ in requirements(ROOT / "requirements.in"):
        assert locked.get(canonicalize_name(requirement.name), "none") in requirement.specifier, requirement
    assert locked["apache-airflow"] == LOCKS[lock][0]


def test_both_lines_have_the_same_versions_of_our_own_tools() -> None:
    three, two = (versions(ROOT / lock, "3.11") for lock in LOCKS)
    assert {name: three[name] for name in ("uv", "ruff", "mypy", "pytest", "duckdb")} == {
        name: two[name] for name in ("uv", "ruff", "mypy", "pytest", "duckdb")
    }


@pytest.fixture
def uv() -> str:
    """The uv of the interpreter that runs the tests, where PyPI can be asked."""
    found = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert found, "uv is in both lock files"
    if pypi_is_unreachable(found):
        pytest.skip("PyPI does not answer, so that the lock files cannot be compared with it")
    return found


@pytest.mark.parametrize(("lock", "python"), CASES)
def test_pypi_has_all_files_of_a_lock_and_nothing_is_left_out(uv: str, lock: str, python: str) -> None:
    done = install(uv, "--require-hashes", "--python-version", python, "--requirement", lock)
    assert done.returncode == 0, done.stderr
    assert f"Would install {len(versions(ROOT / lock, python))} packages" in done.stderr


def test_a_lock_that_lacks_something_is_refused(uv: str, tmp_path: Path) -> None:
    text = (ROOT / "requirements.txt").read_text()
    block = re.search(r"^requests==.*?[^\\]$", text, re.MULTILINE | re.DOTALL)
    assert block
    lock = tmp_path / "lock.txt"
    lock.write_text(block.group())
    refused = install(uv, "--require-hashes", "--requirement", str(lock))
    assert refused.returncode != 0
    assert "hash" in refused.stderr.lower()
    assert install(uv, "--no-deps", "--require-hashes", "--requirement", str(lock)).returncode == 0


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile"])
def test_whatever_installs_a_lock_checks_the_hashes(file: str) -> None:
    commands = re.findall(r"pip install [^\n|]*-r [^\n|]*", (ROOT / file).read_text())
    assert commands
    assert [command for command in commands if "--require-hashes" not in command] == []


@pytest.mark.parametrize(
    ("airflow", "version", "words"),
    [
        ("3", (3, 10), "Python 3.11 or newer is needed"),
        ("2", (3, 10), "Python 3.11 or newer is needed"),
        ("2", (3, 13), "Airflow 2.11 supports Python up to 3.12"),
    ],
)
def test_a_python_that_this_airflow_does_not_support_is_refused_before_anything_is_made(
    airflow: str, version: tuple[int, int], words: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] || exit 9\nexec {sys.executable} -c "import sys; sys.version_info = {version}\n$2"\n'
    )
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "setup", f"AIRFLOW={airflow}", f"PYTHON={python}", f"VENV={tmp_path}/venv", f"STATE={tmp_path}/state"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_dbts_lock_is_hashed_and_has_airflows_duckdb() -> None:
    """dbt opens the warehouse that the tasks have written, with the extensions of the same version."""
    lock = ROOT / "requirements-dbt.txt"
    assert [requirement.name for requirement, hashes in requirements(lock) if not hashes] == []
    for python in ("3.11", "3.12", "3.13"):
        found, airflows = versions(lock, python), versions(ROOT / "requirements.txt", python)
        ours = {name: version for name, version in found.items() if name.startswith("duckdb")}
        assert len(ours) == 4
        assert ours == {name: version for name, version in airflows.items() if name.startswith("duckdb")}
        assert {
            canonicalize_name(wanted.name) for wanted, _ in requirements(ROOT / "requirements-dbt.in")
        } <= found.keys()


def test_the_lock_files_have_what_openlineages_provider_needs() -> None:
    """The provider is installed without its dependencies, so that it changes no version that the lock files have."""
    ((provider, hashes),) = requirements(ROOT / "requirements-openlineage.txt")
    assert hashes
    assert [str(wanted) for wanted, _ in requirements(ROOT / "requirements-openlineage.in")] == [str(provider)]
    for lock, python in CASES:
        found = versions(ROOT / lock, python)
        for needed in NEEDED_BY_OPENLINEAGE:
            wanted = Requirement(needed)
            assert wanted.specifier.contains(found[canonicalize_name(wanted.name)]), (lock, python, needed)
