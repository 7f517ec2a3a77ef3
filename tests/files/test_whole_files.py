"""Files and folders appear whole or not at all, and what killed processes left is removed, but nothing else."""

from __future__ import annotations

import errno
import os
import time

import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.files import whole_files
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.whole_files import check_writable, partial_folder, whole, whole_folders, write_text


def names(folder):
    return sorted(i.name for i in folder.iterdir())


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


def test_folders_appear_together_or_not_at_all(tmp_path, monkeypatch):
    targets = [tmp_path / name / "new" for name in "abc"]
    for target in targets:
        target.parent.mkdir()

    def make():
        with whole_folders(*targets) as folders:
            for folder in folders:
                folder.mkdir()
                (folder / "file").touch()
                assert folder.parent.parent in {target.parent for target in targets}

    replace = os.replace

    def fails_at_the_last(source, target):
        if target == targets[-1]:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert [names(target.parent) for target in targets] == [[], [], []]
    make()
    assert [names(target) for target in targets] == [["file"]] * 3
    with pytest.raises(OSError, match="not empty"):  # what was there before stays
        make()
    assert [names(target.parent) for target in targets] == [["new"]] * 3


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), OSError(errno.EDQUOT, "Quota")])
def test_a_full_disk_is_named(tmp_path, error):
    with pytest.raises(UserError, match=r"the disk of .* is full; make room there"), whole(tmp_path / "a"):
        raise error
    with pytest.raises(PermissionError), whole(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(FileNotFoundError):
        write_text("", tmp_path / "nowhere" / "a")


def test_leftovers_of_killed_processes_are_removed_after_a_day(tmp_path):
    kept = [".hidden", "a.partial-abcd", ".new.partial-abcd"]
    for name in [*kept, ".old.partial-abcd"]:
        (tmp_path / name).mkdir()
        age_hours = 1 if name == ".new.partial-abcd" else 25
        os.utime(tmp_path / name, (time.time() - age_hours * 3600,) * 2)
    with partial_folder(tmp_path, "b") as mine:
        assert mine.is_dir()
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    check_writable(tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == []
    monkeypatch.setattr(whole_files.tempfile, "mkdtemp", refuse)
    message = rf"^{tmp_path} cannot be written \({os.strerror(number)}\); see to its permissions"
    with pytest.raises(UserError, match=message):
        write_text("", tmp_path / "a")
    with pytest.raises(UserError, match=message):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file cannot be written \(File exists\)"):
        check_writable(tmp_path / "file")
