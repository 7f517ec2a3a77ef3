"""LA, the 2018 Atrial Segmentation Challenge: late gadolinium MRI, left atrium.

Distributions: the challenge's ``<ID>/lgemri.nrrd`` and ``laendo.nrrd``, and the ``<ID>/mri_norm2.h5`` files published
with UA-MT (Yu et al., MICCAI 2019), cropped around the atrium and z-scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.download import ambiguous, check_folder, find_files, nothing_found
from nnunet_dycon.tools.convert.grouping import group, plan_cases
from nnunet_dycon.tools.convert.h5 import h5_parameters, load_h5, no_geometry_note
from nnunet_dycon.tools.convert.naming import case_name
from nnunet_dycon.tools.convert.plan import CaseVolumes, DatasetPlan
from nnunet_dycon.tools.convert.volumes import empty_mask_note, label_on_grid, read_image, spacing_text

# The challenge's scans are 0.625 mm isotropic; some headers say 1 mm and the h5 files say nothing.
SPACING_MM = (0.625, 0.625, 0.625)
LISTS = ("la/train.list", "la/test.list")
REFERENCE = "Xiong et al., Medical Image Analysis 2020; https://www.cardiacatlas.org/atriaseg2018-challenge/"
_LABEL_VALUES = {0: 0, 1: 1, 255: 1}


def plan(source: Path, *, spacing_mm: Sequence[float] | None = None) -> DatasetPlan:
    """What a download of LA holds.

    Args:
        source: A folder with case folders in it or below it.
        spacing_mm: (x, y, z) of the h5 files, and of NRRD files whose header says (1, 1, 1); None is 0.625 mm.

    Raises:
        UserError: The folder holds no LA data, or both distributions.
    """
    check_folder(source)
    nrrd = find_files(source, r"(?P<kind>lgemri|laendo)\.nrrd")
    h5 = find_files(source, r"mri_norm2\.h5")
    if nrrd and h5:
        raise ambiguous(source, ("NRRD files", "mri_norm2.h5 files"))
    if not nrrd and not h5:
        raise nothing_found(source, "LA", ("<ID>/lgemri.nrrd with <ID>/laendo.nrrd", "<ID>/mri_norm2.h5"))
    spacing_given, spacing_mm = spacing_mm is not None, [float(value) for value in spacing_mm or SPACING_MM]
    if nrrd:
        training, skipped = _training_cases(source, [(match["kind"].lower(), path) for path, match in nrrd])
        parameters = {"spacing_mm": spacing_mm, "spacing_given": spacing_given}
        cases, failures = plan_cases(group(training), ("lgemri", "laendo"), load_nrrd, parameters)
    else:
        training, skipped = _training_cases(source, [("path", path) for path, _ in h5])
        cases, failures = plan_cases(group(training), ("path",), load_h5, h5_parameters("xyz", [1], spacing_mm))
    return DatasetPlan(
        dataset="la",
        layout="NRRD" if nrrd else "mri_norm2.h5",
        source=source,
        channel_names={0: "LGE-MRI"},
        labels={"background": 0, "left atrium": 1},
        cases=cases,
        reference=REFERENCE,
        lists=LISTS,
        failures=failures,
        skipped=skipped,
        notes=() if nrrd else (no_geometry_note(spacing_mm),),
    )


def load_nrrd(lgemri: Path, laendo: Path, spacing_mm: Sequence[float], spacing_given: bool) -> CaseVolumes:
    """A case of the challenge; the label, 0 or 255, is laid on the image voxel by voxel.

    ``spacing_mm`` replaces a header of (1, 1, 1); it is said where ``spacing_given`` has no effect.
    """
    scan = read_image(lgemri)
    notes = []
    if np.allclose(scan.GetSpacing(), 1):
        scan.SetSpacing(list(spacing_mm))
        notes.append(f"the header says 1 x 1 x 1 mm; {spacing_text(spacing_mm)} (--spacing) is used")
    elif spacing_given:
        notes.append("the header has a spacing of its own, which is kept; --spacing has no effect")
    mask = label_on_grid(sitk.GetArrayFromImage(read_image(laendo)), _LABEL_VALUES, scan)
    return CaseVolumes([scan], mask, notes + empty_mask_note(mask))


def _training_cases(
    source: Path, files: Sequence[tuple[str, Path]]
) -> tuple[list[tuple[str, str, Path]], dict[str, str]]:
    """((case, kind, path) of the training cases, other cases with the reason why they are skipped)."""
    training, skipped = [], {}
    for kind, path in files:
        folder = path.parent
        try:
            name = case_name("la", folder.name)
        except UserError:
            skipped[str(folder)] = "its name is no identifier of the challenge (20 letters and digits)"
            continue
        if any("testing" in part.lower() for part in folder.relative_to(source).parts[:-1]):
            skipped[name] = "of the challenge's testing set; the protocols use the 100 training cases"
        else:
            training.append((name, kind, path))
    return training, skipped
