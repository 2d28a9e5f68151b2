"""Files are complete or absent."""

import os
import signal
from pathlib import Path

import pytest

from include.nyc_taxi.files import replacing

WRITE_AND_HANG = """
import sys, time
from pathlib import Path
from include.nyc_taxi.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half a fi")
    print(temporary, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "stats.json"


def test_the_complete_file_appears_when_the_block_ends(target):
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_the_temporary_file_is_hidden_in_the_same_folder_and_has_the_same_suffix(target):
    with replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".json"


def test_an_exception_keeps_the_old_file_and_leaves_no_temporary_file(target):
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_killed_process_leaves_no_file_under_the_final_name(target, start_python):
    process = start_python(WRITE_AND_HANG, target)
    temporary = Path(process.stdout.readline().strip())
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert temporary.read_text() == "half a fi"
    assert not target.exists()


def test_the_next_process_removes_the_temporary_file_of_a_killed_one(target, start_python):
    process = start_python(WRITE_AND_HANG, target)
    leftover = Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    assert leftover.exists()
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert list(target.parent.iterdir()) == [target]


def test_the_temporary_file_of_a_running_process_is_left_alone(target, start_python):
    process = start_python(WRITE_AND_HANG, target)
    others = Path(process.stdout.readline().strip())
    with replacing(target) as temporary:
        temporary.write_text("mine")
    assert others.exists()
    assert target.read_text() == "mine"
    process.communicate()  # closes its standard input, which ends its block
    assert process.returncode == 0
    assert target.read_text() == "half a fi"
    assert list(target.parent.iterdir()) == [target]


def test_an_old_temporary_file_of_another_target_is_left_alone(target):
    target.parent.mkdir()
    other = target.parent / ".other.json.abc.part.json"
    other.write_text("")
    os.utime(other, (0, 0))
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert other.exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_the_umask_decides_who_may_read_the_file(target, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(target) as temporary:
            temporary.write_text("new")
        assert os.umask(umask) == umask, "the umask of the process has changed"
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == mode


def test_a_block_that_removes_the_temporary_file_fails_and_keeps_the_old_file(target):
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(target) as temporary:
        temporary.unlink()
    assert target.read_text() == "old"
