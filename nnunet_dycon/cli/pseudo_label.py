"""``nnunet-dycon pseudo-label``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

EPILOG = """\
The new dataset has the cases of the source (-s); to them it adds the unlabelled scans, with the model's predictions for
masks. It is the second stage of self-training, a way to put what DyCON has learnt into a plain nnU-Net, and a start for
correcting by hand. dataset.json and labelsTr/pseudo_labels.json say which masks are predictions; audit, evaluate and
compare never take these for references. When you have corrected one, take its case out of both lists.

  nnunet-dycon pseudo-label -d 501 -tr nnUNetTrainerDyCON -s 501 -t 601
  nnunet-dycon pseudo-label -m MODEL -s 501 -t 601 -i SCANS --min-confidence 0.7
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model as for predict-uncertainty, the datasets as for nnUNetv2_move_plans_between_datasets."""
    options.declare(parser, options.model, options.folds, options.device, options.disable_tta)
    parser.add_argument("-s", dest="source", metavar="ID", help="dataset with the labelled cases (default: that of -d)")
    options.new_dataset(parser, flag="-t")
    parser.add_argument("-i", dest="images", type=Path, metavar="FOLDER", help="scans (default: the source's imagesUn)")
    parser.add_argument("--name", help="name of the new dataset (default: the source's and _pseudo)")
    parser.add_argument(
        "--min-confidence", type=float, default=0.0, metavar="P",
        help="give voxels whose class is less probable nnU-Net's ignore label (default: 0, none)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Predict and write, then say what comes next."""
    from nnunet_dycon.dataset.raw_dataset import open_raw_dataset
    from nnunet_dycon.files.text import print_report
    from nnunet_dycon.tools.pseudo_label import new_pseudo_labeled_dataset

    if args.source is None and args.dataset is None:
        raise UserError("-s names the dataset with the labelled cases; it is needed beside -m")
    source, model = open_raw_dataset(args.source or args.dataset), options.opened_model(args)
    labels = new_pseudo_labeled_dataset(
        model, source, args.new_dataset,
        name=args.name, images=args.images, min_confidence=args.min_confidence, progress=True,
    )  # fmt: skip
    ignored = f"; unsure voxels have the label {labels.ignore_label} (ignore)" if labels.ignore_label else ""
    number, configuration = args.new_dataset, model.folder.name.rpartition("__")[2]
    print_report(
        f"wrote {labels.folder}: {len(labels.cases)} predicted masks beside those of {source.name}{ignored}",
        f"next: nnUNetv2_plan_and_preprocess -d {number} -c {configuration}; "
        f"nnUNetv2_train {number} {configuration} 0 -tr nnUNetTrainerSupervised",
        notes=[
            "no fold validates on a prediction; a model that trained on a fold's validation cases still favours them"
        ],
    )
