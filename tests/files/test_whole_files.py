"""Files and folders appear whole or not at all, and what killed processes left is removed, but nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.files import whole_files
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.whole_files import partial_folder, remove_leftovers, whole, write_text


def names(folder):
    return sorted(i.name for i in folder.iterdir())


def partial_name(process=None, machine=None):
    return f".model.partial-{machine or whole_files._machine()}-{process or os.getpid()}-abcd_123"


@pytest.fixture
def running():
    """A process of this machine."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def test_what_is_written_appears_at_the_end(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with whole(tmp_path / "a.txt") as partial:
        partial.write_text("new")
        assert partial.suffix == ".txt" and (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "new"
    with whole(tmp_path / "model") as folder:
        folder.mkdir()
        (folder / "b").touch()
    assert names(tmp_path / "model") == ["b"]
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "a.txt").stat().st_mode == plain.stat().st_mode  # readable as any other file


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_what_stops_in_between(tmp_path, error):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(error), whole(tmp_path / "a.json") as partial:
        partial.write_text("[2")
        raise error
    with pytest.raises(TypeError):
        write_json({"a": object()}, tmp_path / "a.json")
    assert names(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "[1]"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), OSError(errno.EDQUOT, "Quota")])
def test_a_full_disk_is_named(tmp_path, error):
    with pytest.raises(UserError, match=r"the disk of .* is full; make room there"), whole(tmp_path / "a"):
        raise error
    with pytest.raises(PermissionError), whole(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(FileNotFoundError):
        write_text("", tmp_path / "nowhere" / "a")


def test_leftovers_of_killed_processes_are_removed(tmp_path, running):
    running.kill()
    running.wait()
    for name in (partial_name(running.pid), partial_name(os.getpid())):  # a number may be given out again
        (tmp_path / name / "deep").mkdir(parents=True)
    write_text("text", tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="zombies are recognised by Linux's /proc")
def test_a_process_that_nobody_has_waited_for_is_dead(tmp_path, running):
    running.kill()
    while whole_files._is_running(running.pid):
        time.sleep(0.01)
    (tmp_path / partial_name(running.pid)).mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_what_others_write_stays(tmp_path, running):
    kept = [
        partial_name(running.pid),
        partial_name(machine="0123abcd", process=999_999_999),  # nobody here knows whether it lives
        ".model.partial-1",
        ".hidden",
        "a.partial-0123abcd-1-abcd",
    ]
    for name in kept:
        (tmp_path / name).mkdir()
    with partial_folder(tmp_path, "b") as mine:
        remove_leftovers(tmp_path)
        assert mine.is_dir()
    assert names(tmp_path) == sorted(kept)


def test_leftovers_of_other_machines_are_removed_after_a_week(tmp_path):
    for days in (6, 8):
        folder = tmp_path / f"{partial_name(machine='0123abcd')}{days}"
        folder.mkdir()
        os.utime(folder, (time.time() - days * 86400,) * 2)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [f"{partial_name(machine='0123abcd')}6"]
