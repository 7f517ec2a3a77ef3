"""``nnunet-dycon split``: make some cases of a fully labelled dataset unlabelled."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_dycon.cli import options
from nnunet_dycon.errors import UserError

EPILOG = """\
Without --seed the labelled cases are the first of the training cases, sorted by name (with --protocol: in the
published order), and --test N takes the last N; with --seed both are drawn at random. Test cases of the source
(imagesTs) stay test cases, and with --in-place those of the split before, unless --test or --protocol names others.

The new dataset holds the masks of labelled, validation and test cases only; unlabelled scans lie in imagesUn. Files
are hard links, or copies where the file system has no hard links. Fold 0 trains on all labelled cases and validates
on the protocol's validation cases, or, where there are none, on the labelled cases themselves. With --folds 5 there
are the five folds that nnU-Net would draw of the labelled cases; imagesUn counts for all of them alike.

  nnunet-dycon split -d 500 -t 501 --protocol la-10
  nnunet-dycon split -d 500 -t 502 --labeled 8 --test 20
  nnunet-dycon split -d 500 -t 503 --labeled 10 --test 20 --folds 5
  nnunet-dycon split -d 500 --in-place --labeled 10%
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from nnunet_dycon.tools.convert.datasets import PROTOCOLS

    options.dataset(parser, help="fully labelled dataset, ID or name")
    options.new_dataset(parser, flag="-t", required=False, old=["--target-id"])
    parser.add_argument("--name", help="name of the new dataset after DatasetXXX_ (default: SOURCE_<n>labeled)")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--protocol", help="a published protocol: " + ", ".join(PROTOCOLS))
    how.add_argument("--labeled", metavar="N|P%", help="number or share of the training cases that are labelled")
    how.add_argument("--labeled-list", type=Path, metavar="FILE", help="file with the labelled cases, one a line")
    parser.add_argument("--test", metavar="N|P%|FILE", help="test cases: number, share, or file with their names")
    parser.add_argument(
        "--folds", dest="n_folds", type=int, metavar="N",
        help="write N folds (as a rule 5) over the labelled cases, each validating on its part of them and training on "
        "the other labelled cases and all unlabelled ones (default: fold 0 alone)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="draw the labelled cases (and the test cases) at random")
    parser.add_argument(
        "--in-place", action="store_true",
        help="make no new dataset: write the key 'unlabeled' into splits_final.json of the preprocessed dataset. Its "
        "fingerprint has seen all masks, which matters for CT normalisation",
    )  # fmt: skip
    options.fold(parser, "with --in-place: the fold (default: 0)", type=int)
    options.overwrite(parser, "with --in-place: replace a different fold")
    options.processes(parser, shown=False)


def run(args: argparse.Namespace) -> None:
    """Split, then say what was written and what comes next."""
    from nnunet_dycon.files.text import print_report
    from nnunet_dycon.tools.convert.datasets import get_protocol
    from nnunet_dycon.tools.split.division import SplitOptions
    from nnunet_dycon.tools.split.run import split_in_place, split_into_new_dataset

    choice = SplitOptions(
        protocol=get_protocol(args.protocol) if args.protocol else None, labeled=args.labeled,
        labeled_list=args.labeled_list, test=args.test, seed=args.seed, folds=args.n_folds,
    )  # fmt: skip
    _check(args)
    if args.in_place:
        split = split_in_place(args.dataset, choice, fold=args.fold or 0, overwrite=args.overwrite)
    else:
        split = split_into_new_dataset(args.dataset, args.new_dataset, choice, target_name=args.name, progress=True)
    print_report(*split.lines(), warnings=split.warnings, notes=split.notes)


def _check(args: argparse.Namespace) -> None:
    """Options that contradict each other."""
    target, in_place_only = args.new_dataset is not None, args.fold is not None or args.overwrite
    for wrong, message in (
        (args.in_place and (target or args.name), "--in-place makes no new dataset; leave -t and --name out"),
        (not args.in_place and not target, "give -t for the new dataset, or --in-place for a preprocessed one"),
        (not args.in_place and in_place_only, "-f and --overwrite have an effect with --in-place only; leave them out"),
        (args.n_folds and args.fold is not None, "--folds writes all folds; leave -f out"),
    ):
        if wrong:
            raise UserError(message)
