"""The trainers end to end, on a small dataset, in this process."""

import builtins
import json
import os
import shutil
from pathlib import Path

import blosc2
import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon import trainers
from nnunet_dycon.data.strong_view import StrongViewTransform
from nnunet_dycon.errors import UserError
from nnunet_dycon.trainers import nnUNetTrainerDyCON, nnUNetTrainerSupervised
from nnunet_dycon.training.embeddings import ProjectionHead
from tests.conftest import LABELED, UNLABELED
from tests.helpers.training import assert_same_log, assert_same_state, logged, make_trainer, state_of, without_plots  # noqa: F401


def write_splits(dataset, train, val, unlabeled=None):
    fold = {"train": train, "val": val}
    if unlabeled is not None:
        fold["unlabeled"] = unlabeled
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps([fold]))


@pytest.fixture
def in_place(dataset):
    """The dataset with all labels, of which two cases are to be used without; no imagesUn."""
    shutil.rmtree(dataset.raw / "imagesUn")
    shutil.rmtree(dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled")
    write_splits(dataset, LABELED[:3], LABELED[3:4], LABELED[4:])
    return dataset


# -------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("name", trainers.__all__)
def test_every_trainer_trains_and_logs(dataset, name):
    trainer = make_trainer(dataset, getattr(trainers, name))
    trainer.run_training()
    assert np.isfinite(trainer.logger.get_value("train_losses", -1))
    log = next((dataset.results / f"{name}__nnUNetPlans__3d_fullres" / "fold_0").glob("training_log*")).read_text()
    assert log.count(" labelled training case(s): case_") == log.count(" validation case(s): case_") == 1
    assert log.count("\nSettings:\n") == 1 and "\n  strong_view_width: 0.5" in log
    if name == "nnUNetTrainerSupervised":
        return
    for loss in trainer.settings.loss_names():
        used = getattr(trainer.settings, f"weight_{loss}") > 0
        assert np.isfinite(trainer.logger.get_value(loss, -1)) == used
        assert (f", {loss} " in log) == used
    assert "unlabeled_batch_size: None" in log
    assert (trainer.head is not None) == (getattr(trainer.settings, "weight_fecl", 0) > 0)


def test_student_learns_from_unlabelled_crops_alone_and_the_teacher_follows(dataset, monkeypatch):
    monkeypatch.setattr(nnUNetTrainerDyCON, "_build_loss", lambda self: lambda output, target: 0 * output[0].sum())
    trainer = make_trainer(dataset)
    trainer.settings = trainer.settings.override({"teach_labeled": False, "weight_fecl": 0, "ramp_length": 0})
    trainer.on_train_start()
    assert_same_state({"a": state_of(trainer)["student"]}, {"a": trainer.teacher_network.state_dict()})
    before = {key: value.clone() for key, value in state_of(trainer)["student"].items()}
    for _ in range(3):
        trainer.train_step(next(trainer.dataloader_train))
    changed = [key for key, value in state_of(trainer)["student"].items() if not torch.equal(value, before[key])]
    assert any("encoder" in key for key in changed)
    teacher = trainer.teacher_network.state_dict()
    assert not torch.equal(teacher["decoder.seg_layers.1.weight"], before["decoder.seg_layers.1.weight"])
    assert all(p.grad is None for p in trainer.teacher.module.parameters())
    assert trainer.steps_done == 3


NO_WEIGHTS = "ramp_start=0,weight_uncl=0,weight_fecl=0,weight_mse=0,weight_dice=0"


@pytest.mark.parametrize("settings", [NO_WEIGHTS, "ramp_start=0.9"])
def test_zero_weights_give_the_supervised_gradient(dataset, monkeypatch, settings):
    """With all weights 0, or before the ramp-up, a step changes the student as nnU-Net's own step does."""
    monkeypatch.setenv("nnUNet_dycon", f"max_patches=512,{settings}")
    ours, stock = make_trainer(dataset), make_trainer(dataset, nnUNetTrainer)
    ours.on_train_start()
    stock.on_train_start()
    stock.network.load_state_dict(ours.network.state_dict())
    for _ in range(2):
        batch = next(ours.dataloader_train)
        assert ours.train_step(batch)["loss"] == pytest.approx(stock.train_step(batch)["loss"], abs=1e-5)
    for key, value in stock.network.state_dict().items():
        torch.testing.assert_close(ours.network.state_dict()[key], value, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("trainer", [nnUNetTrainerDyCON, trainers.nnUNetTrainerDyCONCoTraining])
def test_before_the_ramp_up_only_the_first_step_of_an_epoch_sees_unlabelled_crops(dataset, monkeypatch, trainer):
    lengths = "num_epochs=2,num_iterations_per_epoch=4,num_val_iterations_per_epoch=1"
    monkeypatch.setenv("nnUNet_dycon", f"max_patches=512,ramp_start=0.7,{lengths}")
    trainer = make_trainer(dataset, trainer)
    crops_seen = []
    trainer.initialize()
    trainer.network.register_forward_pre_hook(lambda module, args: crops_seen.append(len(args[0])))
    steps = []
    train_step = trainer.train_step

    def recorded(batch):
        crops_seen.clear()
        result = train_step(batch)
        steps.append(list(crops_seen))
        return result

    monkeypatch.setattr(trainer, "train_step", recorded)
    trainer.run_training()
    b = trainer.batch_size
    assert steps == [[2 * b], [b], [b], [b], [2 * b], [b], [2 * b], [2 * b]]  # the ramp begins in the seventh of eight
    log = logged(trainer)
    assert all(np.isfinite(log[name]).all() for name in ("uncl", "fecl", "dice", "teacher_entropy"))


@pytest.mark.parametrize(("share", "said"), [(0.0, True), (0.01, False), (float("nan"), False)])
def test_the_log_says_when_fecl_has_no_pairs(dataset, monkeypatch, share, said):
    trainer, lines = make_trainer(dataset), []
    monkeypatch.setattr(trainers.nnUNetTrainerMeanTeacher, "on_train_epoch_end", lambda self, outputs: None)
    monkeypatch.setattr(trainer.logger, "get_value", lambda name, step: share)
    monkeypatch.setattr(trainer, "print_to_log_file", lines.append)
    trainer.on_train_epoch_end([])
    assert [line for line in lines if "FeCL had no foreground patch" in line] == lines and bool(lines) == said


@pytest.mark.parametrize(
    ("overlap", "local", "said"),
    [(0.5, True, "0.50, as of an organ"), (0.1, False, "0.10, as of les"), (float("nan"), False, "in no two scans")],
)
def test_the_labelled_masks_tell_whether_the_strong_view_changes_parts_of_a_crop(
    dataset, monkeypatch, overlap, local, said
):
    monkeypatch.setattr("nnunet_dycon.trainers.supervised.location_overlap", lambda data, cases, classes: overlap)
    trainer = make_trainer(dataset)
    trainer.initialize()
    loader = trainer.get_dataloaders()[0].data_loader
    labeled = next(i for i in loader.labeled.transforms.transforms if isinstance(i, StrongViewTransform))
    for transforms in (labeled.transform.transforms, loader.unlabeled._intensity.transforms):
        kinds = {type(i.transform).__name__ for i in transforms}
        assert ("LocalGammaTransform" in kinds) == ("BrightnessGradientAdditiveTransform" in kinds) == local
    assert Path(trainer.log_file).read_text().count(said) == 1


def test_two_runs_with_one_seed_are_identical(dataset):
    runs = []
    for _ in range(2):
        trainer = make_trainer(dataset)
        trainer.run_training()
        runs.append((state_of(trainer), logged(trainer)))
        shutil.rmtree(dataset.results)
    assert_same_state(runs[0][0], runs[1][0])
    assert_same_log(runs[0][1], runs[1][1])


def test_a_seed_draws_the_same_weights_and_crops_with_and_without_the_head(dataset, monkeypatch):
    weights, images = [], []
    for weight in (0, 0.1):
        monkeypatch.setenv("nnUNet_dycon", f"weight_fecl={weight}")
        trainer = make_trainer(dataset)
        trainer.on_train_start()
        weights.append(trainer.network.state_dict())
        images.append(next(trainer.dataloader_train)["data"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.equal(*images)


def test_fecl_moves_the_head_and_needs_no_weight_decay_for_it(dataset):
    trainer = make_trainer(dataset)
    trainer.on_train_start()
    assert isinstance(trainer.head, ProjectionHead)
    trainer.train_step(next(trainer.dataloader_train))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trainer.head.parameters())
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in trainer.head.parameters()} <= in_optimizer
    assert not any("head" in key for key in trainer.network.state_dict())


def test_lengths_set_in_a_subclass_are_respected(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "max_patches=512")

    class nnUNetTrainerShort(nnUNetTrainerDyCON):
        def __init__(self, plans, configuration, fold, dataset_json, device):  # nnU-Net reads these names
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 3, 1

    trainer = make_trainer(dataset, nnUNetTrainerShort)
    trainer.run_training()
    assert trainer.steps_done == 6 and trainer.progress == 1.0
    assert len(trainer.logger.get_value("uncl", None)) == 2


@pytest.mark.parametrize(
    ("configuration", "asked", "most"), [("2d", None, 1024), ("3d_fullres", None, 4096), ("2d", 9, 9)]
)
def test_a_crop_of_a_2d_batch_has_fewer_patches(dataset, configuration, asked, most):
    trainer = make_trainer(dataset, configuration=configuration)
    trainer.use_settings(trainer.settings.override({"max_patches": asked}))
    assert trainer.embedding_patches() == most


def test_two_dimensional_configuration(dataset):
    trainer = make_trainer(dataset, configuration="2d")
    shutil.copytree(dataset.images, dataset.preprocessed / "nnUNetPlans_2d")
    trainer.run_training()
    assert np.isfinite(trainer.logger.get_value("fecl", -1))
    assert (dataset.preprocessed / "nnUNetPlans_2d_unlabeled" / f"{UNLABELED[0]}.b2nd").is_file()


@pytest.mark.parametrize("trainer", [trainers.nnUNetTrainerCoTraining, trainers.nnUNetTrainerDyCONCoTraining])
def test_co_training_moves_two_students_that_differ(dataset, trainer):
    trainer = make_trainer(dataset, trainer)
    trainer.on_train_start()
    key = "encoder.stages.0.0.convs.0.conv.weight"
    before = {name: net.state_dict()[key].clone() for name, net in _both(trainer).items()}
    assert not torch.equal(before["student"], before["peer"])
    for _ in range(2):
        trainer.train_step(next(trainer.dataloader_train))
    after = {name: net.state_dict()[key] for name, net in _both(trainer).items()}
    assert not torch.equal(before["student"], after["student"]) and not torch.equal(before["peer"], after["peer"])


def _both(trainer):
    return {"student": trainer.network, "peer": trainer.teacher_network}


@pytest.mark.parametrize("student_zoom", [1, 1.6])
def test_teacher_sees_the_weak_view(dataset, monkeypatch, student_zoom):
    views = f"weak_teacher_view=true,student_zoom={student_zoom}"
    monkeypatch.setenv("nnUNet_dycon", f"{views},teach_labeled=true,weight_fecl=0,num_epochs=1")
    trainer = make_trainer(dataset)
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    seen = {}
    trainer.teacher_network.register_forward_pre_hook(lambda module, args: seen.update(teacher=args[0]))
    trainer.network.register_forward_pre_hook(lambda module, args: seen.update(student=args[0]))
    batch["unlabeled_weak"] = batch["unlabeled_weak"] + 7
    trainer.train_step(batch)
    torch.testing.assert_close(seen["teacher"], torch.cat([batch["data"], batch["unlabeled_weak"]]))
    torch.testing.assert_close(seen["student"][: len(batch["data"])], batch["data"])
    same = torch.isclose(seen["student"][len(batch["data"]) :], batch["unlabeled"]).float().mean()
    assert same == 1 if student_zoom == 1 else same < 0.5


def test_teacher_may_be_spared_the_labelled_crops(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "teach_labeled=false,unlabeled_batch_size=1,num_epochs=1")
    trainer = make_trainer(dataset)
    trainer.on_train_start()
    seen = []
    trainer.teacher_network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    trainer.train_step(next(trainer.dataloader_train))
    assert seen == [1]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ["nnUNetTrainerDyCON", "nnUNetTrainerBCP", "nnUNetTrainerDyCONCoTraining"])
def test_fewer_or_more_unlabelled_crops_than_labelled_ones(dataset, monkeypatch, name, size):
    every = "teach_labeled=true,cutmix=1,weight_mse=1," if name == "nnUNetTrainerDyCON" else ""
    settings = f"{every}unlabeled_batch_size={size},ramp_start=0,num_epochs=1,num_iterations_per_epoch=1"
    monkeypatch.setenv("nnUNet_dycon", settings)
    trainer = make_trainer(dataset, getattr(trainers, name))
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    assert (len(batch["data"]), len(batch["unlabeled"])) == (2, size)
    assert np.isfinite(trainer.train_step(batch)["loss"])
    means = trainer._step_log.means()
    assert all(np.isfinite(means[i]) for i in trainer.settings.loss_names() if trainer.settings.weight(i) > 0)


def test_all_methods_see_the_same_crops_at_one_seed(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "ramp_start=0,num_epochs=1,num_iterations_per_epoch=3")
    seen = []
    for name in ("nnUNetTrainerDyCON", "nnUNetTrainerMeanTeacher", "nnUNetTrainerCoTraining", "nnUNetTrainerBCP"):
        trainer = make_trainer(dataset, getattr(trainers, name))
        trainer.on_train_start()
        for _ in range(2):
            batch = next(trainer.dataloader_train)
            trainer.train_step(batch)
        seen.append(batch)
        shutil.rmtree(dataset.results)
    for batch in seen[1:]:
        assert all(torch.equal(batch[key], seen[0][key]) for key in ("data", "unlabeled"))


# ----------------------------------------------------------------------------------------- checkpoints


def test_resume_restores_everything_and_continues(dataset, monkeypatch):
    monkeypatch.setenv(
        "nnUNet_dycon", "max_patches=512,num_epochs=3,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1"
    )
    trainer = make_trainer(dataset)
    trainer.num_epochs = 1
    trainer.run_training()
    resumed = make_trainer(dataset, seed=5)
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    assert_same_state(state_of(trainer), state_of(resumed))
    assert resumed.steps_done == 2 and resumed.current_epoch == 1
    for old, new in zip(trainer.optimizer.state.values(), resumed.optimizer.state.values(), strict=True):
        assert torch.equal(old["momentum_buffer"], new["momentum_buffer"])
    assert_same_log(logged(resumed), logged(trainer))
    resumed.run_training()
    assert resumed.steps_done == 6
    assert len(resumed.logger.get_value("teacher_mean_fg_dice", None)) == 3


@pytest.mark.parametrize("predict_with", ["teacher", "student"])
def test_checkpoint_holds_the_network_that_predicts(dataset, monkeypatch, predict_with):
    monkeypatch.setenv(
        "nnUNet_dycon", f"max_patches=512,predict_with={predict_with},num_epochs=1,num_iterations_per_epoch=2"
    )
    trainer = make_trainer(dataset)
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    folder = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0"
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    networks = {"teacher": trainer.teacher_network.state_dict(), "student": trainer.network.state_dict()}
    assert checkpoint["network_weights"].keys() == networks[predict_with].keys()
    for key, value in networks[predict_with].items():
        assert torch.equal(checkpoint["network_weights"][key], value)
    other = networks["student" if predict_with == "teacher" else "teacher"]
    assert any(not torch.equal(checkpoint["network_weights"][key], value) for key, value in other.items())
    assert checkpoint["semi_supervised"]["settings"] == trainer.settings.to_dict()
    assert not list(folder.glob(".*.partial-*"))


def test_settings_of_the_checkpoint_win_unless_asked_otherwise(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "max_patches=512,weight_fecl=0,num_epochs=1,num_iterations_per_epoch=1")
    make_trainer(dataset).run_training()
    file = str(dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0" / "checkpoint_final.pth")
    monkeypatch.setenv("nnUNet_dycon", "predict_with=student")
    trainer = make_trainer(dataset)
    trainer.load_checkpoint(file)
    assert trainer.settings.weight_fecl == 0 and trainer.head is None
    assert trainer.settings.predict_with == "student"
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (1, 1)
    monkeypatch.setenv("nnUNet_dycon", "weight_uncl=0.3")
    with pytest.raises(UserError, match=r"weight_uncl 5.0 -> 0.3"):
        make_trainer(dataset).load_checkpoint(file)


def test_checkpoint_of_another_trainer_is_refused(dataset):
    make_trainer(dataset, nnUNetTrainerSupervised).run_training()
    folder = dataset.results / "nnUNetTrainerSupervised__nnUNetPlans__3d_fullres" / "fold_0"
    with pytest.raises(UserError, match="written by nnUNetTrainerSupervised, not by nnUNetTrainerDyCON"):
        make_trainer(dataset).load_checkpoint(str(folder / "checkpoint_final.pth"))


def test_pretrained_weights_reach_student_and_teacher(dataset):
    make_trainer(dataset, nnUNetTrainerSupervised).run_training()
    file = dataset.results / "nnUNetTrainerSupervised__nnUNetPlans__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    trainer = make_trainer(dataset, seed=3)
    maybe_load_checkpoint(trainer, False, False, str(file))
    trainer.on_train_start()
    weights = torch.load(file, weights_only=False)["network_weights"]
    key = "encoder.stages.0.0.convs.0.conv.weight"
    assert torch.equal(trainer.network.state_dict()[key], weights[key])
    assert torch.equal(trainer.teacher_network.state_dict()[key], weights[key])


def test_final_validation_predicts_with_the_teacher(dataset, monkeypatch):
    trainer = make_trainer(dataset)
    trainer.run_training()
    seen = []
    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", lambda self, npz: seen.append(self.network))
    trainer.perform_actual_validation(False)
    assert seen == [trainer.teacher_network]
    assert trainer.network is not trainer.teacher_network


# --------------------------------------------------------------------------------------------- no leak


def train_in_place(dataset, trainer):
    trainer = make_trainer(dataset, trainer)
    trainer.run_training()
    result = state_of(trainer), logged(trainer)
    shutil.rmtree(dataset.results)
    return result


METHODS = [trainers.nnUNetTrainerDyCON, trainers.nnUNetTrainerBCP, trainers.nnUNetTrainerMeanTeacher]


@pytest.mark.parametrize("trainer", METHODS)
def test_masks_of_unlabelled_cases_change_nothing(in_place, trainer):
    """Noise instead of the masks of unlabelled cases: every logged number and every weight stays the same bit."""
    expected = train_in_place(in_place, trainer)
    rng = np.random.default_rng(0)
    for case in LABELED[4:]:
        file = in_place.images / f"{case}_seg.b2nd"
        shape = blosc2.open(str(file)).shape
        noise = rng.integers(0, 2, shape).astype(np.int16)
        blosc2.asarray(noise, urlpath=str(file), mode="w")
        (in_place.images / f"{case}.pkl").write_bytes(b"noise")
        for folder in (in_place.preprocessed / "gt_segmentations", in_place.raw / "labelsTr"):
            (folder / f"{case}.nii.gz").write_bytes(b"noise")
    actual = train_in_place(in_place, trainer)
    assert_same_state(expected[0], actual[0])
    assert_same_log(expected[1], actual[1])


@pytest.mark.parametrize("trainer", METHODS)
def test_masks_of_unlabelled_cases_need_not_exist_and_are_never_opened(in_place, monkeypatch, trainer):
    expected = train_in_place(in_place, trainer)
    for case in LABELED[4:]:
        (in_place.images / f"{case}_seg.b2nd").unlink()
        (in_place.images / f"{case}.pkl").unlink()
        (in_place.preprocessed / "gt_segmentations" / f"{case}.nii.gz").unlink()
        (in_place.raw / "labelsTr" / f"{case}.nii.gz").unlink()
    opened, plain_open, blosc_open = [], builtins.open, blosc2.open
    monkeypatch.setattr(builtins, "open", lambda file, *a, **k: opened.append(str(file)) or plain_open(file, *a, **k))
    monkeypatch.setattr(blosc2, "open", lambda urlpath, *a, **k: opened.append(urlpath) or blosc_open(urlpath, *a, **k))
    actual = train_in_place(in_place, trainer)
    assert_same_state(expected[0], actual[0])
    of_unlabeled = {file for file in opened if any(case in file for case in LABELED[4:])}
    assert of_unlabeled == {str(in_place.images / f"{case}.b2nd") for case in LABELED[4:]}


def test_fold_all_leaves_out_what_any_fold_calls_unlabelled(in_place):
    trainer = make_trainer(in_place, fold="all")
    train, val = trainer.do_split()
    assert sorted(train) == sorted(val) == LABELED[:4]
    assert trainer.get_unlabeled_dataset().identifiers == LABELED[4:]
    assert sorted(make_trainer(in_place, nnUNetTrainerSupervised, fold="all").do_split()[0]) == LABELED[:4]


@pytest.mark.parametrize("trainer", [trainers.nnUNetTrainerDyCON, nnUNetTrainerSupervised])
def test_test_cases_of_a_split_in_place_are_in_no_training(in_place, trainer):
    """They lie among the labelled ones, with masks; fold "all" and a random fold would take them."""
    roles = {"labeled": LABELED[:2], "unlabeled": LABELED[4:], "validation": [], "test": LABELED[3:4]}
    roles["left_out"] = LABELED[2:3]
    (in_place.preprocessed / "split.json").write_text(json.dumps({"cases": roles, "fold": 0}))
    write_splits(in_place, LABELED[:2], LABELED[:2], LABELED[4:])
    assert [sorted(i) for i in make_trainer(in_place, trainer, fold="all").do_split()] == [LABELED[:2]] * 2
    write_splits(in_place, LABELED[:2], LABELED[:2])
    with pytest.raises(UserError, match=r"has no fold 1, and split.json holds out 2 cases"):
        make_trainer(in_place, trainer, fold=1).do_split()
    write_splits(in_place, LABELED[:4], LABELED[4:])  # a fold from before the split
    with pytest.raises(UserError, match=rf"fold 0 in .* has {LABELED[3]}, which split.json calls test cases"):
        make_trainer(in_place, trainer, fold=0).do_split()
    (in_place.preprocessed / "splits_final.json").unlink()
    with pytest.raises(UserError, match=r"has no fold 0, and split.json holds out 2 cases"):
        make_trainer(in_place, trainer).do_split()
    assert not (in_place.preprocessed / "splits_final.json").exists()


@pytest.mark.parametrize("trainer", [trainers.nnUNetTrainerDyCON, nnUNetTrainerSupervised])
@pytest.mark.parametrize("part", ["Un", "Ts"])
def test_a_case_that_was_moved_after_preprocessing_is_refused(dataset, trainer, part):
    file = f"{LABELED[0]}_0000.nii.gz"
    os.rename(dataset.raw / "imagesTr" / file, dataset.raw / f"images{part}" / file)
    with pytest.raises(UserError, match=rf"{LABELED[0]}: in images{part} now, not in imagesTr, but still preprocessed"):
        make_trainer(dataset, trainer, fold="all").on_train_start()
    write_splits(dataset, LABELED[1:4], LABELED[4:])
    if part == "Ts":  # a fold without it reads no mask of it
        make_trainer(dataset, trainer).do_split()


def test_no_mask_file_passes_for_an_unlabelled_image(in_place):
    write_splits(in_place, LABELED[:3], LABELED[3:4], [f"{LABELED[4]}_seg"])
    with pytest.raises(UserError, match=rf"names {LABELED[4]}_seg under 'unlabeled', .* \(did you mean {LABELED[4]}"):
        make_trainer(in_place).on_train_start()


def test_both_kinds_of_unlabelled_cases_are_joined(dataset):
    write_splits(dataset, LABELED[:3], LABELED[3:4], LABELED[4:])
    assert make_trainer(dataset).get_unlabeled_dataset().identifiers == [*LABELED[4:], *UNLABELED]


# ------------------------------------------------------------------------------------------- bad input


def test_no_unlabelled_case_is_refused(dataset):
    os.rename(dataset.raw / "imagesUn", dataset.raw / "elsewhere")
    shutil.rmtree(dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled")
    with pytest.raises(UserError, match=r"no unlabelled case in fold 0: no scan in .*imagesUn, nor a fold"):
        make_trainer(dataset).on_train_start()


@pytest.mark.parametrize(
    ("train", "val", "unlabeled", "message"),
    [
        (LABELED[:3], LABELED[3:4], LABELED[2:3], "also labelled for training: case_02"),
        (LABELED[:3], LABELED[3:4], LABELED[3:5], "also a validation case: case_03"),
        ([], LABELED[3:4], LABELED[4:], "no training case; name labelled cases"),
        (
            LABELED[:3],
            LABELED[3:4],
            ["case_77"],
            r"names case_77 under 'unlabeled', .* imagesUn are unlab",
        ),
    ],
)
def test_contradicting_splits_are_refused(in_place, train, val, unlabeled, message):
    write_splits(in_place, train, val, unlabeled)
    with pytest.raises(UserError, match=message):
        make_trainer(in_place).on_train_start()


def test_a_labelled_case_in_images_un_is_refused(dataset):
    shutil.copy(
        dataset.raw / "imagesTr" / f"{LABELED[0]}_0000.nii.gz", dataset.raw / "imagesUn" / f"{LABELED[0]}_0000.nii.gz"
    )
    with pytest.raises(UserError, match=f"also labelled for training: {LABELED[0]}"):
        make_trainer(dataset).on_train_start()


def test_a_fold_that_splits_final_does_not_have_is_refused(in_place):
    with pytest.raises(UserError, match="not for fold 3"):
        make_trainer(in_place, fold=3).on_train_start()


def test_few_labelled_cases_without_splits_train_and_validate_on_all(dataset):
    for case in LABELED[3:]:
        for file in dataset.images.glob(f"{case}*"):
            file.unlink()
    trainer = make_trainer(dataset)
    assert trainer.do_split() == (LABELED[:3], LABELED[:3]) and trainer.validates_on_training_cases
    assert not (dataset.preprocessed / "splits_final.json").exists()
    folder = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0"
    log = next(folder.glob("training_log*")).read_text()
    assert "Only 3 labelled cases" in log and "validating on the same" in log


@pytest.mark.parametrize("text", ["[", '{"train": []}', '[{"train": []}]'])
def test_an_unreadable_split_is_named(dataset, text):
    (dataset.preprocessed / "splits_final.json").write_text(text)
    with pytest.raises(UserError, match=r"splits_final.json"):
        make_trainer(dataset).do_split()


def test_unknown_settings_are_refused_before_anything_starts(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "weight_fcl=1")
    with pytest.raises(UserError, match="weight_fecl"):
        make_trainer(dataset)


def test_plans_without_a_usable_stage_are_refused(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "max_patches=3")
    with pytest.raises(UserError, match="no encoder stage"):
        make_trainer(dataset).initialize()


def test_nnunet_finds_the_trainers_and_not_their_base(dataset):
    trainer = get_trainer_from_args("901", "3d_fullres", 0, "nnUNetTrainerDyCON", device=torch.device("cpu"))
    assert type(trainer) is nnUNetTrainerDyCON
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerSemiSupervised"):
        get_trainer_from_args("901", "3d_fullres", 0, "nnUNetTrainerSemiSupervised", device=torch.device("cpu"))
