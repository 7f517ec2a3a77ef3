"""ACDC, the 2017 Automated Cardiac Diagnosis Challenge: cine MRI of the heart, two volumes of each patient.

Distributions: the challenge's ``patientXXX_frameYY.nii.gz`` with ``..._gt.nii.gz`` (``_4d`` and ``Info.cfg`` are
ignored), and the h5 files published with SSL4MIS: volumes ``patientXXX_frameYY.h5``, slices
``patientXXX_frameYY_slice_N.h5``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from nnunet_dycon.tools.convert.plan import Benchmark, CaseFile, CasePlan, DatasetPlan, recognise

# The h5 files do not tell; the scans have 0.7 to 1.9 mm in plane and 5 to 10 mm between slices.
SPACING_MM = (1.5, 1.5, 10.0)
_LABEL_VALUES = {value: value for value in range(4)}
_LAST_TRAINING_PATIENT = 100


def plan(source: Path, *, spacing_mm: Sequence[float] = SPACING_MM) -> DatasetPlan:
    """What a download of ACDC holds; ``spacing_mm`` (x, y, z) is that of h5 files."""
    from nnunet_dycon.tools.convert.volumes import load_images

    plan = recognise(BENCHMARK, source)
    plan.channel_names = ["cine MRI"]
    plan.labels = {"background": 0, "right ventricle": 1, "myocardium": 2, "left ventricle": 3}
    plan.notes.append(
        "a patient's two frames are called frame01 and frame02 in the order of their numbers, as in the lists"
    )
    files = _by_frame(plan)
    if plan.layout == "NIfTI":
        plan.add_cases(files, ("image", "gt"), load_images, {"mask": "gt", "values": _LABEL_VALUES, "check": True})
    else:
        _add_h5_cases(plan, files, spacing_mm)
    return plan


def _by_frame(plan: DatasetPlan) -> list[CaseFile]:
    """Files of the training patients; other patients are skipped, those without two frames fail."""
    frames: dict[str, dict[int, list[tuple[str, Path]]]] = defaultdict(lambda: defaultdict(list))
    for path, match in plan.found:
        frames[match["patient"].lower()][int(match["frame"])].append((_kind(path, match), path))
    files = []
    for patient, of_patient in sorted(frames.items()):
        names = [f"{patient}_frame{position:02d}" for position in (1, 2)]
        if int(patient[-3:]) > _LAST_TRAINING_PATIENT:
            plan.skipped[patient] = "of the challenge's testing set; the lists divide the 100 training patients"
        elif len(of_patient) != 2:
            numbers = ", ".join(map(str, sorted(of_patient)))
            reason = f"two frames of a patient are expected, found frame {numbers}: unpack the download again"
            plan.failures |= dict.fromkeys(names, reason)
        else:
            for name, number in zip(names, sorted(of_patient), strict=True):
                files += [(name, kind, path) for kind, path in of_patient[number]]
    return files


def _kind(path: Path, match: re.Match[str]) -> str:
    """What the loader calls a file; those of slices sort by number."""
    if path.suffix.lower() == ".h5":
        return f"slice_{int(match['slice']):04d}" if match["slice"] else "path"
    return "gt" if match["kind"] else "image"


def _add_h5_cases(plan: DatasetPlan, files: Sequence[CaseFile], spacing_mm: Sequence[float]) -> None:
    """A volume's own file where there is one, else its slices."""
    from nnunet_dycon.tools.convert.h5 import add_h5_cases, load_h5

    add_h5_cases(plan, [i for i in files if i[1] == "path"], "zyx", _LABEL_VALUES, spacing_mm)
    slices: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for name, kind, path in sorted(files):
        if name not in {*plan.failures, *(case.name for case in plan.cases)}:
            slices[name].append((kind, path))
    parameters = {"axes": "yx", "values": _LABEL_VALUES, "spacing_mm": [*spacing_mm]}
    for name, of_case in slices.items():
        numbers = [int(kind[6:]) for kind, _ in of_case]
        if numbers[0] > 1 or numbers != [*range(numbers[0], numbers[0] + len(numbers))]:
            reason = "its slices ought to be numbered without gaps, once each, from 0 or 1; there are "
            plan.failures[name] = reason + ", ".join(map(str, numbers))
        else:
            plan.cases.append(CasePlan(name, load_h5, dict(of_case), parameters))


BENCHMARK = Benchmark(
    title="ACDC",
    about="ACDC 2017: patientXXX_frameYY.nii.gz with _gt.nii.gz, or the h5 files of SSL4MIS",
    entry=r"(?i:patient)(?P<id>\d{3}_frame\d{2})(?:_gt|_slice_\d+)?",
    case="patient{id}",
    example="patient001_frame01",
    reference="Bernard et al., IEEE TMI 2018; https://www.creatis.insa-lyon.fr/Challenge/acdc",
    layouts={
        "NIfTI": (
            r"(?P<patient>patient\d{3})_frame(?P<frame>\d+)(?P<kind>_gt)?\.nii(\.gz)?",
            "patientXXX/patientXXX_frameYY.nii.gz with patientXXX_frameYY_gt.nii.gz",
        ),
        "h5": (
            r"(?P<patient>patient\d{3})_frame(?P<frame>\d+)(_slice_(?P<slice>\d+))?\.h5",
            "patientXXX_frameYY.h5 or slices/patientXXX_frameYY_slice_N.h5",
        ),
    },
    plan=plan,
    published={"acdc": {"3": 6, "7": 14}},
    protocol={"configuration": "2d", "volumes_per_patient": 2},
    suggested="acdc-7",
)
