"""BraTS 2019: co-registered MRI of glioma in four modalities.

Distributions: the challenge's NIfTI files in ``HGG``, ``LGG`` or any folders, and ``BraTS19_*.h5`` (FLAIR, whole
tumour, axes (z, y, x)). The literature on semi-supervised learning uses FLAIR and the whole tumour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import Benchmark, DatasetPlan, recognise

Labels = dict[str, int | list[int]]
# 1 necrosis and non-enhancing core, 2 oedema, 4 enhancing tumour; nnU-Net wants consecutive values
_WHOLE_TUMOUR = {0: 0, 1: 1, 2: 1, 4: 1}
_REGION_VALUES = {0: 0, 2: 1, 1: 2, 4: 3}
_WHOLE: Labels = {"background": 0, "whole tumor": 1}
_REGIONS: Labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}


def plan(
    source: Path,
    *,
    channels: Sequence[str] = ("flair",),
    regions: bool = False,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> DatasetPlan:
    """What a download of BraTS 2019 holds, as regions or the whole tumour alone; ``spacing_mm`` is that of h5 files."""
    from nnunet_dycon.tools.convert.h5 import add_h5_cases
    from nnunet_dycon.tools.convert.volumes import load_images

    chosen = BENCHMARK.in_order(channels)
    plan = recognise(BENCHMARK, source)
    plan.channel_names = [BENCHMARK.channels[name] for name in chosen]
    plan.labels, values = (_REGIONS, _REGION_VALUES) if regions else (_WHOLE, _WHOLE_TUMOUR)
    plan.regions_class_order = (1, 2, 3) if regions else None
    if plan.layout == "h5":
        if chosen != ["flair"] or regions:
            raise UserError("the h5 files hold FLAIR and the whole tumour alone; drop --channels and --regions")
        add_h5_cases(plan, plan.files(), "zyx", values, spacing_mm)
    else:
        found = plan.files(not_below="validation", because="of the challenge's validation set, which has no labels")
        files = [(name, {"t1post": "t1ce"}.get(kind, kind), path) for name, kind, path in found]
        plan.add_cases(files, ["seg", *chosen], load_images, {"mask": "seg", "values": values, "check": True})
    return plan


BENCHMARK = Benchmark(
    title="BraTS19",
    about="BraTS 2019: NIfTI files (HGG, LGG or flat), or BraTS19_*.h5",
    entry=r"(?i:BraTS19)_(?P<id>\w+)",
    case="BraTS19_{id}",
    example="BraTS19_2013_10_1",
    reference="Menze et al., IEEE TMI 2015; Bakas et al., Scientific Data 2017; "
    "https://www.med.upenn.edu/cbica/brats2019",
    layouts={
        "NIfTI": (
            r"(?P<case>BraTS19_\w+?)_(?P<kind>flair|t1|t1ce|t1post|t2|seg)\.nii(\.gz)?",
            "BraTS19_*/BraTS19_*_flair.nii.gz",
        ),
        "h5": (r"(?P<case>BraTS19_\w+)\.h5", "BraTS19_*.h5"),
    },
    channels={"flair": "FLAIR", "t1": "T1", "t1ce": "T1ce", "t2": "T2"},
    options={"regions": "nnU-Net regions whole tumor, tumor core and enhancing tumor (default: whole tumor alone)"},
    plan=plan,
    published={"brats19": {"10": 25, "20": 50}},
    suggested="brats19-10",
)
