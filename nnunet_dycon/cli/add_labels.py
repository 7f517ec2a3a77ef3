"""``nnunet-dycon add-labels``: newly labelled cases become training cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.cli import options

EPILOG = """\
MASKS holds one file a case, named as the images without channel number, in the dataset's file ending (LA_042.nii.gz for
imagesUn/LA_042_0000.nii.gz). The masks are copied to labelsTr, the images moved to imagesTr. First all cases are
checked: names, size, spacing, origin, direction, and values against dataset.json; a fault in one leaves all where
they are. An interrupted run is finished by the same command.

  nnunet-dycon predict-uncertainty -i imagesUn -o OUT -d 501
  nnunet-dycon add-labels -d 501 MASKS
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.dataset(parser)
    parser.add_argument("masks", type=Path, metavar="MASKS", help="folder with the new masks")
    options.processes(parser)


def run(args: argparse.Namespace) -> None:
    """Add the labels, then say what was done and what comes next."""
    from nnunet_dycon.files.text import few, print_report
    from nnunet_dycon.tools.add_labels import add_labels

    report = add_labels(args.dataset, args.masks, num_processes=args.num_processes, progress=True)
    notes = [f"begun or done by an earlier run: {few(report.resumed)}"] if report.resumed else []
    labeled, unlabeled = (len(report.raw.images(part)) for part in ("Tr", "Un"))
    print_report(
        f"{len(report.cases)} cases are in imagesTr and labelsTr of {report.raw.folder}: {labeled} labelled, "
        f"{unlabeled} unlabelled. Next: {report.next_command}",
        warnings=report.warnings,
        notes=[*notes, *report.notes],
    )
