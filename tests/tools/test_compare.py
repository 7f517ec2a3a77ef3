"""The comparison of trainers: what is trained on what, resumed, and what the table says."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nnunet_dycon.cli import main
from nnunet_dycon.dataset.pseudo_labels import write_pseudo_labeled_dataset
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.compare import job as job_module
from nnunet_dycon.tools.compare import table, training
from nnunet_dycon.tools.compare.checks import check_experiment
from nnunet_dycon.tools.compare.experiment import Experiment, Run, environment
from nnunet_dycon.tools.compare.job import do_job
from nnunet_dycon.tools.compare.schedule import run_jobs
from tests.conftest import blob, write_image

LENGTH = "num_epochs=2,num_iterations_per_epoch=1,num_val_iterations_per_epoch=1,picture_every_epochs=0,max_patches=512"
RUNS = ("control=nnUNetTrainerSupervised", "dycon=nnUNetTrainerDyCON", "self=nnUNetTrainerSupervised@control")


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    """Drawing takes longer than these trainings."""
    for name in ("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetTrainer.plot_network_architecture",
                 "nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png",
                 "nnunet_dycon.training.curves.SemiSupervisedLogger.plot_progress_png"):  # fmt: skip
        monkeypatch.setattr(name, lambda *arguments: None)


def experiment_of(dataset, tmp_path, *, runs=RUNS[:1], **changes) -> Experiment:
    if not (dataset.raw / "labelsTs").exists():
        write_image(blob(99)[1], dataset.raw / "labelsTs" / "test_00.nii.gz")
    values = {
        "dataset": "901", "configuration": "3d_fullres", "plans": "nnUNetPlans", "folds": ("all",), "seeds": (0,),
        "cross_validation": False, "output": tmp_path / "out", "settings": LENGTH, "device": "cpu", "curve": 1,
        "mirroring": False, "runs": tuple(Run.parse(run, "901") for run in runs),
    }  # fmt: skip
    return Experiment(**(values | changes))


def do(experiment: Experiment, name: str) -> dict:
    job = experiment.job(name)
    do_job(experiment, job)
    return json.loads((experiment.folder(job) / "job.json").read_text())


def weights(experiment: Experiment, name: str) -> dict[str, torch.Tensor]:
    (file,) = experiment.folder(experiment.job(name)).glob("results/*/*/*/checkpoint_final.pth")
    return torch.load(file, weights_only=False)["network_weights"]


def test_all_runs_of_a_seed_come_before_the_next_seed(dataset, tmp_path):
    experiment = experiment_of(dataset, tmp_path, runs=RUNS, seeds=(0, 3))
    assert [str(job) for job in experiment.jobs()][:4] == ["control:0", "dycon:0", "self:0", "control:3"]


def test_a_killed_job_continues_to_the_same_weights(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY_S", -1)
    whole = experiment_of(dataset, tmp_path / "whole", curve=2)
    result = do(whole, "control:0")
    assert list(result["curve"]) == ["1", "2"] and len(result["cases"]) == 1
    monkeypatch.setenv(training.PARENT, "1")  # the starting process has gone: the job ends after an epoch
    killed = experiment_of(dataset, tmp_path / "killed", curve=2)
    with pytest.raises(SystemExit):
        do(killed, "control:0")
    monkeypatch.delenv(training.PARENT)
    again = do(killed, "control:0")
    assert again["cases"] == result["cases"] and again["curve"] == result["curve"]
    expected = weights(whole, "control:0")
    assert all(torch.equal(value, expected[key]) for key, value in weights(killed, "control:0").items())


def test_bfloat16_reaches_the_semi_supervised_losses(dataset, tmp_path, monkeypatch):
    from nnunet_dycon.trainers import nnUNetTrainerDyCON

    seen = []
    losses = nnUNetTrainerDyCON.semi_supervised_losses

    def spy(self, step):
        seen.append((step.student_logits.dtype, step.teacher.logits.dtype))
        return losses(self, step)

    monkeypatch.setattr(nnUNetTrainerDyCON, "semi_supervised_losses", spy)
    result = do(experiment_of(dataset, tmp_path, runs=RUNS[:2], bfloat16=True), "dycon:0")
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)} and np.isfinite(result["train_loss"])


def test_self_training_takes_the_predictions_of_the_run_for_masks(dataset, tmp_path, monkeypatch):
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    experiment = experiment_of(dataset, tmp_path, runs=RUNS, min_confidence=0.6)
    with pytest.raises(UserError, match="needs the predictions of control:0"):
        do(experiment, "self:0")
    do(experiment, "control:0")
    seen = []
    run = DefaultPreprocessor.run

    def spy(self, *args):
        folder = experiment.folder(experiment.job("self:0")) / "self_training" / "raw" / "Dataset901_Balls"
        seen.append(json.loads((folder / "dataset.json").read_text()))
        return run(self, *args)

    monkeypatch.setattr(DefaultPreprocessor, "run", spy)
    result = do(experiment, "self:0")
    assert seen[0]["pseudo_labels"]["cases"] == ["scan_00", "scan_01", "scan_02"]
    assert seen[0]["labels"] == {"background": 0, "ball": 1, "ignore": 2} and seen[0]["numTraining"] == 9
    assert len(result["cases"]) == 1
    assert not (experiment.folder(experiment.job("self:0")) / "self_training").exists()


def test_cross_validation_never_trains_or_validates_on_what_it_tests(dataset, tmp_path, monkeypatch):
    from nnunet_dycon.trainers import nnUNetTrainerSupervised

    experiment = experiment_of(dataset, tmp_path, cross_validation=True)
    seen = []
    datasets = nnUNetTrainerSupervised.get_tr_and_val_datasets

    def spy(self):
        seen.append([sorted(i.identifiers) for i in datasets(self)])
        return datasets(self)

    monkeypatch.setattr(nnUNetTrainerSupervised, "get_tr_and_val_datasets", spy)
    result = do(experiment, "control:0:0")
    tested = {row["case"] for row in result["cases"]}
    assert len(experiment.jobs()) == 5 and len(tested) == 2
    assert seen[0] == [sorted({f"case_{i:02d}" for i in range(6)} - tested)] * 2
    assert not (dataset.preprocessed / "splits_final.json").exists()


def cases_of_trainer(experiment: Experiment, name: str) -> set[str]:
    job = experiment.job(name)
    with environment(nnUNet_results=str(experiment.output), nnUNet_dycon=""):
        trainer = job_module._make_trainer(experiment, job, [])
        job_module._check_cases(experiment, job, trainer, experiment.test_scans(job))
    return {case for cases in trainer.do_split() for case in cases}


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerSupervised"])
def test_no_trainer_learns_from_masks_of_unlabeled_or_test_cases(dataset, tmp_path, trainer):
    """Unlabelled cases of a split in place have preprocessed masks; nnU-Net's own trainers would read them."""
    cases = [f"case_{i:02d}" for i in range(6)]
    splits = [{"train": cases[:3], "val": cases[:3], "unlabeled": cases[3:]}]
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    experiment = experiment_of(dataset, tmp_path, runs=[f"a={trainer}"])
    assert cases_of_trainer(experiment, "a:0") == set(cases[:3])
    held_out = experiment_of(dataset, tmp_path, runs=[f"a={trainer}"], cross_validation=True)
    for number, (train, test) in held_out.held_out.items():
        assert set(train) | set(test) == set(cases[:3]) and cases_of_trainer(held_out, f"a:0:{number}") == set(train)
    roles = {"labeled": cases[:2], "unlabeled": cases[3:], "validation": [], "test": cases[2:3]}
    (dataset.preprocessed / "split.json").write_text(json.dumps({"cases": roles}))
    held_out = experiment_of(dataset, tmp_path, runs=[f"a={trainer}"], cross_validation=True)
    for number, (train, test) in held_out.held_out.items():
        assert set(train) | set(test) == set(cases[:2]) and cases_of_trainer(held_out, f"a:0:{number}") == set(train)
    write_image(blob(1)[0], dataset.raw / "imagesTs" / "case_00_0000.nii.gz")
    write_image(blob(1)[1], dataset.raw / "labelsTs" / "case_00.nii.gz")
    with pytest.raises(UserError, match="would be trained on case_00"):
        cases_of_trainer(experiment_of(dataset, tmp_path, runs=[f"a={trainer}"]), "a:0")


def write_splits(dataset, *folds: dict, roles: dict | None = None) -> None:
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(folds))
    if roles is not None:
        (dataset.preprocessed / "split.json").write_text(json.dumps({"cases": roles}))


def stage_two(experiment: Experiment, monkeypatch, name: str) -> tuple[list[str], list[str]]:
    """Training cases of a self-training's run, and its preprocessed folder's files, without any training."""

    def predict(model, source, target, **_):
        scans = source.images("Un")
        masks = experiment.output / "masks"
        for case in scans:
            write_image(blob(1)[1], masks / f"{case}.nii.gz")
        labels = source.dataset_json["labels"]
        write_pseudo_labeled_dataset(source, target, masks, scans, entry={"model": "m"}, labels=labels)

    def preprocess(self, name, configuration, plans, _):
        base = job_module.environment_folder("nnUNet_preprocessed") / name
        shutil.copytree(source_of_cases, base / "nnUNetPlans_3d_fullres")
        for scan in ("scan_00", "scan_01", "scan_02"):
            for ending in (".b2nd", "_seg.b2nd", ".pkl"):
                shutil.copy(source_of_cases / f"case_00{ending}", base / "nnUNetPlans_3d_fullres" / f"{scan}{ending}")

    source_of_cases = job_module.environment_folder("nnUNet_preprocessed") / "Dataset901_Balls/nnUNetPlans_3d_fullres"
    monkeypatch.setattr(job_module, "pseudo_label", predict)
    monkeypatch.setattr(Experiment, "open_model", lambda *_: None)
    monkeypatch.setattr(job_module.DefaultPreprocessor, "run", preprocess)
    job = experiment.job(name)
    teacher = experiment.folder(experiment.teacher_of(job))
    teacher.mkdir(parents=True)
    (teacher / "job.json").write_text("{}")
    with environment(nnUNet_results=str(experiment.output), nnUNet_dycon=""):
        added = job_module._add_predicted_masks(experiment, job)
        train, _ = job_module._make_trainer(experiment, job, added).do_split()
    return sorted(train), sorted(file.name for file in experiment.folder(job).glob("self_training/preprocessed/*/*"))


CASES, SCANS = [f"case_{i:02d}" for i in range(6)], [f"scan_{i:02d}" for i in range(3)]


def test_self_training_never_trains_on_the_test_cases_of_a_split_in_place(dataset, tmp_path, monkeypatch):
    roles = {"labeled": CASES[:2], "unlabeled": CASES[2:3], "validation": [], "test": CASES[3:], "left_out": []}
    write_splits(dataset, {"train": CASES[:2], "val": CASES[:2], "unlabeled": CASES[2:3]}, roles=roles)
    train, files = stage_two(experiment_of(dataset, tmp_path, runs=RUNS), monkeypatch, "self:0")
    assert train == [*CASES[:2], *SCANS] and "split.json" in files


def test_self_training_of_a_fold_keeps_the_labels_of_its_control(dataset, tmp_path, monkeypatch):
    for case in CASES[4:]:
        for file in [*dataset.images.glob(f"{case}*"), *dataset.raw.glob(f"*Tr/{case}*")]:
            file.unlink()
    runs = ("control=nnUNetTrainerSupervised", "self=nnUNetTrainerSupervised@control")
    train, _ = stage_two(experiment_of(dataset, tmp_path, runs=runs, folds=(0,)), monkeypatch, "self:0:0")
    assert train == [*CASES[:4], *SCANS]


def test_no_fold_is_held_out_whose_cases_a_run_sees(dataset, tmp_path):
    """Fold 0 was split in place since nnU-Net made its five; the runs of the others would see its unlabelled cases."""
    folds = [{"train": [i for i in CASES if i != case], "val": [case]} for case in CASES[1:]]
    write_splits(dataset, {"train": CASES[:2], "val": CASES[:2], "unlabeled": CASES[2:]}, *folds)
    held_out = experiment_of(dataset, tmp_path, cross_validation=True).held_out
    assert held_out == {0: (CASES[:1], CASES[1:2]), 1: (CASES[1:2], CASES[:1])}


def test_test_cases_are_no_unlabeled_scans_of_a_run(dataset, tmp_path):
    run = {"runs": ["a=nnUNetTrainerMeanTeacher"]}
    check_experiment(experiment_of(dataset, tmp_path, **run))
    for name in ("imagesTs", "labelsTs"):
        file = next((dataset.raw / name).glob("test_00*"))
        shutil.copy(file, file.with_name(file.name.replace("test_00", "scan_00")))
    for runs in (run["runs"], RUNS):
        with pytest.raises(UserError, match=r"shown the unlabelled scan\(s\) scan_00"):
            check_experiment(experiment_of(dataset, tmp_path, runs=runs))
    check_experiment(experiment_of(dataset, tmp_path))
    with pytest.raises(UserError, match=r"shown the unlabelled scan\(s\) scan_00"):
        cases_of_trainer(experiment_of(dataset, tmp_path, **run), "a:0")


def test_cross_validation_tests_on_no_unlabeled_scan_of_another_dataset(dataset, tmp_path):
    for folder in (dataset.raw, dataset.preprocessed):
        other = folder.with_name("Dataset902_Fewer")
        shutil.copytree(folder, other)
        for case in CASES[3:]:
            for file in list(other.rglob(f"{case}*")):
                file.rename(other / "imagesUn" / file.name) if file.parent.name == "imagesTr" else file.unlink()
    plans = other / "nnUNetPlans.json"
    plans.write_text(plans.read_text().replace("Dataset901_Balls", "Dataset902_Fewer"))
    check_experiment(experiment_of(dataset, tmp_path, runs=["902/a=nnUNetTrainerMeanTeacher"]))
    with pytest.raises(UserError, match=r"shown the unlabelled scan.*take them out of 902"):
        check_experiment(experiment_of(dataset, tmp_path, cross_validation=True, runs=["902/a=nnUNetTrainerDyCON"]))


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerSupervised"])
def test_no_trainer_reads_the_mask_of_a_case_that_was_moved(dataset, tmp_path, trainer):
    (dataset.raw / "imagesTr/case_05_0000.nii.gz").rename(dataset.raw / "imagesUn/case_05_0000.nii.gz")
    experiment = experiment_of(dataset, tmp_path, runs=[f"a={trainer}"])
    for check in (check_experiment, lambda experiment: cases_of_trainer(experiment, "a:0")):
        with pytest.raises(UserError, match="case_05: in imagesUn now"):
            check(experiment)


def test_trains_the_cases_that_the_folds_say(dataset, tmp_path):
    write_splits(dataset, {"train": CASES[:2], "val": CASES[4:]})
    with pytest.raises(UserError, match=r"fold all would train on case_04, case_05.*give -f 0"):
        check_experiment(experiment_of(dataset, tmp_path))
    experiment = experiment_of(dataset, tmp_path, folds=(0,))
    check_experiment(experiment)
    held_out = experiment_of(dataset, tmp_path, cross_validation=True)
    check_experiment(held_out)
    assert cases_of_trainer(held_out, "control:0:0") == set(CASES[:2])


def test_an_experiment_that_is_done_is_not_checked_for_what_would_stop_it(dataset, tmp_path):
    experiment = experiment_of(dataset, tmp_path)
    folder = experiment.folder(experiment.jobs()[0])
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    write_splits(dataset, {"train": CASES[:2], "val": CASES[4:]})
    check_experiment(experiment)
    check_experiment(experiment_of(dataset, tmp_path, seeds=(0, 1)), trains=False)


def test_missing_unlabeled_scans_and_a_cascade_are_told_at_once(dataset, tmp_path):
    def refuse(message, **changes):
        with pytest.raises(UserError, match=message):
            check_experiment(experiment_of(dataset, tmp_path, **changes))

    refuse("predicts masks of all of them", runs=[RUNS[0], "self=nnUNetTrainerDyCON@control"])
    refuse("no fold 7 to add predictions to", runs=RUNS, folds=(7,))
    shutil.rmtree(dataset.raw / "imagesUn")
    shutil.rmtree(f"{dataset.images}_unlabeled")
    refuse("has no unlabelled case", runs=RUNS[:2])
    refuse("imagesUn, which has no scan", runs=[RUNS[0], RUNS[2]])
    file = dataset.preprocessed / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["second"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_fullres"}
    file.write_text(json.dumps(plans))
    refuse("second is a cascade's second stage", configuration="second")


def test_predictions_are_never_held_out(dataset, tmp_path):
    (dataset.raw / "labelsTr" / "pseudo_labels.json").write_text(json.dumps({"cases": ["case_00", "case_01"]}))
    folds = experiment_of(dataset, tmp_path, cross_validation=True).held_out.values()
    assert sorted(case for _, test in folds for case in test) == [f"case_{i:02d}" for i in range(2, 6)]
    assert all({"case_00", "case_01"} < {*train} for train, _ in folds)
    experiment = experiment_of(dataset, tmp_path)
    (dataset.raw / "labelsTs" / "pseudo_labels.json").write_text(json.dumps({"cases": ["test_00"]}))
    with pytest.raises(UserError, match="no test scan with a mask"):
        experiment.test_scans(experiment.jobs()[0])


@pytest.mark.parametrize(
    ("epochs", "points", "expected"), [(100, 4, [25, 50, 75]), (6, 1, []), (2, 4, [1]), (1, 4, [])]
)
def test_points_of_the_curve(epochs, points, expected):
    assert job_module.curve_epochs(epochs, points) == expected


def test_folds_of_splits_final_are_held_out(dataset, tmp_path):
    cases = [f"case_{i:02d}" for i in range(6)]
    splits = [{"train": cases, "val": cases}, {"train": cases[2:], "val": cases[:2]}]
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    experiment = experiment_of(dataset, tmp_path, cross_validation=True)
    assert experiment.held_out == {1: (cases[2:], cases[:2])}
    with pytest.raises(UserError, match="-f 0"):
        experiment_of(dataset, tmp_path, cross_validation=True, folds=(0,)).jobs()


def test_what_stops_a_job_is_said_before_the_first(dataset, tmp_path):
    def refuse(message, **changes):
        with pytest.raises(UserError, match=message):
            check_experiment(experiment_of(dataset, tmp_path, **changes))

    refuse("no trainer nnUNetTrainerNone", runs=["a=nnUNetTrainerNone"])
    refuse("a twice", runs=["a=nnUNetTrainer", "a=nnUNetTrainerDyCON"])
    refuse("named before it", runs=["self=nnUNetTrainer@control", *RUNS[:1]])
    refuse("unknown setting", runs=["a=nnUNetTrainerDyCON:weight_fecel=1"])
    refuse("weight_fecl has no effect", runs=["a=nnUNetTrainerSupervised:weight_fecl=1"])
    refuse("no setting weight_fecl", runs=["a=nnUNetTrainer:weight_fecl=1"])
    refuse("--settings weight_fecel: there is no", settings="weight_fecel=1")
    refuse("none.json is missing; run nnUNetv2_plan_and_preprocess -d 901", plans="none")
    refuse("have no configuration '3d_lowres'; they have 2d, 3d_fullres", configuration="3d_lowres")
    refuse("nnUNetPlans_2d is missing; run nnUNetv2_preprocess -d 901 -c 2d first", configuration="2d")
    experiment = experiment_of(dataset, tmp_path)
    folder = experiment.folder(experiment.jobs()[0])
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(experiment.record(experiment.jobs()[0]) | {"settings": "x=1"}))
    refuse("another settings")
    for text in ("control", "=nnUNetTrainer", "a b=nnUNetTrainer"):
        with pytest.raises(UserError, match="NAME=TRAINER"):
            Run.parse(text, "901")


def test_command_trains_in_processes_and_prints_the_verdict(dataset, tmp_path, capsys):
    """One job fails, as its settings stop it in its process, and the one that needs it is left out."""
    write_image(blob(99)[1], dataset.raw / "labelsTs" / "test_00.nii.gz")
    out = tmp_path / "out"
    command = ["compare", "-d", "901", "-device", "cpu", "-o", str(out), "--settings", LENGTH, "--seeds", "0", "0",
               "--jobs", "2", "--curve", "1", "--disable_tta", "--runs", "control=nnUNetTrainer",
               "bad=nnUNetTrainerSupervised", "self=nnUNetTrainerSupervised@bad"]  # fmt: skip
    bad = out / "bad" / "seed_0" / "fold_all"
    bad.mkdir(parents=True)
    (bad / "training.json").write_text("no JSON")
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "warning: nnUNet_dycon is not read here" in printed.err
    assert "bad:0 failed" in printed.err and "self:0 is left out: it needs bad:0" in printed.err
    assert "| control | 1" in printed.out
    assert "error: " in (bad / "log.txt").read_text()
    result = out / "control" / "seed_0" / "fold_all" / "job.json"
    (bad / "job.json").write_text(result.read_text())
    assert main([*command, "--table-only"]) == 0
    printed = capsys.readouterr().out
    assert "bad: +0.0 points of Dice against control" in printed
    assert "no verdict, as one seed says nothing of others, with only 1 case(s)" in printed
    files = {file.name for file in out.iterdir() if file.is_file()}
    assert files == {"table.md", "table.csv", "differences.csv", "cases.csv", "curves.png"}


def cases_of(**dice: list[list[float]]) -> pd.DataFrame:
    """``run=[[seed 0's cases], [seed 1's cases]]``."""
    return pd.DataFrame(
        [
            {"run": run, "seed": seed, "case": str(case), "class": "1", "Dice": value, "Jaccard": value,
             "HD95_mm": np.nan, "ASD_mm": 1.0}
            for run, seeds in dice.items() for seed, values in enumerate(seeds) for case, value in enumerate(values)
        ]
    )  # fmt: skip


def test_verdict_names_the_spread():
    control = [[50.0 + i for i in range(8)]] * 2
    better = [[58.0 + i for i in range(8)], [56.0 + i for i in range(8)]]
    mixed = [[53.0 + i for i in range(8)], [48.0 + i for i in range(8)]]
    cases = cases_of(control=control, better=better, mixed=mixed, worse=[[i - 9 for i in seed] for seed in control])
    differences = table.paired_differences(cases, "control")
    words = table.verdict(differences, cases, "control").splitlines()
    assert words[0] == (
        "better: +7.0 points of Dice against control (95 % interval +6.0 to +8.0, over 8 cases and 2 seeds; "
        "by seed +6.0 to +8.0): it helps."
    )
    assert words[1].startswith("mixed: +0.5") and "no difference is shown" in words[1]
    assert words[2].endswith("it does harm.")
    assert words[3] == "control alone differs by 0.0 points of Dice between its seeds."


def test_bootstrap_interval_of_cases_is_that_of_a_mean():
    """One seed: the standard error of the mean of 100 normal cases, times 1.96."""
    values = np.random.default_rng(1).normal(3, 2, (100, 1))
    low, high = table.bootstrap_interval(values[:, None])
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 10, rel=0.05)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.05)


def test_a_case_without_value_in_a_seed_is_in_no_difference():
    cases = cases_of(control=[[50.0, 60.0]], run=[[np.nan, 63.0]])
    row = table.paired_differences(cases, "control").set_index("metric").loc["Dice"]
    assert (row["difference"], row["cases"]) == (3.0, 1)
    assert table.paired_differences(cases, "control").set_index("metric").loc["HD95_mm", "cases"] == 0


def long_table(values: np.ndarray, run: str) -> pd.DataFrame:
    """Of Dice (cases, classes, seeds)."""
    index = pd.MultiIndex.from_product(
        [[str(j) for j in range(n)] for n in values.shape], names=["case", "class", "seed"]
    )
    frame = pd.DataFrame({"run": run, "Dice": values.ravel()}, index=index).reset_index()
    return frame.assign(Jaccard=frame["Dice"], HD95_mm=frame["Dice"], ASD_mm=frame["Dice"])


def test_difference_of_a_full_table_is_that_of_the_case_means():
    rng = np.random.default_rng(2)
    control, run = rng.normal(70, 5, (2, 9, 3, 4))
    cases = pd.concat([long_table(control, "control"), long_table(run, "run")])
    row = table.paired_differences(cases, "control").set_index("metric").loc["Dice"]
    values, draws = (run - control).mean(1), np.random.default_rng(0)
    drawn = [draws.multinomial(n, np.full(n, 1 / n), table.N_RESAMPLES) / n for n in values.shape]
    low, high = np.percentile(np.einsum("ri,ij,rj->r", drawn[0], values, drawn[1]), [2.5, 97.5])
    expected = [values.mean(), low, high, values.mean(0).min(), values.mean(0).max()]
    assert row[["difference", "low", "high", "smallest_seed", "largest_seed"]].tolist() == pytest.approx(expected)
    assert (row["cases"], row["seeds"]) == (9, 4)


def test_table_and_verdict_agree_on_a_rare_class():
    """An organ in 20 cases gains 1 point, a lesion in two of them loses 6."""
    control, run = np.full((20, 2, 3), 85.0), np.full((20, 2, 3), 86.0)
    control[:2, 1], run[:2, 1], control[2:, 1], run[2:, 1] = 60, 54, np.nan, np.nan
    cases = pd.concat([long_table(control, "control"), long_table(run, "run")])
    means = table.by_seed(cases)["Dice"].groupby("run").mean()
    row = table.paired_differences(cases, "control").set_index("metric").loc["Dice"]
    assert row["difference"] == pytest.approx(means["run"] - means["control"]) == pytest.approx(-2.5)
    assert row["smallest_seed"] == row["largest_seed"] == pytest.approx(-2.5) and row["cases"] == 20


def test_a_class_that_one_run_misses_is_no_difference_of_the_others():
    control = np.stack([np.full((5, 2), 5.0), np.full((5, 2), 20.0)], 1)
    run = control.copy()
    run[:, 1] = np.nan
    cases = pd.concat([long_table(control, "control"), long_table(run, "run")])
    row = table.paired_differences(cases, "control").set_index("metric").loc["HD95_mm"]
    assert row[["difference", "low", "high"]].tolist() == [0, 0, 0]


class FakeTrainer:
    """An epoch's end and the checkpoints as nnU-Net has them."""

    num_epochs, save_every, current_epoch = 10, 1, 0

    def __init__(self, folder):
        self.output_folder = str(folder)

    def on_train_start(self):
        np.random.seed(5)

    def on_epoch_end(self):
        self.save_checkpoint(f"{self.output_folder}/checkpoint_latest.pth")
        self.current_epoch += 1

    def save_checkpoint(self, filename):
        torch.save({"current_epoch": self.current_epoch + 1}, filename)

    def load_checkpoint(self, filename):
        self.current_epoch = torch.load(filename)["current_epoch"]


def test_a_job_killed_while_it_saves_draws_the_same_numbers(tmp_path):
    def started():
        job = training._Training(FakeTrainer(tmp_path), tmp_path, [])
        job.load()
        job.start_training()
        return job

    class Killed(BaseException):
        pass

    def kill(filename):
        open(filename, "w").close()
        raise Killed

    job = started()
    job.end_epoch()
    expected = np.random.rand()
    job.save_checkpoint = kill
    with pytest.raises(Killed):
        job.end_epoch()
    assert (tmp_path / "state_2.pth").is_file()
    job = started()
    assert job.trainer.current_epoch == 1 and np.random.rand() == expected
    job.end_epoch()
    assert [file.name for file in tmp_path.glob("state*")] == ["state_2.pth"]
    (tmp_path / "state_2.pth").write_text("half a file")
    with pytest.raises(UserError, match=r"state_2.pth cannot be read"):
        started()
    (tmp_path / "checkpoint_latest.pth").write_text("half a file")
    with pytest.raises(UserError, match=r"checkpoint_latest.pth cannot be read"):
        started()


def test_a_larger_curve_has_the_points_whose_checkpoint_is_there(dataset, tmp_path, monkeypatch):
    experiment = experiment_of(dataset, tmp_path)
    rows = pd.DataFrame([{"case": "test_00", "prediction_voxels": 1, "reference_voxels": 1}])
    evaluation = SimpleNamespace(mean_of_classes={"Dice": 0.5}, cases=rows)
    monkeypatch.setattr(job_module, "segment_scans", lambda model, scans, folder: folder.mkdir(parents=True))
    monkeypatch.setattr(job_module, "evaluate_folder", lambda *_, **__: evaluation)
    monkeypatch.setattr(Experiment, "open_model", lambda *_: None)
    (tmp_path / "checkpoint_epoch2.pth").touch()
    trainer = SimpleNamespace(
        output_folder=tmp_path, output_folder_base=tmp_path, num_epochs=4, num_iterations_per_epoch=10
    )
    result = job_module._test(experiment, experiment.jobs()[0], trainer, {}, [1, 2, 3])
    assert result["curve"] == {20: 0.5, 40: 0.5}


def test_a_job_is_done_by_one_process_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    command = [sys.executable, "-c", code, tmp_path / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(UserError, match="another process is doing the job"), job_module._alone(tmp_path):
            pass
        process.kill()
    with job_module._alone(tmp_path):
        pass


def test_results_of_other_settings_data_and_teachers_do_not_meet(dataset, tmp_path):
    def record(experiment):
        for job in experiment.jobs():
            experiment.folder(job).mkdir(parents=True, exist_ok=True)
            (experiment.folder(job) / "record.json").write_text(json.dumps(experiment.check_record(job)))

    def refuse(key, experiment, **cases):
        with pytest.raises(UserError, match=f"another .*{key}"):
            experiment.check_record(experiment.jobs()[-1], **cases)

    file = tmp_path / "settings.json"
    file.write_text('{"num_epochs": 5}')
    experiment = experiment_of(dataset, tmp_path, settings=str(file))
    record(experiment)
    file.write_text('{"num_epochs": 500}')
    refuse("trainer_settings", experiment)
    experiment = experiment_of(dataset, tmp_path, output=tmp_path / "2", runs=[RUNS[0], RUNS[2]])
    record(experiment)
    others = experiment_of(dataset, tmp_path, output=tmp_path / "2", runs=[f"{RUNS[0]}:num_epochs=7", RUNS[2]])
    refuse("teacher", others)
    (experiment.folder(experiment.jobs()[-1]) / "record.json").write_text('{"seed": 0}')  # of a former version
    experiment.check_record(experiment.jobs()[-1])
    record(experiment)
    for name in ("imagesTs", "labelsTs"):
        scan = next((dataset.raw / name).glob("test_00*"))
        shutil.copy(scan, scan.with_name(scan.name.replace("test_00", "test_01")))
    refuse("test_cases", experiment)


def test_a_job_does_not_continue_with_other_training_cases(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "train", lambda *_, **__: sys.exit())
    experiment = experiment_of(dataset, tmp_path, runs=["a=nnUNetTrainerMeanTeacher"])
    with pytest.raises(SystemExit):
        do(experiment, "a:0")
    write_splits(dataset, {"train": CASES[:2], "val": CASES[:2], "unlabeled": CASES[2:]})
    with pytest.raises(UserError, match="another training_cases and unlabeled_cases"):
        do(experiment, "a:0")


def test_a_comparison_leaves_no_signal_handler_behind():
    before = signal.getsignal(signal.SIGTERM)
    assert run_jobs(SimpleNamespace(jobs=lambda: [])) == []
    assert signal.getsignal(signal.SIGTERM) is before
