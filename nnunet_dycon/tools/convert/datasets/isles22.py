"""ISLES 2022: diffusion-weighted MRI of ischaemic stroke.

Both BIDS layouts are read by file name alone, whatever the folders: ``.../dwi/sub-..._dwi.nii.gz`` with
``..._FLAIR.nii.gz``, and the flat one with ``..._flair.nii.gz``. DWI, ADC and mask share a grid, FLAIR has its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.benchmark import Benchmark, Published, comma_separated
from nnunet_dycon.tools.convert.download import recognise
from nnunet_dycon.tools.convert.plan import CaseVolumes, DatasetPlan, plan_cases

# In the order of the channels, with the channel names; none of them is quantitative across cases, so nnU-Net's
# z-score of each case is what they need (ADC comes in three units).
CHANNELS = {"dwi": "DWI", "adc": "ADC", "flair": "FLAIR"}
_LAYOUTS = {
    "BIDS": (
        r"(?P<case>sub-strokecase\d{4})_ses-\d{4}_(?P<kind>dwi|adc|flair|msk)\.nii(\.gz)?",
        "sub-strokecaseXXXX/.../*_dwi.nii.gz with derivatives/.../*_msk.nii.gz",
    )
}


def plan(source: Path, *, channels: Sequence[str] = ("dwi",)) -> DatasetPlan:
    """What a download of ISLES 2022 holds.

    Args:
        source: A folder with the cases and the ``derivatives`` in it or below it.
        channels: ``dwi`` and any of ``CHANNELS``, whose order the channels follow.

    Raises:
        UserError: The folder holds no ISLES data, or the channels are unknown or lack DWI.
    """
    if not {"dwi"} <= {*channels} <= {*CHANNELS}:
        raise UserError(f"--channels {','.join(channels)}: choose dwi and any of {', '.join([*CHANNELS][1:])}")
    layout, found = recognise(source, "ISLES 2022", _LAYOUTS)
    chosen = [name for name in CHANNELS if name in channels]
    files = [(BENCHMARK.case_name(match["case"]), match["kind"].lower(), path) for path, match in found]
    cases, failures = plan_cases(files, ["msk", *chosen], load, {"check": True})
    resampled = "FLAIR is resampled linearly to the grid of DWI by the headers, unregistered"
    return DatasetPlan(
        dataset="isles22",
        layout=layout,
        source=source,
        channel_names=dict(enumerate(CHANNELS[name] for name in chosen)),
        labels={"background": 0, "stroke lesion": 1},
        reference="Hernandez Petzsche et al., Scientific Data 2022; https://isles22.grand-challenge.org",
        cases=cases,
        lists=("isles22/train.list", "isles22/val.list", "isles22/test.list"),
        failures=failures,
        notes=(resampled,) if "flair" in chosen else (),
    )


def load(msk: Path, dwi: Path, check: bool, adc: Path | None = None, flair: Path | None = None) -> CaseVolumes:
    """One case on the grid of its DWI, whose header it keeps."""
    import SimpleITK as sitk

    from nnunet_dycon.tools.convert import volumes

    scan, mask = volumes.read_scan(dwi), volumes.read_image(msk)
    channels, notes = [scan], volumes.check_same_grid(scan, mask, "dwi", "msk", check=check)
    if adc is not None:
        diffusion = volumes.read_scan(adc)
        notes += volumes.check_same_grid(scan, diffusion, "dwi", "adc", check=check)
        diffusion.CopyInformation(scan)
        channels.append(diffusion)
    if flair is not None:
        resampled, flair_notes = volumes.resample(volumes.read_scan(flair), scan, "flair", "dwi", check=check)
        channels.append(resampled)
        notes += flair_notes
    label = volumes.label_on_grid(sitk.GetArrayFromImage(mask), {0: 0, 1: 1}, scan)
    return CaseVolumes(channels, label, notes + volumes.empty_mask_note(label))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "dwi, and adc and flair, comma-separated (default: dwi)"
    parser.add_argument("--channels", type=comma_separated, default="dwi", help=text)


BENCHMARK = Benchmark(
    name="isles22",
    title="ISLES22",
    about="ISLES 2022: both BIDS layouts",
    entry=r"(?i:sub-strokecase)(?P<id>\d{4})(?i:_ses-\d{4})?",
    case="sub-strokecase{id}",
    example="sub-strokecase0001",
    plan=plan,
    published=(
        Published(
            prefix="isles22",
            labeled={"5": 10, "10": 20, "20": 40},
            train=("isles22/train.list",),
            test="isles22/test.list",
            validation="isles22/val.list",
        ),
    ),
    suggested="isles22-10",
    add_arguments=_add_arguments,
)
