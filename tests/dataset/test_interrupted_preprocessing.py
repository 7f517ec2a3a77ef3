"""Preprocessing of unlabelled scans that is killed, or done by several processes at the same time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from tests.conftest import UNLABELED
from tests.dataset.test_unlabeled_preprocessing import preprocess, unlabeled_folder

SCRIPT = """
import sys, time
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
seconds, real = float(sys.argv[1]), DefaultPreprocessor.run_case_save

def slow(self, *args):
    real(self, *args)
    time.sleep(seconds)  # the image is written and not in its place

DefaultPreprocessor.run_case_save = slow  # in the worker, too, which imports this file
if __name__ == "__main__":
    from nnunet_dycon.cli import main
    sys.exit(main(["preprocess", "-d", "901", "-c", "3d_fullres", "-np", "1"]))
"""


@pytest.fixture(autouse=True)
def nothing_preprocessed(dataset):
    shutil.rmtree(unlabeled_folder(dataset))


def start(tmp_path, seconds):
    file = tmp_path / "preprocess.py"
    file.write_text(SCRIPT)
    return subprocess.Popen([sys.executable, str(file), str(seconds)])


def assert_only_whole_cases(dataset):
    files = {i.name for i in unlabeled_folder(dataset).iterdir()}
    assert files == {f"{case}{ending}" for case in UNLABELED for ending in (".b2nd", ".json")}


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


def test_after_a_kill_the_next_run_ends_clean(dataset, in_process, tmp_path):
    process = start(tmp_path, seconds=600)
    image = wait_for(lambda: [*unlabeled_folder(dataset).glob(".*/*.b2nd")])[0]
    assert preprocess(dataset) == UNLABELED  # the running process loses nothing by it
    assert image.is_file()
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.utime(image.parent, (time.time() - 25 * 3600,) * 2)  # a day later
    assert preprocess(dataset) == UNLABELED
    assert_only_whole_cases(dataset)


def test_processes_that_start_together_all_end_well(dataset, tmp_path):
    processes = [start(tmp_path, seconds=0.2) for _ in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert_only_whole_cases(dataset)


def test_a_case_that_another_process_has_finished_is_left_alone(dataset, in_process, monkeypatch):
    real, done = DefaultPreprocessor.run_case_save, {}

    def overtaken(self, *args):
        real(self, *args)
        if not done:
            done["during"] = None  # the other process does all cases while this one does its first
            preprocess(dataset)
            done.update({i.name: i.stat().st_ino for i in unlabeled_folder(dataset).glob("*.*")})

    monkeypatch.setattr(DefaultPreprocessor, "run_case_save", overtaken)
    assert preprocess(dataset) == UNLABELED
    assert_only_whole_cases(dataset)
    for case in UNLABELED:
        for name in (f"{case}.b2nd", f"{case}.json"):
            assert (unlabeled_folder(dataset) / name).stat().st_ino == done[name], name
