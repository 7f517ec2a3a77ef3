"""BraTS 2019: co-registered MRI of glioma in four modalities.

Distributions: the challenge's NIfTI files in ``HGG``, ``LGG`` or any folders, and ``BraTS19_*.h5`` (FLAIR, whole
tumour, axes (z, y, x)). The literature on semi-supervised learning uses FLAIR and the whole tumour.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.download import recognise
from nnunet_dycon.tools.convert.loaders import add_h5_cases, load_images, refuse_spacing
from nnunet_dycon.tools.convert.plan import Benchmark, DatasetPlan, Published, add_spacing, comma_separated

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
_WHOLE: dict[str, int | list[int]] = {"background": 0, "whole tumor": 1}
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
        spacing_mm: (x, y, z) of the h5 files; None is 1 mm.
    """
    chosen = _in_order(modalities)
    plan = recognise(BENCHMARK, source, _LAYOUTS)
    plan.channel_names = [MODALITIES[name] for name in chosen]
    plan.labels, values = (_REGIONS, _REGION_VALUES) if regions else (_WHOLE, _WHOLE_TUMOUR)
    plan.regions_class_order = (1, 2, 3) if regions else None
    if plan.layout == "h5":
        if plan.channel_names != ["FLAIR"] or regions:
            raise UserError("the h5 files hold FLAIR and the whole tumour alone; drop --modalities and --regions")
        add_h5_cases(plan, plan.files(), "zyx", values, spacing_mm or (1.0, 1.0, 1.0))
    else:
        refuse_spacing(spacing_mm, "NIfTI")
        _add_nifti_cases(plan, chosen, values)
    return plan


def _in_order(modalities: Sequence[str]) -> list[str]:
    if not modalities or {*modalities} - {*MODALITIES}:
        raise UserError(f"--modalities {','.join(modalities)}: choose from {', '.join(MODALITIES)}, or all")
    return [name for name in MODALITIES if name in modalities]


def _add_nifti_cases(plan: DatasetPlan, chosen: Sequence[str], values: Mapping[int, int]) -> None:
    reason = "of the challenge's validation set, which has no labels"
    found = plan.files(not_below="validation", because=reason)
    files = [(name, {"t1post": "t1ce"}.get(kind, kind), path) for name, kind, path in found]
    plan.add_cases(files, ["seg", *chosen], load_images, {"mask": "seg", "values": values, "check": True})


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
