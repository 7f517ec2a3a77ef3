"""Pancreas-CT of the NIH (TCIA): abdominal CT, pancreas.

Distributions: TCIA's DICOM series with separate label files, and two incompatible h5 distributions,
``image00XX_norm.h5`` (1 mm, window [-125, 275], z-scored, cropped in x and y) and ``00XX.h5`` ([0, 1], cropped).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.download import ambiguous, check_folder, find_files, nothing_found
from nnunet_dycon.tools.convert.grouping import group, plan_cases
from nnunet_dycon.tools.convert.h5 import h5_parameters, load_h5, no_geometry_note
from nnunet_dycon.tools.convert.naming import case_name
from nnunet_dycon.tools.convert.pancreas_dicom import read_series
from nnunet_dycon.tools.convert.pancreas_pairing import check_pairing
from nnunet_dycon.tools.convert.plan import CasePlan, CaseVolumes, DatasetPlan
from nnunet_dycon.tools.convert.volumes import label_on_grid, read_image

# What both h5 distributions are said to have been resampled to; the files do not tell.
SPACING_MM = (1.0, 1.0, 1.0)
WITHDRAWN = ("pancreas_0025", "pancreas_0070")
_WITHDRAWN_REASON = (
    "withdrawn by TCIA, the scan of pancreas_0002 again (--keep-withdrawn converts it where it is there)"
)
LISTS = ("pancreas/coranet/train_lab.txt", "pancreas/coranet/train_unlab.txt", "pancreas/coranet/test.txt")
LISTS_WITH_WITHDRAWN = ("pancreas/mcnet/train.list", "pancreas/mcnet/test.list")
REFERENCE = "Roth et al., Data from Pancreas-CT, The Cancer Imaging Archive, 2016; doi 10.7937/K9/TCIA.2016.tNB1kqBU"
_LABEL_VALUES = {0: 0, 1: 1}
# layout -> (what the files look like, channel name). The values are windowed already: named "CT", nnU-Net would
# apply its CT normalisation to them.
_H5_LAYOUTS = {
    "image00XX_norm.h5": (r"image\d{4}_norm\.h5", "CT window z-scored"),
    "00XX.h5": (r"\d{4}\.h5", "CT window 0 to 1"),
}


def plan(
    source: Path,
    *,
    labels: Path | None = None,
    spacing_mm: Sequence[float] | None = None,
    keep_withdrawn: bool = False,
    accept: Sequence[str] = (),
) -> DatasetPlan:
    """What a download of Pancreas-CT holds.

    Args:
        source: A folder with ``PANCREAS_00XX`` folders and the label files, or with one of the h5 distributions.
        labels: Folder of ``label00XX.nii.gz`` where they do not lie in ``source``.
        spacing_mm: (x, y, z) of the h5 files; None is 1 mm. The DICOM files have their own.
        keep_withdrawn: Convert cases 25 and 70 too, which TCIA withdrew because they show the scan of case 2.
        accept: Cases that were looked at: convert them although the guard refuses them.

    Raises:
        UserError: The folder holds no Pancreas-CT data, or several distributions, or an option does not fit it.
    """
    layout, paths = _recognise(source)
    notes: tuple[str, ...] = ()
    if layout == "DICOM":
        if spacing_mm is not None:
            raise UserError("--spacing is for h5 files; the DICOM files have their own spacing: drop it")
        channel_name = "CT"
        cases, failures = _dicom_cases(source, paths, labels or source, accept)
    else:
        if labels is not None or accept:
            raise UserError("--labels and --accept are for the DICOM download; h5 files hold their labels: drop them")
        spacing_mm = SPACING_MM if spacing_mm is None else spacing_mm
        channel_name = _H5_LAYOUTS[layout][1]
        files = group((case_name("pancreas", path.name), "path", path) for path in paths)
        cases, failures = plan_cases(files, ("path",), load_h5, h5_parameters("xyz", [1], spacing_mm))
        notes = (no_geometry_note(spacing_mm),)
    withdrawn = set() if keep_withdrawn else {*WITHDRAWN} & {*failures, *(case.name for case in cases)}
    return DatasetPlan(
        dataset="pancreas",
        layout=layout,
        source=source,
        channel_names={0: channel_name},
        labels={"background": 0, "pancreas": 1},
        cases=[case for case in cases if case.name not in withdrawn],
        reference=REFERENCE,
        lists=LISTS + LISTS_WITH_WITHDRAWN if keep_withdrawn else LISTS,
        failures={name: reason for name, reason in failures.items() if name not in withdrawn},
        skipped=dict.fromkeys(sorted(withdrawn), _WITHDRAWN_REASON),
        notes=notes,
    )


def _recognise(source: Path) -> tuple[str, list[Path]]:
    """(layout, its files)."""
    check_folder(source)
    patterns = {"DICOM": r".+\.dcm", **{layout: pattern for layout, (pattern, _) in _H5_LAYOUTS.items()}}
    found = {layout: [path for path, _ in find_files(source, pattern)] for layout, pattern in patterns.items()}
    layouts = [layout for layout, paths in found.items() if paths]
    if len(layouts) > 1:
        raise ambiguous(source, layouts)
    if not layouts:
        raise nothing_found(source, "Pancreas-CT", ("PANCREAS_00XX/.../*.dcm", *_H5_LAYOUTS))
    return layouts[0], found[layouts[0]]


def load_dicom(series: Path, label: Path, check: bool) -> CaseVolumes:
    """A case of TCIA: label voxel [x, y, k] belongs to pixel [y, x] of InstanceNumber k + 1.

    The label's header is ignored; it gets the geometry of the DICOM. ``check`` asks for ``check_pairing``.
    """
    scan, notes = read_series(series)
    mask = label_on_grid(sitk.GetArrayFromImage(read_image(label)), _LABEL_VALUES, scan)
    if check:
        check_pairing(sitk.GetArrayViewFromImage(scan), sitk.GetArrayViewFromImage(mask))
    else:
        notes = [*notes, "not checked against its label (--accept)"]
    return CaseVolumes([scan], mask, notes)


def _dicom_cases(
    source: Path, slices: Sequence[Path], labels: Path, accept: Sequence[str]
) -> tuple[list[CasePlan], dict[str, str]]:
    """(cases, failures); a case needs one series and one label."""
    check_folder(labels)
    patients = [(_patient(folder), folder) for folder in sorted({path.parent for path in slices})]
    series = [(case_name("pancreas", patient), "series", folder) for patient, folder in patients if patient]
    if not series:
        raise nothing_found(source, "Pancreas-CT", ("folders PANCREAS_00XX with DICOM series",))
    masks = [
        (case_name("pancreas", path.name.split(".")[0]), "label", path)
        for path, _ in find_files(labels, r"label\d{4}\.nii(\.gz)?")
    ]
    fixes = {
        "label": f"unpack TCIA_pancreas_labels-02-05-2017 into {labels}, or name its folder with --labels",
        "series": f"download its PANCREAS folder into {source}",
    }
    cases, failures = plan_cases(group([*series, *masks]), ("series", "label"), load_dicom, {"check": True}, fixes)
    accepted = {case_name("pancreas", name) for name in accept}
    unknown = accepted - {case.name for case in cases}
    if unknown:
        raise UserError(f"--accept {', '.join(sorted(unknown))}: not among the complete cases in {source}")
    return [replace(case, parameters={"check": case.name not in accepted}) for case in cases], failures


def _patient(folder: Path) -> str:
    """``PANCREAS_00XX`` among the folders above a series; empty where there is none."""
    names = [part for part in folder.parts if re.fullmatch(r"(?i)PANCREAS_\d{4}", part)]
    return names[-1] if names else ""
