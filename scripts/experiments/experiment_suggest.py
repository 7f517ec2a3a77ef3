"""Does labelling suggested cases help more than labelling random ones?

    python scripts/experiments/experiment_suggest.py --source LA_FOLDER -o runs/suggest

Stock nnU-Net is trained on the first ``--labeled`` cases of the development split, its model suggests ``--n`` of the
unlabelled ones, and stock nnU-Net is trained again on the labelled cases with the suggested ones, and with ``--draws``
random draws of as many, for every seed. All trainings have the same plans, length and test set, which nothing is
chosen by. LA_FOLDER is as for ``prepare_la.py``. Finished steps are kept, so the command may be stopped and given
again; ``--stop-before-training`` only prepares what can be prepared without a network.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPTS = Path(__file__).resolve().parent
TRAINER, PLANS, CONFIGURATION = "nnUNetTrainerSupervised", "Small", "3d_fullres"


def folder_of(root: str, dataset_id: int) -> Path | None:
    """The dataset's folder in nnUNet_raw or nnUNet_preprocessed."""
    return next(iter(sorted(Path(os.environ[root]).glob(f"Dataset{dataset_id:03d}_*"))), None)


def raw_folder(dataset_id: int) -> Path:
    folder = folder_of("nnUNet_raw", dataset_id)
    if folder is None:
        raise SystemExit(f"dataset {dataset_id} is not in nnUNet_raw")
    return folder


def call(*command: object, **environment: str) -> None:
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    subprocess.run(words, check=True, env=os.environ | environment)


def tool(name: str) -> str:
    """A command installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def prepare(args: argparse.Namespace, dataset_id: int, name: str, *more: str) -> None:
    """A development dataset; its dataset.json is written last."""
    folder = folder_of("nnUNet_raw", dataset_id)
    if folder is None or not (folder / "dataset.json").is_file():
        call(
            sys.executable, SCRIPTS / "prepare_la.py", "--source", args.source, "--dataset-id", dataset_id,
            "--name", name, "--spacing", args.spacing, "--train", args.train, "--labeled", args.labeled, *more,
        )  # fmt: skip


def plan(args: argparse.Namespace, dataset_id: int) -> None:
    """Plans of the first labelled cases, made small; all trainings use them."""
    folder = folder_of("nnUNet_preprocessed", dataset_id)
    if folder is None or not (folder / f"{PLANS}.json").is_file():
        call(tool("nnUNetv2_plan_and_preprocess"), "-d", dataset_id, "-c", CONFIGURATION)
        call(
            sys.executable, SCRIPTS / "shrink_plans.py", "-d", dataset_id, "--features", args.features,
            "--batch-size", args.batch_size, "--patch-size", *args.patch_size, "--plans-name", PLANS,
        )  # fmt: skip


def compare(args: argparse.Namespace, dataset_id: int, runs: list[str], seeds: list[int]) -> None:
    options = ["--bfloat16"] if args.bfloat16 else []
    call(
        sys.executable, SCRIPTS / "compare.py", "-d", dataset_id, "-p", PLANS, "-c", CONFIGURATION,
        "-device", args.device, "-o", args.output / "trainings", "--settings", args.settings, "--curve", "1",
        "--runs", *runs, "--seeds", *seeds, *options,
    )  # fmt: skip


def suggested_cases(args: argparse.Namespace, dataset_id: int) -> list[str]:
    """What the model of the first seed suggests."""
    output = args.output / "suggestion"
    if not (output / "suggestions.csv").is_file():
        results = args.output / "trainings" / "start" / f"seed_{args.seeds[0]}" / "results"
        call(
            tool("nnunet-dycon"), "suggest", "-d", dataset_id, "--count", args.n, "-tr", TRAINER, "-p", PLANS,
            "-c", CONFIGURATION, "-f", "all", "-device", args.device, "-o", output, nnUNet_results=str(results),
        )  # fmt: skip
    with open(output / "suggestions.csv", newline="", encoding="utf-8") as file:
        return [row["case"] for row in csv.DictReader(file)][: args.n]


def random_cases(args: argparse.Namespace, dataset_id: int, draw: int) -> list[str]:
    files = (raw_folder(dataset_id) / "imagesUn").glob("*_0000.nii.gz")
    cases = sorted(file.name.removesuffix("_0000.nii.gz") for file in files)
    order = np.random.RandomState([draw, args.n]).permutation(len(cases))
    return [cases[i] for i in order[: args.n]]


def make_arm(args: argparse.Namespace, base: int, masks_of: int, target: int, name: str, cases: list[str]) -> None:
    """A dataset like the base, with hard links, in which these cases are labelled by ``nnunet-dycon add-labels``."""
    source = raw_folder(base)
    folder = source.with_name(f"Dataset{target:03d}_{name}")
    if not folder.is_dir():
        partial = source.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, copy_function=os.link)
        partial.rename(folder)
    if json.loads((folder / "dataset.json").read_text())["numTraining"] != args.labeled + args.n:
        masks = args.output / "masks" / name
        masks.mkdir(parents=True, exist_ok=True)
        for case in cases:
            shutil.copy(raw_folder(masks_of) / "labelsTr" / f"{case}.nii.gz", masks)
        call(tool("nnunet-dycon"), "add-labels", "-d", target, masks, "-np", 1)
    missing = [case for case in cases if not (folder / "labelsTr" / f"{case}.nii.gz").is_file()]
    if missing:
        raise SystemExit(f"{folder} was made of other cases (it lacks {', '.join(missing)}); delete it and start again")
    preprocess_arm(base, target, folder.name)


def preprocess_arm(base: int, target: int, name: str) -> None:
    """Preprocess with the plans of the base; gt_segmentations is what nnU-Net writes last."""
    source = folder_of("nnUNet_preprocessed", base)
    assert source is not None
    folder = source.with_name(name)
    if (folder / "gt_segmentations").is_dir():
        return
    folder.mkdir(exist_ok=True)
    for file in ("dataset.json", "dataset_fingerprint.json"):
        shutil.copy(source / file, folder)
    call(tool("nnUNetv2_move_plans_between_datasets"), "-s", base, "-t", target, "-sp", PLANS)
    call(tool("nnUNetv2_preprocess"), "-d", target, "-p", PLANS, "-c", CONFIGURATION, "-np", 1)


def write_result(args: argparse.Namespace, picked: dict[str, list[str]]) -> None:
    """Test Dice of each arm, and suggested minus the mean of the random draws, seed by seed."""

    def dice(name: str, seed: int) -> float:
        file = args.output / "trainings" / name / f"seed_{seed}" / "job.json"
        return 100 * json.loads(file.read_text())["mean"]["Dice"]

    randoms = [name for name in picked if name.startswith("random")]
    lines = ["| arm | test Dice [%], seeds | added cases |", "| --- | --- | --- |"]
    for name in ("start", *picked):
        values = ", ".join(f"{dice(name, seed):.1f}" for seed in args.seeds)
        lines.append(f"| {name} | {values} | {', '.join(picked.get(name, ['-']))} |")
    gains = [dice("suggested", s) - statistics.fmean(dice(i, s) for i in randoms) for s in args.seeds]
    spread = f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 else ""
    lines += ["", f"Suggested minus random: {statistics.fmean(gains):+.2f}{spread} points of Dice over the seeds."]
    (args.output / "result.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"Written: {args.output / 'result.md'}, trainings/table.md, suggestion/contact_sheet.png")


def main() -> int:
    args = parsed()
    args.output.mkdir(parents=True, exist_ok=True)
    base, all_labeled, first = args.first_id, args.first_id + 1, args.first_id + 2
    prepare(args, base, "SuggestStart")
    prepare(args, all_labeled, "SuggestMasks", "--all-labeled")
    plan(args, base)
    picked = {f"random_{i}": random_cases(args, base, i) for i in range(args.draws)}
    for i, (name, cases) in enumerate(picked.items()):
        make_arm(args, base, all_labeled, first + 1 + i, f"Suggest_{name}", cases)
    if args.stop_before_training:
        print(f"{len(args.seeds) * (args.draws + 2)} trainings are to be done; leave --stop-before-training out")
        return 0
    compare(args, base, [f"start={TRAINER}"], args.seeds[:1])
    picked = {"suggested": suggested_cases(args, base), **picked}
    make_arm(args, base, all_labeled, first, "Suggest_suggested", picked["suggested"])
    arms = [f"{first + i}/{name}={TRAINER}" for i, name in enumerate(picked)]
    compare(args, base, [f"start={TRAINER}", *arms], args.seeds)
    write_result(args, picked)
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="LA_FOLDER")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for trainings and result")
    parser.add_argument("--first-id", type=int, default=520, help="first of the 3 + DRAWS dataset IDs that are used")
    parser.add_argument("--labeled", type=int, default=4, help="labelled cases at the start")
    parser.add_argument("--n", type=int, default=4, help="cases to label")
    parser.add_argument("--draws", type=int, default=3, help="random draws")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", type=int, default=60, help="labelled and unlabelled cases")
    parser.add_argument("--spacing", type=float, default=3.5, help="isotropic spacing in mm")
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--patch-size", type=int, nargs=3, default=[16, 28, 36])
    parser.add_argument(
        "--settings", default="num_epochs=6,num_iterations_per_epoch=250,num_val_iterations_per_epoch=1"
    )
    parser.add_argument("--bfloat16", action="store_true", help="as for compare.py")
    parser.add_argument("-device", dest="device", default="cpu")
    parser.add_argument("--stop-before-training", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
