"""LA, the 2018 Atrial Segmentation Challenge: late gadolinium MRI, left atrium.

Distributions: the challenge's ``<ID>/lgemri.nrrd`` and ``laendo.nrrd``, and the ``<ID>/mri_norm2.h5`` files published
with UA-MT (Yu et al., MICCAI 2019), cropped around the atrium and z-scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_dycon.tools.convert.plan import Benchmark, CaseVolumes, DatasetPlan, recognise

# The challenge's scans are 0.625 mm isotropic; some headers say 1 mm and the h5 files say nothing.
SPACING_MM = (0.625, 0.625, 0.625)
_NO_SPACING = (1.0, 1.0, 1.0)


def plan(source: Path, *, spacing_mm: Sequence[float] = SPACING_MM) -> DatasetPlan:
    """What a download of LA holds.

    ``spacing_mm`` (x, y, z) is that of h5 files, and of NRRD files whose header says (1, 1, 1).
    """
    from nnunet_dycon.tools.convert.h5 import add_h5_cases

    plan = recognise(BENCHMARK, source)
    plan.channel_names, plan.labels = ["LGE-MRI"], {"background": 0, "left atrium": 1}
    reason = "of the challenge's testing set; the protocols use the 100 training cases"
    files = plan.files(not_below="testing", because=reason)
    if plan.layout == "NRRD":
        plan.add_cases(files, ("lgemri", "laendo"), load_nrrd, {"spacing_mm": [*spacing_mm], "check": True})
    else:
        add_h5_cases(plan, files, "xyz", {0: 0, 1: 1}, spacing_mm)
    return plan


def load_nrrd(lgemri: Path, laendo: Path, spacing_mm: Sequence[float], check: bool) -> CaseVolumes:
    """A case of the challenge, whose label is 0 or 255.

    A header of (1, 1, 1) says nothing: the image's is replaced by ``spacing_mm``, the label's by the image's.
    """
    from nnunet_dycon.tools.convert import volumes

    scan, label = volumes.read_image(lgemri), volumes.read_image(laendo)
    notes = []
    if scan.GetSpacing() == _NO_SPACING:
        scan.SetSpacing(list(spacing_mm))
        notes.append(f"the header says 1 x 1 x 1 mm; {volumes.spacing_text(spacing_mm)} (--spacing) is used")
    elif [*spacing_mm] != [*SPACING_MM]:
        notes.append("the header has a spacing of its own, which is kept; --spacing has no effect")
    if label.GetSpacing() == _NO_SPACING:
        label.SetSpacing(scan.GetSpacing())
    values = {0: 0, 1: 1, 255: 1}
    images, more = volumes.on_one_grid({"lgemri": scan, "laendo": label}, "laendo", values, check=check)
    return images, notes + more


BENCHMARK = Benchmark(
    title="LA",
    about="2018 Atrial Segmentation Challenge: lgemri.nrrd and laendo.nrrd, or mri_norm2.h5",
    entry=r"(?:LA_)?(?P<id>[A-Z0-9]{20})(?:/mri_norm2)?",
    case="LA_{id}",
    example="06SR5RBREL16DQ6M8LWS",
    reference="Xiong et al., Medical Image Analysis 2020; https://www.cardiacatlas.org/atriaseg2018-challenge/",
    layouts={
        "NRRD": (r"(?P<kind>lgemri|laendo)\.nrrd", "<ID>/lgemri.nrrd with <ID>/laendo.nrrd"),
        "mri_norm2.h5": (r"mri_norm2\.h5", "<ID>/mri_norm2.h5"),
    },
    plan=plan,
    published={"la": {"5": 4, "10": 8, "20": 16}},
    suggested="la-10",
)
