"""BraTS 2019: co-registered MRI of glioma in four modalities.

Distributions: the challenge's NIfTI files in ``HGG``, ``LGG`` or any folders, and ``BraTS19_*.h5`` (FLAIR, whole
tumour, axes (z, y, x)). The literature on semi-supervised learning uses FLAIR and the whole tumour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.download import ambiguous, check_folder, find_files, nothing_found
from nnunet_dycon.tools.convert.grouping import group, plan_cases
from nnunet_dycon.tools.convert.h5 import h5_parameters, load_h5, no_geometry_note
from nnunet_dycon.tools.convert.naming import case_name
from nnunet_dycon.tools.convert.plan import CaseVolumes, DatasetPlan
from nnunet_dycon.tools.convert.volumes import (
    check_same_grid,
    compact,
    empty_mask_note,
    label_on_grid,
    read_image,
)

# In the order of the channels, with the channel names.
MODALITIES = {"flair": "FLAIR", "t1": "T1", "t1ce": "T1ce", "t2": "T2"}
SPACING_MM = (1.0, 1.0, 1.0)
LISTS = ("brats19/train.txt", "brats19/val.txt", "brats19/test.txt")
REFERENCE = "Menze et al., IEEE TMI 2015; Bakas et al., Scientific Data 2017; https://www.med.upenn.edu/cbica/brats2019"
# 1 necrosis and non-enhancing core, 2 oedema, 4 enhancing tumour; nnU-Net wants consecutive values
_WHOLE_TUMOUR = {0: 0, 1: 1, 2: 1, 4: 1}
_REGION_VALUES = {0: 0, 2: 1, 1: 2, 4: 3}
_REGIONS: dict[str, int | list[int]] = {
    "background": 0,
    "whole tumor": [1, 2, 3],
    "tumor core": [2, 3],
    "enhancing tumor": 3,
}
_FILE = r"(?P<case>BraTS19_\w+?)_(?P<kind>flair|t1|t1ce|t1post|t2|seg)\.nii(\.gz)?"


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
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown or not modalities:
        raise UserError(f"--modalities {','.join(modalities)}: choose from {', '.join(MODALITIES)}, or all")
    nifti, h5 = _recognise(source)
    chosen = [name for name in MODALITIES if name in modalities]
    if h5 and (chosen != ["flair"] or regions):
        raise UserError("the h5 files hold FLAIR and the whole tumour alone; drop --modalities and --regions")
    if nifti and spacing_mm is not None:
        raise UserError("--spacing is for h5 files; the NIfTI files have their own spacing: drop it")
    skipped: dict[str, str] = {}
    if h5:
        spacing_mm = SPACING_MM if spacing_mm is None else spacing_mm
        h5_files = group((case_name("brats19", match["case"]), "path", path) for path, match in h5)
        cases, failures = plan_cases(h5_files, ("path",), load_h5, h5_parameters("zyx", [1, 2, 4], spacing_mm))
    else:
        training, skipped = _training_cases(source, nifti)
        cases, failures = plan_cases(group(training), ["seg", *chosen], load_nifti, {"regions": regions})
    return DatasetPlan(
        dataset="brats19",
        layout="h5" if h5 else "NIfTI",
        source=source,
        channel_names={channel: MODALITIES[name] for channel, name in enumerate(chosen)},
        labels=_REGIONS if regions else {"background": 0, "whole tumor": 1},
        regions_class_order=(1, 2, 3) if regions else None,
        cases=cases,
        reference=REFERENCE,
        lists=LISTS,
        failures=failures,
        skipped=skipped,
        notes=() if spacing_mm is None else (no_geometry_note(spacing_mm),),
    )


def _recognise(source: Path) -> tuple[list[tuple[Path, re.Match[str]]], list[tuple[Path, re.Match[str]]]]:
    """(NIfTI files, h5 files), one of which is empty."""
    check_folder(source)
    nifti, h5 = find_files(source, _FILE), find_files(source, r"(?P<case>BraTS19_\w+)\.h5")
    if nifti and h5:
        raise ambiguous(source, ("NIfTI files", "h5 files"))
    if not nifti and not h5:
        raise nothing_found(source, "BraTS 2019", ("BraTS19_*/BraTS19_*_flair.nii.gz", "BraTS19_*.h5"))
    return nifti, h5


def load_nifti(seg: Path, regions: bool, **images: Path) -> CaseVolumes:
    """A case of the challenge; ``images`` by modality, in the order of the channels."""
    channels = {name: compact(read_image(path)) for name, path in images.items()}
    segmentation = read_image(seg)
    first, *others = channels
    notes = []
    for name, other in [*((name, channels[name]) for name in others), ("seg", segmentation)]:
        notes += check_same_grid(channels[first], other, first, name)
    for name in others:
        channels[name].CopyInformation(channels[first])
    values = _REGION_VALUES if regions else _WHOLE_TUMOUR
    label = label_on_grid(sitk.GetArrayFromImage(segmentation), values, channels[first])
    return CaseVolumes([*channels.values()], label, notes + empty_mask_note(label))


def _training_cases(
    source: Path, files: Sequence[tuple[Path, re.Match[str]]]
) -> tuple[list[tuple[str, str, Path]], dict[str, str]]:
    """((case, kind, path) of the training set, the validation set with the reason why it is skipped)."""
    training, skipped = [], {}
    for path, match in files:
        name, kind = case_name("brats19", match["case"]), match["kind"].lower()
        if any("validation" in part.lower() for part in path.relative_to(source).parts[:-1]):
            skipped[name] = "of the challenge's validation set, which has no labels"
        else:
            training.append((name, "t1ce" if kind == "t1post" else kind, path))
    return training, skipped
