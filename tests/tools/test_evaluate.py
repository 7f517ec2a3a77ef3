"""Evaluation of folders, comparison of runs and their command line."""

from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import tifffile

from nnunet_dycon.cli import evaluate as cli
from nnunet_dycon.cli.options import Parser
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.evaluate.classes import classes_from_labels
from nnunet_dycon.tools.evaluate.folder import MISSING_PREDICTION, Evaluation, evaluate_folder
from nnunet_dycon.tools.evaluate.metrics import METRICS
from nnunet_dycon.tools.evaluate.report import compare_runs, evaluation_report, run_names, wilcoxon_p

SPACING_MM = (0.5, 1.0, 3.0)  # x, y, z
SHAPE = (6, 10, 12)  # z, y, x


def write(path: Path, voxels: np.ndarray, spacing_mm=SPACING_MM, origin=(0.0, 0.0, 0.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing(spacing_mm)
    image.SetOrigin(origin)
    SimpleITK.WriteImage(image, str(path))


def label_map(**boxes: tuple[int, int, int]) -> np.ndarray:
    """Label maps with 2x2x2 boxes: ``label_map(l1=(z, y, x))`` sets label 1."""
    voxels = np.zeros(SHAPE, dtype=np.uint8)
    for name, (z, y, x) in boxes.items():
        voxels[z : z + 2, y : y + 2, x : x + 2] = int(name[1:])
    return voxels


def write_dataset_json(folder: Path, **labels) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Predictions and references of the cases a (shifted by one voxel in z) and b (equal)."""
    predictions, references = tmp_path / "predictions", tmp_path / "raw" / "labelsTs"
    write(references / "a.nii.gz", label_map(l1=(2, 2, 2)))
    write(references / "b.nii.gz", label_map(l1=(2, 4, 4)))
    write(predictions / "a.nii.gz", label_map(l1=(3, 2, 2)))
    write(predictions / "b.nii.gz", label_map(l1=(2, 4, 4)))
    return predictions, references


def values_of(evaluation, case: str, class_name: str = "1") -> dict[str, float]:
    rows = evaluation.cases.set_index(["case", "class"])
    return rows.loc[(case, class_name), list(evaluation.metrics)].to_dict()


def statistic(evaluation, metric: str, class_name: str = "1") -> pd.Series:
    return evaluation.summary.loc[class_name, metric]


def run_cli(*arguments: str | Path) -> None:
    parser = Parser()
    cli.add_arguments(parser)
    cli.run(parser.parse_args([str(i) for i in arguments]))


def named(folders: tuple[object, object]) -> tuple[object, ...]:
    """Predictions and references as options."""
    return "--predictions", folders[0], "--references", folders[1]


def test_the_voxel_size_of_a_tiff_volume_is_read_from_its_json(tmp_path):
    """As nnU-Net keeps it; a PNG or a TIFF file without it has none."""
    shifted, mask = label_map(l1=(3, 2, 2)), label_map(l1=(2, 2, 2))
    for folder, voxels in (("predictions", shifted), ("references", mask)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", voxels)
    record = tmp_path / "references" / "a.json"
    in_pixels = evaluate_folder(tmp_path / "predictions", tmp_path / "references")
    assert in_pixels.warnings == [".tif files store no voxel size: distances are in pixels, of 1 mm each"]
    record.write_text(json.dumps({"spacing": [3.0, 1.0, 0.5]}))
    evaluation = evaluate_folder(tmp_path / "predictions", tmp_path / "references")
    assert values_of(in_pixels, "a")["HD95_mm"] == 1 and values_of(evaluation, "a")["HD95_mm"] == 3
    assert evaluation.warnings == []
    record.write_text('{"spacing": 3}')
    with pytest.raises(UserError, match=r"a.json has no voxel size such as .*\(z, y, x\) in mm; correct it"):
        evaluate_folder(tmp_path / "predictions", tmp_path / "references")


def test_values_in_mm_and_summary(folders):
    """2x2x2 boxes shifted by one in z (3 mm): half of each one's surface voxels are 3 mm away."""
    evaluation = evaluate_folder(*folders)
    assert values_of(evaluation, "a") == {"Dice": 0.5, "Jaccard": 1 / 3, "HD95_mm": 3.0, "ASD_mm": 1.5}
    assert values_of(evaluation, "b") == {"Dice": 1.0, "Jaccard": 1.0, "HD95_mm": 0.0, "ASD_mm": 0.0}
    dice = statistic(evaluation, "Dice")
    assert (dice["mean"], dice["n"], statistic(evaluation, "ASD_mm")["mean"]) == (0.75, 2, 0.75)
    assert dice["sd"] == pytest.approx(math.sqrt(2 * 0.25**2 / (2 - 1)))
    assert evaluation.missing == evaluation.without_reference == evaluation.warnings == []


def test_literature_counts_voxels(folders):
    evaluation = evaluate_folder(*folders, literature=True)
    assert evaluation.metrics == ("Dice", "Jaccard", "HD95_voxels", "ASD_voxels")
    assert values_of(evaluation, "a") == {"Dice": 0.5, "Jaccard": 1 / 3, "HD95_voxels": 1.0, "ASD_voxels": 0.5}


def test_processes_give_the_same(folders):
    evaluation = evaluate_folder(*folders, labels={"organ": 1}, num_processes=2)
    pd.testing.assert_frame_equal(evaluation.cases, evaluate_folder(*folders, labels={"organ": 1}).cases)


def test_other_file_ending_and_other_files(folders):
    """Cases are joined by name; what nnU-Net writes beside its predictions is no case."""
    predictions, references = folders
    write(predictions / "b.mha", label_map(l1=(2, 4, 4)))
    (predictions / "b.nii.gz").unlink()
    for name in ("plans.json", "a.npz", "a.pkl", "._a.nii.gz", "summary.json"):
        (predictions / name).touch()
    assert values_of(evaluate_folder(predictions, references), "b")["Dice"] == 1.0


def test_missing_prediction_counts_as_empty(folders):
    predictions, references = folders
    (predictions / "b.nii.gz").unlink()
    evaluation = evaluate_folder(predictions, references)
    assert evaluation.missing == ["b"]
    assert evaluation.cases["status"][1] == MISSING_PREDICTION
    assert list(statistic(evaluation, "Dice")[["mean", "n"]]) == [0.25, 2]
    assert list(statistic(evaluation, "HD95_mm")[["mean", "n"]]) == [3.0, 1]
    left_out = evaluate_folder(predictions, references, only_predicted=True)
    assert left_out.missing == ["b"]
    assert list(statistic(left_out, "Dice")[["mean", "n"]]) == [0.5, 1]


def test_missing_prediction_has_no_distance_in_the_literature_mode_either(folders):
    predictions, references = folders
    write(predictions / "a.nii.gz", label_map())
    (predictions / "b.nii.gz").unlink()
    evaluation = evaluate_folder(predictions, references, literature=True)
    assert list(values_of(evaluation, "a").values()) == [0, 0, 0, 0]
    assert list(values_of(evaluation, "b").values()) == pytest.approx([0, 0, math.nan, math.nan], nan_ok=True)


def test_empty_masks_are_counted(folders):
    predictions, references = folders
    write(predictions / "a.nii.gz", label_map())
    write(references / "c.nii.gz", label_map())
    write(predictions / "c.nii.gz", label_map())
    write(references / "d.nii.gz", label_map())
    write(predictions / "d.nii.gz", label_map(l1=(0, 0, 0)))
    evaluation = evaluate_folder(predictions, references)
    assert list(evaluation.cases["status"]) == ["empty prediction", "ok", "both empty", "empty reference"]
    assert list(evaluation.cases["Dice"]) == pytest.approx([0, 1, math.nan, 0], nan_ok=True)
    assert statistic(evaluation, "Dice")["n"] == 3
    assert list(statistic(evaluation, "HD95_mm")[["n", "mean"]]) == [1, 0.0]


def test_prediction_without_reference(folders):
    predictions, references = folders
    write(predictions / "extra.nii.gz", label_map())
    evaluation = evaluate_folder(predictions, references)
    assert evaluation.without_reference == ["extra"]
    assert list(evaluation.cases["case"]) == ["a", "b"]


def test_regions_of_the_dataset_json_beside_the_references(tmp_path):
    """Label 1 and 2 confused: wrong as core, right as whole tumour."""
    write_dataset_json(tmp_path / "raw", whole=[1, 2], core=2, absent=[3])
    write(tmp_path / "raw" / "labelsTr" / "a.nii.gz", label_map(l1=(0, 0, 0), l2=(0, 0, 2)))
    write(tmp_path / "run" / "a.nii.gz", label_map(l2=(0, 0, 0), l1=(0, 0, 2)))
    evaluation = evaluate_folder(tmp_path / "run", tmp_path / "raw" / "labelsTr")
    assert evaluation.cases.set_index("class")["Dice"].to_dict() == pytest.approx(
        {"whole": 1, "core": 0, "absent": math.nan}, nan_ok=True
    )
    assert values_of(evaluation, "a", "core")["HD95_mm"] == 1.0  # 2 voxels of 0.5 mm
    assert evaluation.classes.values == {"whole": (1, 2), "core": (2,), "absent": (3,)}


def test_mean_of_classes(tmp_path):
    write(tmp_path / "references" / "a.nii.gz", label_map(l1=(0, 0, 0), l2=(0, 4, 4)))
    write(tmp_path / "run" / "a.nii.gz", label_map(l1=(1, 0, 0), l2=(0, 4, 4)))
    evaluation = evaluate_folder(tmp_path / "run", tmp_path / "references")
    assert evaluation.mean_of_classes["Dice"] == 0.75


def test_dataset_json_of_the_predictions_goes_first(folders):
    predictions, references = folders
    write_dataset_json(predictions, atrium=1)
    write_dataset_json(references.parent, other=1)
    assert list(evaluate_folder(predictions, references).classes.values) == ["atrium"]
    given = evaluate_folder(predictions, references, dataset_json=references.parent / "dataset.json")
    assert list(given.classes.values) == ["other"]


@pytest.mark.parametrize("content", ["{", '{"name": "x"}', "[1]", '{"labels": [1, 2]}', '{"labels": null}', b"\xff"])
def test_what_is_no_dataset_json_is_named(folders, content):
    file = folders[0] / "dataset.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"is no dataset.json with labels \(.*; give another one or --labels"):
        evaluate_folder(*folders)


def test_ignored_voxels_are_in_no_metric(tmp_path):
    """The prediction's false voxels lie where the reference says ignore: perfect."""
    write_dataset_json(tmp_path / "run", organ=1, ignore=2)
    write(tmp_path / "references" / "a.nii.gz", label_map(l1=(0, 0, 0), l2=(0, 4, 4)))
    write(tmp_path / "run" / "a.nii.gz", label_map(l1=(0, 0, 0)) | label_map(l1=(0, 4, 4)))
    evaluation = evaluate_folder(tmp_path / "run", tmp_path / "references")
    assert list(values_of(evaluation, "a", "organ").values()) == [1, 1, 0, 0]
    assert evaluation.cases[["prediction_voxels", "reference_voxels"]].values.tolist() == [[8, 8]]
    assert evaluation.warnings == []
    counted = evaluate_folder(tmp_path / "run", tmp_path / "references", labels={"organ": 1})
    assert values_of(counted, "a", "organ")["Dice"] == pytest.approx(2 / 3)


def test_shape_mismatches_are_all_named_before_anything_is_computed(folders):
    predictions, references = folders
    for case in "ab":
        write(predictions / f"{case}.nii.gz", label_map()[:, :-1])
    with pytest.raises(UserError, match=r"case a: .*\(12, 9, 6\) voxels, the reference \(12, 10, 6\)") as error:
        evaluate_folder(predictions, references)
    assert "case b" in str(error.value)


def test_spacing_mismatch_is_an_error_in_mm_and_a_warning_in_voxels(folders):
    predictions, references = folders
    write(predictions / "a.nii.gz", label_map(l1=(2, 2, 2)), spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(UserError, match="case a: the prediction has spacing"):
        evaluate_folder(predictions, references)
    evaluation = evaluate_folder(predictions, references, literature=True)
    assert len(evaluation.warnings) == 1
    assert "case a" in evaluation.warnings[0]


def test_origin_mismatch_is_a_warning(folders):
    predictions, references = folders
    write(predictions / "a.nii.gz", label_map(l1=(2, 2, 2)), origin=(5.0, 0.0, 0.0))
    (warning,) = evaluate_folder(predictions, references).warnings
    assert "case a: the prediction has origin (5.0, 0.0, 0.0)" in warning


@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_no_labels_are_refused(folders, which):
    """A mask written as 0/255 would otherwise be background without a word."""
    write_dataset_json(folders[0], atrium=1)
    write(folders[which] / "a.nii.gz", label_map(l255=(2, 2, 2)))
    with pytest.raises(UserError, match=r"a.nii.gz holds the values \[255\]"):
        evaluate_folder(*folders)


def test_float_labels_are_read_and_fractions_refused(folders):
    predictions, references = folders
    write(predictions / "a.nii.gz", label_map(l1=(2, 2, 2)).astype(np.float32))
    assert values_of(evaluate_folder(predictions, references), "a")["Dice"] == 1.0
    write(predictions / "a.nii.gz", label_map(l1=(2, 2, 2)).astype(np.float32) * 0.5)
    with pytest.raises(UserError, match=r"a.nii.gz holds values that are not whole"):
        evaluate_folder(predictions, references)


def test_wrong_folders_are_named(folders, tmp_path):
    predictions, references = folders
    with pytest.raises(UserError, match="nowhere is no folder"):
        evaluate_folder(tmp_path / "nowhere", references)
    with pytest.raises(UserError, match="has no label maps"):
        evaluate_folder(predictions, tmp_path)
    write(tmp_path / "others" / "z.nii.gz", label_map(l1=(0, 0, 0)))
    with pytest.raises(UserError, match=r"such as z\).*such as a\)"):
        evaluate_folder(tmp_path / "others", references)
    (predictions / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a.nii.gz cannot be read"):
        evaluate_folder(predictions, references)


def test_case_twice_in_a_folder(folders):
    write(folders[0] / "a.mha", label_map())
    with pytest.raises(UserError, match=r"case a twice: a.mha, a.nii.gz"):
        evaluate_folder(*folders)


@pytest.fixture
def runs(tmp_path) -> tuple[list[Path], Path]:
    """Six cases; run A is 1 voxel (3 mm) off in all, run B in the first three, and B misses the last case."""
    references = tmp_path / "references"
    folders = [tmp_path / name / "fold_0" / "validation" for name in ("A", "B")]
    for i in range(6):
        write(references / f"{i}.nii.gz", label_map(l1=(2, 2, i)))
        write(folders[0] / f"{i}.nii.gz", label_map(l1=(3, 2, i)))
        if i < 5:
            write(folders[1] / f"{i}.nii.gz", label_map(l1=(3 if i < 3 else 2, 2, i)))
    return folders, references


def test_paired_differences(runs):
    (a, b), references = runs
    differences = compare_runs({"A": evaluate_folder(a, references), "B": evaluate_folder(b, references)})
    rows = differences.set_index("metric")[["run", "mean", "n", "unpaired"]]
    # 0, 0, 0, +0.5, +0.5, and -0.5 for the missing case
    assert list(rows.loc["Dice"]) == ["B", pytest.approx(0.5 / 6), 6, 0]
    # 0, 0, 0, -3, -3; the missing case has no distance
    assert list(rows.loc["HD95_mm"]) == ["B", pytest.approx(-6 / 5), 5, 1]


def test_wilcoxon():
    """Six differences of one sign and different sizes: 2 of 2^6 sign patterns are as extreme."""
    assert wilcoxon_p([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 2**6)
    # signed ranks +2 and -1: all four sign patterns are as extreme
    assert wilcoxon_p([2, -1]) == pytest.approx(1.0)
    assert wilcoxon_p([0.0, 0.0]) == 1.0
    assert wilcoxon_p([1, 2, math.nan, 3]) == wilcoxon_p([1, 2, 3])
    assert math.isnan(wilcoxon_p([]))


def test_only_comparable_runs_are_compared(runs):
    (a, b), references = runs
    in_mm, in_voxels = evaluate_folder(a, references), evaluate_folder(b, references, literature=True)
    with pytest.raises(UserError, match="different metrics"):
        compare_runs({"A": in_mm, "B": in_voxels})
    with pytest.raises(UserError, match="two runs"):
        compare_runs({"A": in_mm})
    other_name = evaluate_folder(b, references, labels={"organ": 1})
    with pytest.raises(UserError, match="different classes"):
        compare_runs({"A": in_mm, "B": other_name})


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["results/a", "results/b"], ["a", "b"]),
        (["x/t1__plans/fold_0/validation", "x/t2__plans/fold_0/validation"], ["t1__plans", "t2__plans"]),
        (["x/t1/fold_0", "x/t2/fold_1", "x/t2/fold_0"], ["t1/fold_0", "t2/fold_1", "t2/fold_0"]),
    ],
)
def test_run_names(folders, names):
    assert run_names([Path(i) for i in folders]) == names


def test_folder_given_twice():
    with pytest.raises(UserError, match="twice"):
        run_names([Path("a"), Path("a/../a")])


def test_cli_writes_and_prints(folders, capsys, tmp_path):
    (folders[0] / "b.nii.gz").unlink()
    run_cli(*named(folders), "-np", 1, "-o", tmp_path / "out", "--labels", "atrium=1")
    printed = capsys.readouterr().out
    assert "25.00 ± 35.36" in printed  # Dice %, the missing case is 0
    assert "3.00 (n=1)" in printed  # HD95 of the one case that has a distance
    assert "missing predictions (counted as empty predictions, Dice 0): 1: b" in printed
    assert "evaluation.json" in printed.splitlines()[-1]
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report["summary"]["atrium"]["HD95_mm"] == {"mean": 3.0, "sd": None, "n": 1}
    assert report["cases"]["b"]["atrium"]["HD95_mm"] is None
    with (tmp_path / "out" / "evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(i["case"], i["class"], i["status"], i["Dice"], i["ASD_mm"]) for i in rows] == [
        ("a", "atrium", "ok", "0.5", "1.5"),
        ("b", "atrium", "missing prediction", "0.0", "nan"),
    ]


def test_cli_writes_beside_the_predictions_by_default(folders, capsys):
    run_cli(*named(folders), "-np", 1)
    run_cli(*named(folders), "-np", 1, "--literature")
    names = {i.name for i in folders[0].iterdir() if not i.name.endswith(".nii.gz")}
    assert names == {"evaluation.json", "evaluation.csv", "evaluation_literature.json", "evaluation_literature.csv"}
    assert "HD95 voxels" in capsys.readouterr().out


def test_cli_compares(runs, capsys, tmp_path):
    (a, b), references = runs
    run_cli("--predictions", a, b, "--references", references, "-np", 1, "-o", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "fewer than 6 pairs" in printed and "too few pairs" in printed
    assert "difference to A" in printed
    assert "-1.20 ± 1.64" in printed
    assert "5 (1 unpaired)" in printed
    assert "B: missing predictions" in printed
    report = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [i["metric"] for i in report["differences"]] == ["Dice", "Jaccard", "HD95_mm", "ASD_mm"]
    assert report["first_run"] == "A"
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 6


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["p", "r"],
        ["r", "--predictions", "p"],
        ["--predictions", "p"],
        ["p", "--predictions", "p", "--references", "r"],
    ],
)
def test_folders_without_a_name_are_refused(arguments):
    """``evaluate PREDICTIONS REFERENCES`` of former versions is nnU-Net's order the other way round."""
    with pytest.raises(UserError, match="--references REFERENCES --predictions PREDICTIONS"):
        run_cli(*arguments)


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "predict_from_raw_data_args.json", "summary.json"])
def test_predictions_are_no_references(folders, name):
    (folders[0] / name).write_text('{"labels": {"background": 0, "organ": 1}}')
    with pytest.raises(UserError, match=f"{name} lies there.*wrong way round"):
        run_cli("--predictions", folders[1], "--references", folders[0])
    evaluate_folder(*folders)


def test_masks_that_are_said_to_be_predictions_are_no_references(folders):
    predictions, references = folders
    (references / "pseudo_labels.json").write_text('{"cases": ["a"]}')
    evaluation = evaluate_folder(predictions, references)
    assert (list(evaluation.cases["case"]), evaluation.without_reference) == (["b"], ["a"])
    (references / "pseudo_labels.json").write_text('{"cases": ["a", "b"]}')
    with pytest.raises(UserError, match="are predictions"):
        evaluate_folder(predictions, references)


def test_results_never_lie_among_the_references(folders):
    before = sorted(folders[1].iterdir())
    with pytest.raises(UserError, match="holds the references"):
        run_cli(*named(folders), "-np", 1, "-o", folders[1] / "." / ".." / folders[1].name)
    with pytest.raises(UserError, match="for both"):
        evaluate_folder(folders[1], folders[1])
    assert sorted(folders[1].iterdir()) == before


@pytest.mark.parametrize(
    ("predicted", "expected", "message"),
    [
        (1, 255, "no reference holds the value 1, which predictions hold, and no prediction holds the value 255"),
        (2, 1, "no reference holds the value 2, which predictions hold, and no prediction holds the value 1"),
        (0, 1, "no prediction holds the value 1, which references hold, in all 2 cases"),
        (3, 0, "no reference holds the value 3, which predictions hold, in all 2 cases"),
    ],
)
@pytest.mark.parametrize("labels", [None, {"organ": 1, "other": 255}])
def test_values_on_one_side_only_in_all_cases_are_warned(folders, predicted, expected, message, labels):
    for folder, value in zip(folders, (predicted, expected), strict=True):
        for case in "ab":
            write(folder / f"{case}.nii.gz", label_map(**{f"l{value}": (2, 2, 2)}))
    if expected == 0 and labels is None:
        labels = {"organ": 1}
    (warning,) = evaluate_folder(*folders, labels=labels).warnings
    assert message in warning


def test_upper_case_endings_are_read(folders):
    predictions, references = folders
    (predictions / "a.nii.gz").rename(predictions / "a.NII.GZ")
    (references / "b.nii.gz").rename(references / "b.NII.GZ")
    assert evaluate_folder(predictions, references).missing == []


def test_table_of_many_classes_is_computed_once():
    """117 classes and 57 cases; the table was computed anew for each of its cells, in minutes."""
    classes = {f"class {i}": i + 1 for i in range(117)}
    values = {"Dice": 0.5, "Jaccard": 0.4, "HD95_mm": 3.0, "ASD_mm": 1.0}
    rows = [
        {"case": f"{case:02d}", "class": name, "status": "ok", **values, "prediction_voxels": 5, "reference_voxels": 5}
        for case in range(57)
        for name in classes
    ]
    evaluation = Evaluation(
        Path("p"), Path("r"), classes_from_labels(classes, "test"), METRICS, pd.DataFrame(rows), [], [], False, []
    )
    start = time.perf_counter()
    lines = evaluation_report(evaluation).text.splitlines()
    assert time.perf_counter() - start < 3
    assert len(lines) == 2 + 117 + 1 + 1 and lines[-2].split()[-4:] == ["50.00", "40.00", "3.00", "1.00"]


@pytest.mark.parametrize("labels", [["x"], ["a=1", "a=2"], ["whole=0,1"], ["ignore=1,2", "a=3"], ["ignore=2"]])
def test_cli_bad_labels(folders, labels):
    with pytest.raises(UserError, match="label"):
        run_cli(*named(folders), "-np", 1, "--labels", *labels)


def test_cli_no_processes(folders):
    with pytest.raises(UserError, match="-np"):
        run_cli(*named(folders), "-np", 0)


LA_FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "la" / "labels"


@pytest.mark.shared_data
@pytest.mark.skipif(not LA_FOLDER.is_dir(), reason="../shared/data/la is not there")
def test_real_atrium_shifted_by_one_voxel(tmp_path):
    """Shifting a real label by one voxel (about 1.25 mm) bounds its distances by the size of a voxel."""
    path = sorted(LA_FOLDER.glob("*.nii.gz"))[0]
    image = SimpleITK.ReadImage(str(path))
    shifted = SimpleITK.GetImageFromArray(np.roll(SimpleITK.GetArrayFromImage(image), 1, axis=2))
    shifted.CopyInformation(image)
    for folder, voxels in (("references", image), ("run", shifted)):
        (tmp_path / folder).mkdir()
        SimpleITK.WriteImage(voxels, str(tmp_path / folder / path.name))
    row = evaluate_folder(tmp_path / "run", tmp_path / "references").cases.iloc[0]
    assert row["HD95_mm"] == pytest.approx(image.GetSpacing()[0])
    assert 0 < row["ASD_mm"] < image.GetSpacing()[0]
    assert 0.9 < row["Dice"] < 1
