"""What a user of nnU-Net's commands sees and keeps of an error, and how many threads a training on a CPU takes."""

import sys

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.errors import UserError
from nnunet_dycon.startup import nnunet_process
from nnunet_dycon.startup.nnunet_process import leave_nothing, prepare, show_error


@pytest.fixture(autouse=True)
def hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def make(trainer="nnUNetTrainerDyCON"):
    return get_trainer_from_args("901", "3d_fullres", 0, trainer, device=torch.device("cpu"))


def shown(action):
    """Run an action as the body of nnUNetv2_train and hand its error to the hook."""
    try:
        action()
    except Exception as error:
        show_error(type(error), error, error.__traceback__)


def refused():
    trainer = make()
    trainer.get_dataloaders = fails
    trainer.run_training()


def fails(*args):
    raise UserError("correct this")


def test_a_refused_start_shows_its_message_alone_and_leaves_nothing(dataset, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/nnUNetv2_train"])
    shown(refused)
    assert capsys.readouterr().err == "\nnnUNetv2_train: error: correct this\n"
    assert not dataset.results.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_in_one_sentence(dataset, capsys):
    shown(lambda: get_trainer_from_args("901", "3d_fullres", 0, "nnUNetTrainerDyCON").initialize())
    err = capsys.readouterr().err
    assert "error: no GPU is found; -device cpu" in err and len(err.splitlines()) == 2
    assert not dataset.results.exists()


def test_wrong_settings_leave_nothing(dataset, capsys, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "weight_fcl=1")
    shown(make)
    err = capsys.readouterr().err
    assert "weight_fecl" in err and "Traceback" not in err
    assert not dataset.results.exists()


def test_a_refused_start_leaves_what_others_wrote(dataset):
    fold = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_best.pth").write_text("")
    (fold.parent / "plans.json").write_text("")
    shown(refused)
    assert [i.name for i in fold.iterdir()] == ["checkpoint_best.pth"] and (fold.parent / "plans.json").exists()


def test_files_of_a_start_without_an_epoch_are_removed_with_it(tmp_path):
    fold = tmp_path / "results" / "Dataset901_Balls" / "T__P__C" / "fold_0"
    fold.mkdir(parents=True)
    for file in (fold / "log", fold / "debug.json", fold.parent / "plans.json", fold.parent / "dataset.json"):
        file.write_text("")
    leave_nothing(fold / "log")
    assert not any((tmp_path / "results").iterdir())


def test_an_error_after_the_first_epoch_began_stays_in_the_log(dataset, monkeypatch):
    made = []

    def train():
        made.append(make())
        made[0].train_step = fails
        made[0].run_training()

    shown(train)
    with open(made[0].log_file) as log:
        assert log.read().rstrip().endswith("error: correct this")


def test_other_errors_keep_their_traceback_and_an_unknown_trainer_gets_a_hint(dataset, capsys):
    shown(lambda: 1 / 0)
    assert "Traceback" in capsys.readouterr().err
    shown(lambda: make("nnUNetTrainerDyCONN"))
    err = capsys.readouterr().err
    assert "Could not find requested nnunet trainer" in err
    assert "nnUNetTrainerMeanTeacher" in err.splitlines()[-1] and "_100epochs" in err.splitlines()[-1]


def test_missing_plans_are_named_with_their_planner(dataset, capsys):
    shown(lambda: get_trainer_from_args("901", "3d_fullres", 0, "nnUNetTrainerDyCON", "nnUNetResEncUNetLPlans"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("run nnUNetv2_plan_and_preprocess -d 901 -pl nnUNetPlannerResEncL")


def test_developers_keep_the_traceback(monkeypatch):
    before = sys.excepthook
    monkeypatch.setenv("nnUNet_dycon_traceback", "1")
    prepare()
    assert sys.excepthook is before
    monkeypatch.delenv("nnUNet_dycon_traceback")
    prepare()
    assert sys.excepthook is show_error


@pytest.mark.parametrize(("asked", "all_cores", "used"), [("2", 8, 2), ("", 8, 8), ("8", 1, 1), ("x", 8, 8)])
def test_threads_are_as_many_as_asked_for(monkeypatch, asked, all_cores, used):
    threads = [all_cores]
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    prepare()
    assert threads[-1] == used


def test_the_trainer_of_an_error_is_found_in_its_frames(dataset):
    try:
        refused()
    except UserError as error:
        assert isinstance(nnunet_process._trainer_of(error.__traceback__), nnUNetTrainer)
