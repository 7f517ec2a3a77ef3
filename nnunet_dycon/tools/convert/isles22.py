"""ISLES 2022: diffusion-weighted MRI of ischaemic stroke.

Both BIDS layouts are read by file name alone, whatever the folders: ``.../dwi/sub-..._dwi.nii.gz`` with
``..._FLAIR.nii.gz``, and the flat one with ``..._flair.nii.gz``. DWI, ADC and mask share a grid, FLAIR has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.download import check_folder, find_files, nothing_found
from nnunet_dycon.tools.convert.grouping import group, plan_cases
from nnunet_dycon.tools.convert.naming import case_name
from nnunet_dycon.tools.convert.plan import CaseVolumes, DatasetPlan
from nnunet_dycon.tools.convert.volumes import check_same_grid, compact, empty_mask_note, label_on_grid, read_image

# In the order of the channels, with the channel names; none of them is quantitative across cases, so nnU-Net's
# z-score of each case is what they need (ADC comes in three units).
CHANNELS = {"dwi": "DWI", "adc": "ADC", "flair": "FLAIR"}
LISTS = ("isles22/train.list", "isles22/val.list", "isles22/test.list")
REFERENCE = "Hernandez Petzsche et al., Scientific Data 2022; https://isles22.grand-challenge.org"
_LABEL_VALUES = {0: 0, 1: 1}
_FILE = r"(?P<case>sub-strokecase\d{4})_ses-\d{4}_(?P<kind>dwi|adc|flair|msk)\.nii(\.gz)?"


def plan(source: Path, *, channels: Sequence[str] = ("dwi",)) -> DatasetPlan:
    """What a download of ISLES 2022 holds.

    Args:
        source: A folder with the cases and the ``derivatives`` in it or below it.
        channels: ``dwi`` and any of ``CHANNELS``, whose order the channels follow.

    Raises:
        UserError: The folder holds no ISLES data, or the channels are unknown or lack DWI.
    """
    check_folder(source)
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown or "dwi" not in channels:
        raise UserError(f"--channels {','.join(channels)}: choose dwi and any of {', '.join([*CHANNELS][1:])}")
    files = find_files(source, _FILE)
    if not files:
        raise nothing_found(
            source, "ISLES 2022", ("sub-strokecaseXXXX/.../*_dwi.nii.gz with derivatives/.../*_msk.nii.gz",)
        )
    chosen = [name for name in CHANNELS if name in channels]
    case_files = group((case_name("isles22", match["case"]), match["kind"].lower(), path) for path, match in files)
    cases, failures = plan_cases(case_files, ["msk", *chosen], load, {})
    return DatasetPlan(
        dataset="isles22",
        layout="BIDS",
        source=source,
        channel_names={channel: CHANNELS[name] for channel, name in enumerate(chosen)},
        labels={"background": 0, "stroke lesion": 1},
        cases=cases,
        reference=REFERENCE,
        lists=LISTS,
        failures=failures,
        notes=("FLAIR is resampled linearly to the grid of DWI by the headers, unregistered",)
        if "flair" in chosen
        else (),
    )


def load(msk: Path, dwi: Path, adc: Path | None = None, flair: Path | None = None) -> CaseVolumes:
    """One case on the grid of its DWI, whose header it keeps."""
    scan, mask = compact(read_image(dwi)), read_image(msk)
    channels, notes = [scan], check_same_grid(scan, mask, "dwi", "msk")
    if adc is not None:
        diffusion = compact(read_image(adc))
        notes += check_same_grid(scan, diffusion, "dwi", "adc")
        diffusion.CopyInformation(scan)
        channels.append(diffusion)
    if flair is not None:
        channels.append(
            sitk.Resample(compact(read_image(flair)), scan, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear)
        )
    label = label_on_grid(sitk.GetArrayFromImage(mask), _LABEL_VALUES, scan)
    return CaseVolumes(channels, label, notes + empty_mask_note(label))
