"""Pancreas-CT of the NIH (TCIA): abdominal CT, pancreas.

Distributions: TCIA's DICOM series with separate label files, and two incompatible h5 distributions,
``image00XX_norm.h5`` (1 mm, window [-125, 275], z-scored, cropped in x and y) and ``00XX.h5`` ([0, 1], cropped).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import Benchmark, DatasetPlan, check_folder, find_files, recognise

WITHDRAWN = ("pancreas_0025", "pancreas_0070")
_WITHDRAWN_REASON = (
    "withdrawn by TCIA, the scan of pancreas_0002 again (--keep-withdrawn converts it where it is there)"
)
# The values of the h5 files are windowed already: named "CT", nnU-Net would apply its CT normalisation to them.
_CHANNEL = {"DICOM": "CT", "image00XX_norm.h5": "CT window z-scored", "00XX.h5": "CT window 0 to 1"}
_PUBLISHED = {"pancreas": {"10": 6, "20": 12}}
_SPACING_MM = (1.0, 1.0, 1.0)  # what both kinds of h5 files are said to have been resampled to


def plan(
    source: Path, *, labels: Path | None = None, spacing_mm: Sequence[float] = _SPACING_MM, keep_withdrawn: bool = False
) -> DatasetPlan:
    """What a download of Pancreas-CT holds, cases 25 and 70, which TCIA withdrew, only if they are to be kept.

    ``labels`` is the folder of ``label00XX.nii.gz`` where they do not lie below ``source``; ``spacing_mm``
    (x, y, z) is that of h5 files.
    """
    from nnunet_dycon.tools.convert.h5 import add_h5_cases

    plan = recognise(BENCHMARK, source)
    plan.channel_names, plan.labels = [_CHANNEL[plan.layout]], {"background": 0, "pancreas": 1}
    if plan.layout == "DICOM":
        _add_dicom_cases(plan, labels or source)
    else:
        if labels is not None:
            raise UserError("--labels is for the DICOM download; h5 files hold their labels: drop it")
        add_h5_cases(plan, plan.files(), "xyz", {0: 0, 1: 1}, spacing_mm)
    if not keep_withdrawn:
        _leave_out_withdrawn(plan)
    return plan


def _leave_out_withdrawn(plan: DatasetPlan) -> None:
    there = {*plan.failures, *(case.name for case in plan.cases)}
    plan.skipped |= {name: _WITHDRAWN_REASON for name in WITHDRAWN if name in there}
    plan.cases = [case for case in plan.cases if case.name not in WITHDRAWN]
    plan.failures = {name: reason for name, reason in plan.failures.items() if name not in WITHDRAWN}
    plan.benchmark = replace(BENCHMARK, published=_PUBLISHED)  # the other one's lists contain them


def _add_dicom_cases(plan: DatasetPlan, labels: Path) -> None:
    """A case needs one series and one label."""
    from nnunet_dycon.tools.convert.dicom import load_dicom

    check_folder(labels, "--labels")
    files = []
    for folder in sorted({path.parent for path, _ in plan.found}):
        patients = [part for part in folder.parts if re.fullmatch(r"(?i)PANCREAS_\d{4}", part)]
        files += [(BENCHMARK.case_name(patient), "series", folder) for patient in patients[-1:]]
    if not files:
        raise UserError(
            f"--source {plan.source} holds DICOM files, but in no folder called PANCREAS_00XX; keep TCIA's folders"
        )
    for path, match in find_files(labels, r"(label\d{4})\.nii(\.gz)?"):
        files.append((BENCHMARK.case_name(match[1]), "label", path))
    fix = (
        f"put or link its PANCREAS folder and TCIA_pancreas_labels-02-05-2017, unpacked, below {plan.source}, or name "
        "the labels' folder with --labels"
    )
    plan.add_cases(files, ("series", "label"), load_dicom, {"check": True}, fix)
    plan.notes.append(
        "headers of the label files are not read, since they disagree with the DICOM's in every case; the values under "
        "each mask are compared with those around it and under its mirror images instead"
    )


BENCHMARK = Benchmark(
    title="Pancreas",
    about="Pancreas-CT: TCIA DICOM and label files, image00XX_norm.h5, or 00XX.h5",
    entry=r"(?i:image|label|pancreas_)?(?P<id>\d{4})(?i:_norm)?",
    case="pancreas_{id}",
    example="image0001, PANCREAS_0001 or 0001",
    reference="Roth et al., Data from Pancreas-CT, The Cancer Imaging Archive, 2016; doi 10.7937/K9/TCIA.2016.tNB1kqBU",
    layouts={
        "DICOM": (r".+\.dcm", "PANCREAS_00XX/.../*.dcm"),
        "image00XX_norm.h5": (r"(?P<case>image\d{4}_norm)\.h5", "image00XX_norm.h5"),
        "00XX.h5": (r"(?P<case>\d{4})\.h5", "00XX.h5"),
    },
    options={
        "labels": "label00XX.nii.gz files that do not lie below --source",
        "keep_withdrawn": "also convert cases 25 and 70, copies of case 2 that TCIA withdrew; the MC-Net lists contain "
        "them",
    },
    plan=plan,
    published=_PUBLISHED | {"pancreas-mcnet": {"10": 6, "20": 12}},
    warnings={
        "pancreas-mcnet": "pancreas_0002, pancreas_0025 and pancreas_0070 are one scan (TCIA withdrew 25 and 70); this "
        "protocol has 2 among the training cases, 25 among the test cases and 70 in the first 12 labelled ones, "
        "so its test result is biased. Prefer pancreas-10 or pancreas-20, which leave 25 and 70 out"
    },
    suggested="pancreas-20",
)
