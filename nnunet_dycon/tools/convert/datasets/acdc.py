"""ACDC, the 2017 Automated Cardiac Diagnosis Challenge: cine MRI of the heart, two volumes of each patient.

Distributions: the challenge's ``patientXXX_frameYY.nii.gz`` with ``..._gt.nii.gz`` (``_4d`` and ``Info.cfg`` are
ignored), and the h5 files published with SSL4MIS: volumes ``patientXXX_frameYY.h5``, slices
``patientXXX_frameYY_slice_N.h5``.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_dycon.tools.convert.benchmark import Benchmark, Published, add_spacing
from nnunet_dycon.tools.convert.download import Found, recognise
from nnunet_dycon.tools.convert.h5 import load_h5_slices, no_geometry_note, plan_h5, refuse_spacing
from nnunet_dycon.tools.convert.plan import CaseFile, CasePlan, CaseVolumes, DatasetPlan, plan_cases

# The h5 files do not tell; the scans have 0.7 to 1.9 mm in plane and 5 to 10 mm between slices.
SPACING_MM = (1.5, 1.5, 10.0)
_LABEL_VALUES = {value: value for value in range(4)}
_LAST_TRAINING_PATIENT = 100
_LAYOUTS = {
    "NIfTI": (
        r"(?P<patient>patient\d{3})_frame(?P<frame>\d+)(?P<kind>_gt)?\.nii(\.gz)?",
        "patientXXX/patientXXX_frameYY.nii.gz with patientXXX_frameYY_gt.nii.gz",
    ),
    "h5": (
        r"(?P<patient>patient\d{3})_frame(?P<frame>\d+)(?P<kind>_slice_\d+)?\.h5",
        "patientXXX_frameYY.h5 or slices/patientXXX_frameYY_slice_N.h5",
    ),
}
_FRAMES_NOTE = "a patient's two frames are called frame01 and frame02 in the order of their numbers, as in the lists"


def plan(source: Path, *, spacing_mm: Sequence[float] | None = None) -> DatasetPlan:
    """What a download of ACDC holds.

    Args:
        source: A folder with the patients' folders or the h5 files in it or below it.
        spacing_mm: (x, y, z) of the h5 files; None is 1.5 x 1.5 x 10 mm. NIfTI files have their own.

    Raises:
        UserError: The folder holds no ACDC data or both distributions, or ``--spacing`` is given for NIfTI files.
    """
    layout, found = recognise(source, "ACDC", _LAYOUTS)
    files, failures, skipped = _by_frame(found)
    notes: tuple[str, ...] = (_FRAMES_NOTE,)
    if layout == "NIfTI":
        refuse_spacing(spacing_mm, "NIfTI")
        cases, incomplete = plan_cases(files, ("image", "gt"), load_nifti, {"check": True})
    else:
        spacing = [*(spacing_mm or SPACING_MM)]
        cases, incomplete = _h5_cases(files, spacing)
        notes += (no_geometry_note(spacing),)
    return DatasetPlan(
        dataset="acdc",
        layout=layout,
        source=source,
        channel_names={0: "cine MRI"},
        labels={"background": 0, "right ventricle": 1, "myocardium": 2, "left ventricle": 3},
        reference="Bernard et al., IEEE TMI 2018; https://www.creatis.insa-lyon.fr/Challenge/acdc",
        cases=cases,
        lists=("acdc/train.list", "acdc/val.list", "acdc/test.list"),
        failures=failures | incomplete,
        skipped=skipped,
        notes=notes,
    )


def load_nifti(image: Path, gt: Path, check: bool) -> CaseVolumes:
    """A case of the challenge; the label is laid on the image voxel by voxel once their headers agree."""
    import SimpleITK as sitk

    from nnunet_dycon.tools.convert import volumes

    scan, label = volumes.read_scan(image), volumes.read_image(gt)
    notes = volumes.check_same_grid(scan, label, "the scan", "gt", check=check)
    mask = volumes.label_on_grid(sitk.GetArrayFromImage(label), _LABEL_VALUES, scan)
    return CaseVolumes([scan], mask, notes + volumes.empty_mask_note(mask))


def _by_frame(found: Found) -> tuple[list[CaseFile], dict[str, str], dict[str, str]]:
    """(files of the training patients, patients without two frames, other patients), the last two with the reason."""
    frames: dict[str, dict[int, list[tuple[str, Path]]]] = defaultdict(lambda: defaultdict(list))
    for path, match in found:
        frames[match["patient"].lower()][int(match["frame"])].append(((match["kind"] or "").lower(), path))
    files: list[CaseFile] = []
    failures: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for patient, of_patient in sorted(frames.items()):
        names = [f"{patient}_frame{position:02d}" for position in (1, 2)]
        if int(patient[-3:]) > _LAST_TRAINING_PATIENT:
            skipped[patient] = "of the challenge's testing set; the lists divide the 100 training patients"
        elif len(of_patient) != 2:
            numbers = ", ".join(str(number) for number in sorted(of_patient))
            reason = f"two frames of a patient are expected, found frame {numbers}: unpack the download again"
            failures |= dict.fromkeys(names, reason)
        else:
            for name, number in zip(names, sorted(of_patient), strict=True):
                files += [(name, _argument(kind, path), path) for kind, path in of_patient[number]]
    return files, failures, skipped


def _argument(kind: str, path: Path) -> str:
    """What the loader calls a file; those of slices sort by number."""
    if kind.startswith("_slice"):
        return f"slice_{int(kind[7:]):04d}"
    return "path" if path.suffix.lower() == ".h5" else kind.removeprefix("_") or "image"


def _h5_cases(files: Sequence[CaseFile], spacing_mm: list[float]) -> tuple[list[CasePlan], dict[str, str]]:
    """(cases, failures): a volume's own file where there is one, else its slices."""
    volumes = [file for file in files if file[1] == "path"]
    cases, failures = plan_h5(volumes, "zyx", _LABEL_VALUES, spacing_mm)
    parameters: dict[str, Any] = {"values": _LABEL_VALUES, "spacing_mm": spacing_mm}
    slices = defaultdict(list)
    for name, kind, path in sorted(files):
        if name not in {volume for volume, _, _ in volumes}:
            slices[name].append((kind, path))
    for name, of_case in slices.items():
        numbers = [int(kind[6:]) for kind, _ in of_case]
        if numbers[0] > 1 or numbers != [*range(numbers[0], numbers[0] + len(numbers))]:
            there = ", ".join(map(str, numbers))
            failures[name] = f"its slices ought to be numbered without gaps, once each, from 0 or 1; there are {there}"
        else:
            cases.append(CasePlan(name, load_h5_slices, dict(of_case), parameters))
    return sorted(cases, key=lambda case: case.name), failures


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_spacing(parser, "h5 files; default: 1.5 1.5 10")


BENCHMARK = Benchmark(
    name="acdc",
    title="ACDC",
    about="ACDC 2017: patientXXX_frameYY.nii.gz with _gt.nii.gz, or the h5 files of SSL4MIS",
    entry=r"(?i:patient)(?P<id>\d{3}_frame\d{2})(?:_gt|_slice_\d+)?",
    case="patient{id}",
    example="patient001_frame01",
    plan=plan,
    published=(
        Published(
            prefix="acdc",
            labeled={"3": 6, "7": 14},
            train=("acdc/train.list",),
            test="acdc/test.list",
            validation="acdc/val.list",
            configuration="2d",
            volumes_per_patient=2,
        ),
    ),
    suggested="acdc-7",
    add_arguments=_add_arguments,
)
