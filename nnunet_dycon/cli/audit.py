"""``nnunet-dycon audit``: is a dataset sound and free of leaks?"""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options

THRESHOLD = 0.95  # the tool's own, NEAR_DUPLICATE_CORRELATION, which takes seconds to import
EPILOG = """\
Leaks (exit code 1): a case name, an image, a nearly identical image or a mask shared between training (labelled or
unlabelled), validation and test; a mask of an unlabelled case in the raw or the preprocessed dataset, or one of a test
case in the preprocessed one.
Errors (exit code 1): unreadable files, grids that differ, missing masks, unknown cases in splits_final.json.
Warnings (exit code 0): shared content within the training or the test cases, training masks without foreground,
splits made in place, headers that differ in position.

Nearly identical means: correlation after alignment at a reduced size, of structures of a few voxels. Mirrored copies
are not recognised.

  nnunet-dycon audit -d 501
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.dataset(parser)
    options.output(parser, "write the findings as JSON, too", metavar="FILE")
    options.processes(parser)
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, metavar="R",
        help="correlation from which two scans are nearly identical (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Audit; 0 for a sound dataset, 1 for a leak or an error."""
    from nnunet_dycon.files.json_files import write_json
    from nnunet_dycon.tools.audit.run import audit_dataset

    report = audit_dataset(args.dataset, threshold=args.threshold, num_processes=args.num_processes, progress=True)
    if args.output:
        write_json(report.as_json(), args.output)
        print(f"wrote {args.output}")
    print(report.as_text())
    return 0 if report.sound else 1
