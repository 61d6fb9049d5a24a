"""Tests of atomic writes: a file is replaced completely or left unchanged, and the new file is private to its owner."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dialgate.runtime.atomic_write import publish_file, replace_file, write_file

KILLED = """
import os, pathlib, sys
from dialgate.runtime.atomic_write import replace_file
with replace_file(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "kept.json"
    written.write_bytes(b"old")
    return written


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_file_is_replaced_and_private(path: Path) -> None:
    path.chmod(0o644)
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    assert names(path) == [path.name]


def test_a_reader_that_has_the_old_file_open_keeps_it(path: Path) -> None:
    with path.open("rb") as opened:
        write_file(path, b"new")
        assert opened.read() == b"old"


def test_an_exception_leaves_the_file_and_removes_the_new_one(path: Path) -> None:
    with suppress(InterruptedError), replace_file(path) as file:
        file.write(b"half")
        raise InterruptedError
    assert (path.read_bytes(), names(path)) == (b"old", [path.name])


def test_a_killed_writer_leaves_the_file_and_blocks_no_other_writer(path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert (killed.returncode, path.read_bytes()) == (-9, b"old")
    left = path.with_name(f"{path.name}.new")
    assert left.read_bytes() == b"half"
    left.chmod(0o644)  # as if others could read what comes
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    assert names(path) == [path.name]


def test_the_error_that_stopped_the_write_is_reported(path: Path) -> None:
    path.with_name(f"{path.name}.new").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_writers_with_separate_temporary_names_do_not_interfere(path: Path) -> None:
    first, second = path.with_suffix(".1.new"), path.with_suffix(".2.new")
    with replace_file(path, first) as one, replace_file(path, second) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_bytes() == b"one"  # whose block ended last
    assert names(path) == [path.name]


def test_a_finished_file_replaces_another(path: Path) -> None:
    finished = path.with_name("finished")
    finished.write_bytes(b"new")
    publish_file(finished, path)
    assert (path.read_bytes(), names(path)) == (b"new", [path.name])
