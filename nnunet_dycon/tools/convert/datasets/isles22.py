"""ISLES 2022: diffusion-weighted MRI of ischaemic stroke.

Both BIDS layouts are read by file name alone, whatever the folders: ``.../dwi/sub-..._dwi.nii.gz`` with
``..._FLAIR.nii.gz``, and the flat one with ``..._flair.nii.gz``. DWI, ADC and mask share a grid, FLAIR has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import Benchmark, DatasetPlan, recognise


def plan(source: Path, *, channels: Sequence[str] = ("dwi",)) -> DatasetPlan:
    """What a download of ISLES 2022 holds; ``channels`` are dwi, on whose grid the masks lie, and any others."""
    from nnunet_dycon.tools.convert.volumes import load_images

    chosen = BENCHMARK.in_order(channels)
    if "dwi" not in chosen:
        raise UserError(f"--channels {','.join(channels)}: the masks lie on the grid of dwi; choose it as well")
    plan = recognise(BENCHMARK, source)
    plan.channel_names = [BENCHMARK.channels[name] for name in chosen]
    plan.labels = {"background": 0, "stroke lesion": 1}
    parameters = {"mask": "msk", "values": {0: 0, 1: 1}, "resampled": ["flair"], "check": True}
    plan.add_cases(plan.files(), ["msk", *chosen], load_images, parameters)
    if "flair" in chosen:
        plan.notes.append("FLAIR is resampled linearly to the grid of DWI by the headers, unregistered")
    return plan


BENCHMARK = Benchmark(
    title="ISLES22",
    about="ISLES 2022: both BIDS layouts",
    entry=r"(?i:sub-strokecase)(?P<id>\d{4})(?i:_ses-\d{4})?",
    case="sub-strokecase{id}",
    example="sub-strokecase0001",
    reference="Hernandez Petzsche et al., Scientific Data 2022; https://isles22.grand-challenge.org",
    layouts={
        "BIDS": (
            r"(?P<case>sub-strokecase\d{4})_ses-\d{4}_(?P<kind>dwi|adc|flair|msk)\.nii(\.gz)?",
            "sub-strokecaseXXXX/.../*_dwi.nii.gz with derivatives/.../*_msk.nii.gz",
        )
    },
    # none of them is quantitative across cases (ADC comes in three units), so nnU-Net's z-score is what they need
    channels={"dwi": "DWI", "adc": "ADC", "flair": "FLAIR"},
    plan=plan,
    published={"isles22": {"5": 10, "10": 20, "20": 40}},
    suggested="isles22-10",
)
