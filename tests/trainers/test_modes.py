"""Every mode of nnU-Net from raw images to a prediction, with nnU-Net's own commands; docs/modes.md lists them."""

import json
import shutil
from functools import partial

import blosc2
import numpy as np
import pytest
import torch
from torch._dynamo import OptimizedModule

from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.losses.patches import patch_labels
from nnunet_dycon.trainers import nnUNetTrainerDyCON
from nnunet_dycon.training.processes import unwrap
from nnunet_dycon.training.step import Step, Taught
from tests.conftest import Nnunet
from tests.helpers.tiny_dataset import CASES, SCANS, Commands, Spec, shrink_plans, threads_for_processes
from tests.helpers.training import make_trainer, without_plots  # noqa: F401

LENGTH = "num_epochs=1,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1,max_patches=512"


@pytest.fixture
def commands(tmp_path, monkeypatch, in_process):
    nnunet = Nnunet(tmp_path)
    for key, value in nnunet.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("nnUNet_dycon", LENGTH)
    threads_for_processes(monkeypatch)
    return Commands(nnunet, monkeypatch)


def model_folder(commands, configuration, plans="nnUNetPlans"):
    return commands.nnunet.results / f"nnUNetTrainerDyCON__{plans}__{configuration}"


def checked_log(commands, configuration, fold=0, plans="nnUNetPlans"):
    """The training's log, after a check that all losses are finite and the semi-supervised ones above 0."""
    folder = model_folder(commands, configuration, plans) / f"fold_{fold}"
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    for loss in ("train_losses", "val_losses", "uncl", "fecl", "dice"):
        assert np.isfinite(checkpoint["logging"][loss]).all(), loss
    for loss in ("uncl", "fecl", "dice"):
        assert checkpoint["logging"][loss][-1] > 0, loss
    assert checkpoint["semi_supervised"]["step"] == 2
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) > 0
    return next(folder.glob("training_log*")).read_text()


def predicted_labels(commands, folder, spec):
    """Label values of the one prediction, which has the test image's size."""
    file = folder / f"test_0{spec.ending}"
    labels = read_volume(file, reader_of(file, {"file_ending": spec.ending}), is_mask=True).voxels
    assert labels.shape == (1, *spec.shape)
    return set(np.unique(labels).tolist())


REGIONS = {"background": 0, "whole": [1, 2], "core": 2}
MODES = {
    "multi-class": (Spec(), "3d_fullres"),
    "regions": (Spec(labels=REGIONS, regions_class_order=(1, 2)), "3d_fullres"),
    "ignore label": (Spec(labels={"background": 0, "ball": 1, "core": 2, "ignore": 3}), "3d_fullres"),
    "regions with ignore label": (Spec(labels=REGIONS | {"ignore": 3}, regions_class_order=(1, 2)), "3d_fullres"),
    "multi-channel, mha": (Spec(channels=3, ending=".mha"), "3d_fullres"),
    "anisotropic, nrrd": (Spec(shape=(8, 24, 24), spacing=(4.0, 1.0, 1.0), ending=".nrrd"), "3d_fullres"),
    "2d, tif": (Spec(ending=".tif", spacing=(2.0, 1.0, 1.0)), "2d"),
}


@pytest.mark.parametrize("mode", MODES)
def test_mode_from_raw_images_to_a_prediction(commands, mode):
    spec, configuration = MODES[mode]
    commands.plan_and_preprocess(spec, configuration)
    shrink_plans(commands.nnunet, **({"patch_size": [4, 24, 24]} if "anisotropic" in mode else {}))
    commands.train(configuration, 0)
    log = checked_log(commands, configuration)
    assert "4 labelled and 2 unlabelled training cases" in log
    assert ("do_dummy_2d_data_aug: True" in log) == ("anisotropic" in mode)
    assert predicted_labels(commands, commands.predict(configuration, 0), spec) <= {0, 1, 2}
    unlabeled = commands.nnunet.preprocessed / f"nnUNetPlans_{configuration}_unlabeled"
    assert sorted(i.stem for i in unlabeled.glob("*.b2nd")) == SCANS


def test_residual_encoder_plans(commands):
    commands.plan_and_preprocess(Spec(), "3d_fullres", planner="nnUNetPlannerResEncM")
    shrink_plans(commands.nnunet, "nnUNetResEncUNetMPlans")
    commands.train("3d_fullres", 0, "-p", "nnUNetResEncUNetMPlans")
    checked_log(commands, "3d_fullres", plans="nnUNetResEncUNetMPlans")
    output = commands.predict("3d_fullres", 0, "-p", "nnUNetResEncUNetMPlans")
    assert predicted_labels(commands, output, Spec()) <= {0, 1, 2}


@pytest.mark.parametrize("spec", [Spec(), Spec(labels=REGIONS, regions_class_order=(1, 2))], ids=["classes", "regions"])
def test_cascade_from_low_resolution_to_a_prediction(commands, monkeypatch, spec):
    commands.plan_and_preprocess(spec, "3d_fullres")
    add_cascade(commands.nnunet)
    shrink_plans(commands.nnunet)
    commands.preprocess("3d_lowres")
    commands.train("3d_lowres", 0)
    checked_log(commands, "3d_lowres")
    first = model_folder(commands, "3d_lowres")
    of_labeled, of_unlabeled = (i / "predicted_next_stage/3d_cascade_fullres" for i in (first, first / "fold_0"))
    assert names(of_labeled) == CASES and names(of_unlabeled) == SCANS
    first_output = commands.predict("3d_lowres", 0)
    assert predicted_labels(commands, first_output, spec) <= {0, 1, 2}

    seen = []
    step = nnUNetTrainerDyCON.train_step
    monkeypatch.setattr(nnUNetTrainerDyCON, "train_step", lambda self, batch: seen.append(batch) or step(self, batch))
    commands.train("3d_cascade_fullres", 0)
    checked_log(commands, "3d_cascade_fullres")
    for batch in seen:  # one channel of the image and one for each of the two foreground labels
        views = [batch[i] for i in ("data", "unlabeled", "unlabeled_weak")]
        assert all(i.shape == (2, 3, 24, 24, 24) and set(i[:, 1:].unique().tolist()) <= {0.0, 1.0} for i in views)
    previous = commands.nnunet.root / "first_stage"
    first_output.rename(previous)
    output = commands.predict("3d_cascade_fullres", 0, "-prev_stage_predictions", previous)
    assert predicted_labels(commands, output, spec) <= {0, 1, 2}


def names(folder):
    """Names of the cases whose predictions a folder holds; nothing else is in it."""
    return sorted(i.name.removesuffix(".b2nd") for i in folder.iterdir())


def test_second_stage_says_which_predictions_of_the_first_are_missing(commands):
    commands.plan_and_preprocess(Spec(), "3d_fullres")
    add_cascade(commands.nnunet)
    shrink_plans(commands.nnunet)
    command = "nnUNetv2_train 901 3d_lowres {} -tr nnUNetTrainerDyCON, with --val"
    with pytest.raises(
        UserError, match=rf"2 of 2 cases have no .*{command.format(0)}.* First: .*scan_0.b2nd is missing"
    ):
        commands.train("3d_cascade_fullres", 0)
    folder = model_folder(commands, "3d_lowres") / "fold_0/predicted_next_stage/3d_cascade_fullres"
    folder.mkdir(parents=True)
    for case in SCANS:
        blosc2.asarray(np.zeros((24, 24, 23), np.uint8), urlpath=str(folder / f"{case}.b2nd"))
    with pytest.raises(
        UserError, match=r"scan_0.b2nd has \(24, 24, 23\) voxels, the preprocessed image \(24, 24, 24\)"
    ):
        commands.train("3d_cascade_fullres", 0)
    for case in SCANS:
        blosc2.asarray(np.zeros((24, 24, 24), np.uint8), urlpath=str(folder / f"{case}.b2nd"), mode="w")
    with pytest.raises(UserError, match=rf"4 of 4 cases .*{command.format('FOLD')}.* First: .*case_0.b2nd is missing"):
        commands.train("3d_cascade_fullres", 0)
    assert not list(model_folder(commands, "3d_cascade_fullres").rglob("*.pth"))


def test_cascade_needs_no_mask_of_an_unlabelled_case(commands):
    """Cases of the split's key: their segmentations and properties are deleted before either stage is trained."""
    commands.plan_and_preprocess(Spec(), "3d_fullres")
    add_cascade(commands.nnunet)
    shrink_plans(commands.nnunet)
    commands.preprocess("3d_lowres")
    shutil.rmtree(commands.nnunet.raw / "imagesUn")
    fold = {"train": CASES[:2], "val": CASES[:2], "unlabeled": CASES[2:]}
    (commands.nnunet.preprocessed / "splits_final.json").write_text(json.dumps([fold]))
    for case in CASES[2:]:
        masks = [
            *commands.nnunet.preprocessed.rglob(f"{case}_seg.b2nd"),
            *commands.nnunet.preprocessed.rglob(f"{case}.pkl"),
            *commands.nnunet.root.rglob(f"{case}.nii.gz"),
        ]
        assert len(masks) == 6
        for file in masks:
            file.unlink()
    commands.train("3d_lowres", 0)
    assert names(model_folder(commands, "3d_lowres") / "fold_0/predicted_next_stage/3d_cascade_fullres") == CASES[2:]
    commands.train("3d_cascade_fullres", 0)
    assert "2 labelled and 2 unlabelled training cases" in checked_log(commands, "3d_cascade_fullres")


def add_cascade(nnunet):
    """What the planner adds for images that are large beside the patch."""
    file = nnunet.preprocessed / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    configurations = plans["configurations"]
    lowres = {"data_identifier": "nnUNetPlans_3d_lowres", "spacing": [1.5] * 3, "next_stage": "3d_cascade_fullres"}
    configurations["3d_lowres"] = configurations["3d_fullres"] | lowres
    configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    file.write_text(json.dumps(plans))


@pytest.fixture
def two_models(commands):
    """Folds 0 and 1 of two configurations, with probabilities, in two folds of two cases."""
    commands.plan_and_preprocess(Spec(), "3d_fullres", "2d")
    shrink_plans(commands.nnunet)
    folds = [{"train": CASES[:2], "val": CASES[2:]}, {"train": CASES[2:], "val": CASES[:2]}]
    (commands.nnunet.preprocessed / "splits_final.json").write_text(json.dumps(folds))
    for configuration in ("2d", "3d_fullres"):
        for fold in (0, 1):
            commands.train(configuration, fold, "--npz")
    return commands


def test_the_best_configuration_is_found_over_folds(two_models):
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration_entry_point

    commands = two_models
    models = ["-tr", "nnUNetTrainerDyCON", "-c", "2d", "3d_fullres", "-f", 0, 1, "-np", 1]
    commands.call(find_best_configuration_entry_point, 901, *models)
    found = json.loads((commands.nnunet.results / "inference_information.json").read_text())
    assert len(found["all_results"]) == 3  # two models and their ensemble
    instructions = (commands.nnunet.results / "inference_instructions.txt").read_text()
    assert "-tr nnUNetTrainerDyCON" in instructions and "-f  0 1" in instructions
    best = model_folder(commands, "3d_fullres") / "crossval_results_folds_0_1"
    assert {i.name for i in best.glob("*.nii.gz")} == {f"{case}.nii.gz" for case in CASES}


def test_fold_all_starting_from_pretrained_weights(commands, monkeypatch):
    commands.plan_and_preprocess(Spec(), "3d_fullres")
    shrink_plans(commands.nnunet)
    commands.train("3d_fullres", "all")
    log = checked_log(commands, "3d_fullres", "all")
    assert "4 labelled and 2 unlabelled" in log
    assert predicted_labels(commands, commands.predict("3d_fullres", "all"), Spec()) <= {0, 1, 2}
    first = model_folder(commands, "3d_fullres") / "fold_all" / "checkpoint_final.pth"
    weights = torch.load(first, weights_only=False)["network_weights"]
    monkeypatch.setenv("nnUNet_compile", "true")  # nnU-Net does not compile on a CPU and says so
    monkeypatch.setattr("torch.optim.SGD.step", lambda self, closure=None: None)
    commands.train("3d_fullres", 0, "-pretrained_weights", first)
    second = torch.load(model_folder(commands, "3d_fullres") / "fold_0" / "checkpoint_final.pth", weights_only=False)
    key = "encoder.stages.0.0.convs.0.conv.weight"
    assert torch.equal(second["network_weights"][key], weights[key])
    assert "torch.compile disabled because device is CPU" in checked_log(commands, "3d_fullres")


@pytest.mark.parametrize("mode", ["ignore label", "regions with ignore label"])
def test_unannotated_voxels_are_left_out_of_the_supervised_loss_and_labelled_by_the_teacher(commands, mode):
    commands.plan_and_preprocess(MODES[mode][0], "3d_fullres")
    shrink_plans(commands.nnunet)
    trainer = make_trainer(commands.nnunet)
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    target = batch["target"][0]
    manager = trainer.label_manager
    order = manager.regions_class_order if manager.has_regions else None
    ignored = target[:, -1] > 0 if manager.has_regions else target[:, 0] == manager.ignore_label
    assert 0 < ignored.float().mean() < 1
    labels = trainer._true_labels(target)
    assert (labels[ignored] == -1).all() and (labels[~ignored] >= 0).all()
    share = trainer.settings.patch_foreground_share
    fine = patch_labels(labels, [0, 1, 2], trainer.grid, foreground_share=share).reshape(len(labels), *trainer.grid)
    whole = torch.nn.functional.adaptive_avg_pool3d(ignored[:, None].float(), trainer.grid)[:, 0]
    assert (fine[whole == 1] == -1).all() and (fine[whole < 1] >= 0).all() and (whole == 1).any()
    logits = torch.full((2 * len(labels), manager.num_segmentation_heads, *labels.shape[1:]), -10.0)
    logits[:, 0 if order else 1] = 10  # the teacher sees the first foreground class everywhere
    step = Step(0.5, target, logits, Taught(logits), grid=trainer.grid)
    filled = trainer._patch_labels(step)[: len(labels)].reshape(len(labels), *trainer.grid)
    assert (filled[whole == 1] == (order[0] if order else 1)).all()
    annotated = filled[(whole == 0) & (filled >= 0)]
    assert torch.equal(annotated, fine[(whole == 0) & (filled >= 0)])
    output = [torch.randn(len(i), manager.num_segmentation_heads, *i.shape[2:]) for i in batch["target"]]
    changed = [i.clone() for i in output]
    changed[0].movedim(1, -1)[ignored] += 5
    loss = trainer.loss([i.clone() for i in output], [i.clone() for i in batch["target"]])
    assert torch.equal(loss, trainer.loss(changed, batch["target"]))


def test_a_tif_scan_whose_spacing_changes_is_preprocessed_again(commands):
    commands.plan_and_preprocess(MODES["2d, tif"][0], "2d")
    trainer = make_trainer(commands.nnunet, configuration="2d")
    trainer.unlabeled_cases.preprocess("2d")
    record = commands.nnunet.preprocessed / "nnUNetPlans_2d_unlabeled" / f"{SCANS[0]}.json"
    before = record.read_text()
    spacing = commands.nnunet.raw / "imagesUn" / f"{SCANS[0]}.json"
    shutil.copy(spacing, spacing.with_suffix(".old"))
    spacing.write_text('{"spacing": [2.0, 3.0, 3.0]}')
    spacing.with_suffix(".old").unlink()
    trainer.unlabeled_cases.preprocess("2d")
    assert record.read_text() != before


def test_compiled_networks_train_as_others_do(dataset, monkeypatch):
    """On a GPU nnU-Net compiles the student, and the trainer its teacher; here without generating code."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="eager"))
    trained = []
    for compiled in (False, True):
        monkeypatch.setattr(nnUNetTrainerDyCON, "_do_i_compile", lambda self, compiled=compiled: compiled)
        trainer = make_trainer(dataset)
        trainer.run_training()
        assert isinstance(trainer.network, OptimizedModule) == compiled
        assert isinstance(trainer.teacher_network, OptimizedModule) == compiled
        trained.append([unwrap(i).state_dict() for i in (trainer.network, trainer.teacher_network)])
        shutil.rmtree(dataset.results)
    for plain, compiled in zip(*trained, strict=True):
        assert plain.keys() == compiled.keys()
        for key, value in plain.items():
            torch.testing.assert_close(compiled[key], value, atol=1e-5, rtol=1e-4)
