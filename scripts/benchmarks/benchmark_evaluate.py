"""Speed of the metrics against MedPy's hd95 + asd on full-size volumes, and whether the numbers are equal.

    python scripts/benchmarks/benchmark_evaluate.py [--la-h5 FOLDER] [--repeats N]

The shapes are made here: an atrium in an LA volume, a pancreas in a large CT, and the atrium with false positives all
over the volume, for which the joint bounding box is the whole image. ``--la-h5`` adds real atria, in the crop in which
they are distributed and padded to their full volume. Timed are MedPy's ``hd95`` and ``asd`` with spacing against
``segmentation_metrics`` (Dice, Jaccard, HD95 and pooled ASD). "difference" is the larger one of HD95 and of the ASD
from prediction to reference, the direction that MedPy's asd takes. Times are processor seconds on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from medpy.metric import binary as medpy
from scipy.ndimage import gaussian_filter

from nnunet_dycon.tools.evaluate.metrics import segmentation_metrics, surface_distances

LA_SHAPE, LA_SPACING_MM = (88, 576, 576), (0.625, 0.625, 0.625)
CT_SHAPE, CT_SPACING_MM = (300, 512, 512), (1.0, 0.8, 0.8)


class Pair(NamedTuple):
    """Two masks (z, y, x) to evaluate."""

    name: str
    prediction: np.ndarray
    reference: np.ndarray
    spacing_mm: tuple[float, float, float]


def main() -> None:
    """Print one line a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--la-h5", type=Path, help="folder with mri_norm2.h5 files, searched recursively")
    parser.add_argument("--repeats", type=int, default=1, help="the fastest of so many runs counts (both sides)")
    args = parser.parse_args()
    print(f"{'pair':34}{'volume z,y,x':>16}{'HD95':>8}{'ASD':>7}{'MedPy s':>10}{'ours s':>9}{'faster':>9}  difference")
    for pair in synthetic_pairs():
        print(benchmark(pair, args.repeats), flush=True)
    for pair in real_pairs(args.la_h5) if args.la_h5 else ():
        print(benchmark(pair, args.repeats), flush=True)


def benchmark(pair: Pair, repeats: int) -> str:
    """One line of the table."""
    name, prediction, reference, spacing_mm = pair
    ours_s, values = fastest(lambda: segmentation_metrics(prediction, reference, spacing_mm), repeats)
    medpy_s, (hd95_mm, asd_mm) = fastest(
        lambda: (medpy.hd95(prediction, reference, spacing_mm), medpy.asd(prediction, reference, spacing_mm)), repeats
    )
    directed_asd_mm = surface_distances(prediction, reference, spacing_mm)[0].mean()
    difference_mm = max(abs(values["HD95_mm"] - hd95_mm), abs(directed_asd_mm - asd_mm))
    shape = ",".join(map(str, reference.shape))
    return (
        f"{name:34}{shape:>16}{hd95_mm:8.2f}{asd_mm:7.2f}{medpy_s:10.2f}{ours_s:9.3f}{medpy_s / ours_s:8.0f}x"
        f"  {difference_mm:.0e} mm"
    )


def fastest(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest processor time in seconds (both sides run on one core), and the result."""
    times_s = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times_s.append(time.process_time() - start)
    return min(times_s), result


def synthetic_pairs() -> Iterator[Pair]:
    """Organs of real size (an atrium in LA: about 55 x 95 x 160 voxels) and predictions a few voxels off."""
    atrium = place(organ((56, 96, 160), seed=0), LA_SHAPE), place(organ((56, 96, 160), seed=1), LA_SHAPE)
    yield Pair("atrium", *atrium, LA_SPACING_MM)
    speckled = atrium[0] | (np.random.default_rng(2).random(LA_SHAPE) < 1e-4)
    yield Pair("atrium, false positives all over", speckled, atrium[1], LA_SPACING_MM)
    pancreas = place(organ((90, 110, 220), seed=3), CT_SHAPE), place(organ((90, 110, 220), seed=4), CT_SHAPE)
    yield Pair("pancreas", *pancreas, CT_SPACING_MM)


def organ(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """An ellipsoid that fills a box, its surface roughened by smooth noise."""
    axes = np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in shape), indexing="ij", sparse=True)
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 5)
    return sum(i**2 for i in axes) + 0.15 * noise / noise.std() < 1


def place(mask: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The mask in the middle of a volume."""
    volume = np.zeros(shape, dtype=bool)
    volume[tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(shape, mask.shape, strict=True))] = mask
    return volume


def real_pairs(folder: Path) -> Iterator[Pair]:
    """Labels of the h5 distribution, with smooth versions moved by 2 voxels as predictions."""
    for path in sorted(folder.rglob("mri_norm2.h5")):
        with h5py.File(path) as file:
            reference = np.ascontiguousarray(np.asarray(file["label"]).T).astype(bool)
        prediction = np.roll(gaussian_filter(reference.astype(np.float32), 3) > 0.4, (1, 2, 2), axis=(0, 1, 2))
        case = path.parent.name[:10]
        yield Pair(f"{case}, as distributed", prediction, reference, LA_SPACING_MM)
        yield Pair(f"{case}, full", place(prediction, LA_SHAPE), place(reference, LA_SHAPE), LA_SPACING_MM)


if __name__ == "__main__":
    main()
