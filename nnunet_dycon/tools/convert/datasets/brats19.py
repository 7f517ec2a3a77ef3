"""BraTS 2019: co-registered MRI of glioma in four modalities.

Distributions: the challenge's NIfTI files in ``HGG``, ``LGG`` or any folders, and ``BraTS19_*.h5`` (FLAIR, whole
tumour, axes (z, y, x)). The literature on semi-supervised learning uses FLAIR and the whole tumour.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.download import case_files, recognise
from nnunet_dycon.tools.convert.loaders import load_images, plan_h5, refuse_spacing
from nnunet_dycon.tools.convert.plan import (
    Benchmark,
    DatasetPlan,
    Published,
    add_spacing,
    comma_separated,
    plan_cases,
)

# In the order of the channels, with the channel names.
MODALITIES = {"flair": "FLAIR", "t1": "T1", "t1ce": "T1ce", "t2": "T2"}
# 1 necrosis and non-enhancing core, 2 oedema, 4 enhancing tumour; nnU-Net wants consecutive values
_WHOLE_TUMOUR = {0: 0, 1: 1, 2: 1, 4: 1}
_REGION_VALUES = {0: 0, 2: 1, 1: 2, 4: 3}
_REGIONS: dict[str, int | list[int]] = {
    "background": 0,
    "whole tumor": [1, 2, 3],
    "tumor core": [2, 3],
    "enhancing tumor": 3,
}
_LAYOUTS = {
    "NIfTI": (
        r"(?P<case>BraTS19_\w+?)_(?P<kind>flair|t1|t1ce|t1post|t2|seg)\.nii(\.gz)?",
        "BraTS19_*/BraTS19_*_flair.nii.gz",
    ),
    "h5": (r"(?P<case>BraTS19_\w+)\.h5", "BraTS19_*.h5"),
}


def plan(
    source: Path,
    *,
    modalities: Sequence[str] = ("flair",),
    regions: bool = False,
    spacing_mm: Sequence[float] | None = None,
) -> DatasetPlan:
    """What a download of BraTS 2019 holds.

    Args:
        source: A folder with the cases in it or below it.
        modalities: Some of ``MODALITIES``, whose order the channels follow.
        regions: nnU-Net regions whole tumour, tumour core and enhancing tumour instead of the whole tumour alone.
        spacing_mm: (x, y, z) of the h5 files; None is 1 mm. NIfTI files have their own.

    Raises:
        UserError: The folder holds no BraTS data or both distributions, or an option does not fit the distribution.
    """
    if not modalities or {*modalities} - {*MODALITIES}:
        raise UserError(f"--modalities {','.join(modalities)}: choose from {', '.join(MODALITIES)}, or all")
    chosen = [name for name in MODALITIES if name in modalities]
    layout, found = recognise(source, "BraTS 2019", _LAYOUTS)
    notes: tuple[str, ...] = ()
    if layout == "h5":
        if chosen != ["flair"] or regions:
            raise UserError("the h5 files hold FLAIR and the whole tumour alone; drop --modalities and --regions")
        files, skipped = case_files(BENCHMARK, source, found)
        cases, failures, notes = plan_h5(files, "zyx", _WHOLE_TUMOUR, spacing_mm or (1.0, 1.0, 1.0))
    else:
        refuse_spacing(spacing_mm, "NIfTI")
        reason = "of the challenge's validation set, which has no labels"
        files, skipped = case_files(BENCHMARK, source, found, not_below="validation", because=reason)
        files = [(name, "t1ce" if kind == "t1post" else kind, path) for name, kind, path in files]
        parameters = {"mask": "seg", "values": _REGION_VALUES if regions else _WHOLE_TUMOUR, "check": True}
        cases, failures = plan_cases(files, ["seg", *chosen], load_images, parameters)
    return DatasetPlan(
        benchmark=BENCHMARK,
        layout=layout,
        source=source,
        channel_names=[MODALITIES[name] for name in chosen],
        labels=_REGIONS if regions else {"background": 0, "whole tumor": 1},
        cases=cases,
        failures=failures,
        skipped=skipped,
        notes=notes,
        regions_class_order=(1, 2, 3) if regions else None,
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_spacing(parser, "h5 files; default: 1 each")
    parser.add_argument(
        "--modalities",
        type=lambda text: [*MODALITIES] if text == "all" else comma_separated(text),
        default="flair",
        help="flair, t1, t1ce, t2, comma-separated, or all (default: flair)",
    )
    parser.add_argument(
        "--regions",
        action="store_true",
        help="nnU-Net regions whole tumor, tumor core and enhancing tumor (default: whole tumor alone)",
    )


BENCHMARK = Benchmark(
    name="brats19",
    title="BraTS19",
    about="BraTS 2019: NIfTI files (HGG, LGG or flat), or BraTS19_*.h5",
    entry=r"(?i:BraTS19)_(?P<id>\w+)",
    case="BraTS19_{id}",
    example="BraTS19_2013_10_1",
    reference="Menze et al., IEEE TMI 2015; Bakas et al., Scientific Data 2017; "
    "https://www.med.upenn.edu/cbica/brats2019",
    plan=plan,
    published=(
        Published(
            prefix="brats19",
            labeled={"10": 25, "20": 50},
            train=("brats19/train.txt",),
            validation=("brats19/val.txt",),
            test=("brats19/test.txt",),
        ),
    ),
    suggested="brats19-10",
    add_arguments=_add_arguments,
)
