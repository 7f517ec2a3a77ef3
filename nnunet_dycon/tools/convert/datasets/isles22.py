"""ISLES 2022: diffusion-weighted MRI of ischaemic stroke.

Both BIDS layouts are read by file name alone, whatever the folders: ``.../dwi/sub-..._dwi.nii.gz`` with
``..._FLAIR.nii.gz``, and the flat one with ``..._flair.nii.gz``. DWI, ADC and mask share a grid, FLAIR has its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.download import recognise
from nnunet_dycon.tools.convert.loaders import load_images
from nnunet_dycon.tools.convert.plan import Benchmark, DatasetPlan, Published, comma_separated

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
    """What a download of ISLES 2022 holds; ``channels`` are dwi and any of ``CHANNELS``, whose order they follow."""
    if not {"dwi"} <= {*channels} <= {*CHANNELS}:
        raise UserError(f"--channels {','.join(channels)}: choose dwi and any of {', '.join([*CHANNELS][1:])}")
    plan = recognise(BENCHMARK, source, _LAYOUTS)
    chosen = [name for name in CHANNELS if name in channels]
    plan.channel_names = [CHANNELS[name] for name in chosen]
    plan.labels = {"background": 0, "stroke lesion": 1}
    parameters = {"mask": "msk", "values": {0: 0, 1: 1}, "resampled": ["flair"], "check": True}
    plan.add_cases(plan.files(), ["msk", *chosen], load_images, parameters)
    if "flair" in chosen:
        plan.notes.append("FLAIR is resampled linearly to the grid of DWI by the headers, unregistered")
    return plan


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
    reference="Hernandez Petzsche et al., Scientific Data 2022; https://isles22.grand-challenge.org",
    plan=plan,
    published=(
        Published(
            prefix="isles22",
            labeled={"5": 10, "10": 20, "20": 40},
            train=("isles22/train.list",),
            validation=("isles22/val.list",),
            test=("isles22/test.list",),
        ),
    ),
    suggested="isles22-10",
    add_arguments=_add_arguments,
)
