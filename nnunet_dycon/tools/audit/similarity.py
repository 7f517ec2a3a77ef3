"""How alike two scans are, whatever their crop, spacing, noise and intensity scale.

A scan is reduced to a volume of at most about 96 voxels along its longest axis, isotropic where it can be, and
band-passed, so that structures of a few voxels count and neither brightness nor bias fields do. The shift between
two scans is where their cross-correlation peaks; their likeness is Pearson's correlation in the overlap. A mirrored
copy is not recognised.

Measured on the 80 LA scans (1.25 mm): the near-duplicate pair has 0.99, the next pairs 0.83 and 0.73 (at 2.5 mm: 0.99,
0.92 and 0.85). Copies of 14 scans that were cropped by 10 % a side, resampled to 1.6 mm, made noisy (30 % of the
standard deviation) or brighter to one side, or passed through a square root, keep at least 0.96. Copies that were
clipped at the 30th and 90th percentile (0.92) or interpolated halfway between voxels (0.84) may be missed. A brain
against itself (ISLES, BraTS), warped by a smooth random field of 4 mm rms, has 0.73 to 0.89, a sign that registered
brains of different people raise no false alarm; no dataset of such brains was at hand to measure it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage
from skimage.filters import difference_of_gaussians
from skimage.measure import block_reduce
from tqdm import tqdm

# Likeness from which two scans are called nearly the same; see the module's text.
NEAR_DUPLICATE_CORRELATION = 0.95
FINE_VOXELS = 96  # along the longest axis of a typical scan
_COARSE_FACTOR = 3
_COARSE_CANDIDATE = 0.5
_CANDIDATES_A_SCAN = 3
_WORTH_REFINING = 0.6  # correlation at whole voxels; a fraction of a voxel is known to add up to 0.2
_MIN_OVERLAP = 0.5  # of the smaller scan's voxels


@dataclass(frozen=True)
class Signature:
    """Band-passed small versions of a scan, (z, y, x), zero mean: ``fine`` float16, ``coarse`` float32."""

    fine: np.ndarray
    coarse: np.ndarray


def signature_of(volume: np.ndarray, spacing_mm: Sequence[float], target_mm: float) -> Signature | None:
    """Signature of a finite volume (z, y, x), or None where it is constant.

    ``target_mm`` is the voxel size of ``fine``, the same for all scans that are compared.
    """
    small = _reduced(volume, spacing_mm, target_mm)
    coarse = _reduced(small, (target_mm,) * 3, _COARSE_FACTOR * target_mm)
    fine, coarse = (_standardised(difference_of_gaussians(i, 0.7, 2, mode="reflect")) for i in (small, coarse))
    if not fine.any() or not coarse.any():
        return None
    return Signature(fine.astype(np.float16), coarse)


def candidate_pairs(
    signatures: Sequence[Signature], *, num_threads: int = 1, progress: bool = False
) -> list[tuple[int, int]]:
    """Pairs that are alike on the coarse grid: each scan with the few most similar ones, i < j."""
    if len(signatures) < 2:
        return []
    shapes = np.array([signature.coarse.shape for signature in signatures])
    padded = [fft.next_fast_len(int(1.5 * n), real=True) for n in shapes.max(axis=0)]
    spectra = np.stack([_spectrum(signature.coarse, padded) for signature in signatures])
    alike = np.zeros((len(signatures), len(signatures)), np.float32)
    for i, spectrum in enumerate(tqdm(spectra, desc="comparing all scans", disable=not progress)):
        for j in range(i + 1, len(spectra), 64):
            cross = spectra[j : j + 64] * spectrum.conj()
            peaks = fft.irfftn(cross, padded, axes=(1, 2, 3), workers=num_threads).max(axis=(1, 2, 3))
            alike[i, j : j + 64] = alike[j : j + 64, i] = peaks
    nearest = enumerate(np.argsort(-alike)[:, :_CANDIDATES_A_SCAN].tolist())
    return sorted({(min(i, j), max(i, j)) for i, row in nearest for j in row if alike[i, j] >= _COARSE_CANDIDATE})


def aligned_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two fine signatures in their overlap at the best shift; if it is high, to a fraction of a voxel.

    Returns:
        -1 to 1; 0 where the best shift leaves less than half of the smaller scan.
    """
    one, other = one.astype(np.float32), other.astype(np.float32)
    padded = [fft.next_fast_len(int(1.5 * max(n)), real=True) for n in zip(one.shape, other.shape, strict=True)]
    cross = fft.irfftn(_spectrum(one, padded) * _spectrum(other, padded).conj(), padded)
    peak = np.unravel_index(cross.argmax(), cross.shape)
    shift = [int(i) if i < n / 2 else int(i) - n for i, n in zip(peak, padded, strict=True)]
    a, b = _overlap(one, other, shift)
    if a.size < _MIN_OVERLAP * min(one.size, other.size):
        return 0.0
    rough = _pearson(a, b)
    if rough < _WORTH_REFINING:
        return rough
    moved = ndimage.shift(other, _subvoxel_offset(cross, peak), order=3, mode="nearest")
    return max(rough, _pearson(*_overlap(one, moved, shift)))


def _reduced(volume: np.ndarray, spacing_mm: Sequence[float], target_mm: float) -> np.ndarray:
    """Block means, then linear interpolation for the rest; axes of one voxel stay."""
    axes = list(zip(spacing_mm, volume.shape, strict=True))
    blocks = tuple(min(n, max(1, int(target_mm / s))) if n > 1 else 1 for s, n in axes)
    cropped = volume[tuple(slice(n // k * k) for n, k in zip(volume.shape, blocks, strict=True))]
    means = block_reduce(cropped, blocks, np.mean, func_kwargs={"dtype": np.float32})
    # an output voxel is so many input voxels wide
    steps = [target_mm / (s * k) if n > 1 else 1.0 for s, k, n in zip(spacing_mm, blocks, means.shape, strict=True)]
    shape = tuple(max(1, int(n / step)) for n, step in zip(means.shape, steps, strict=True))
    offset = [0.5 * step - 0.5 for step in steps]
    return ndimage.affine_transform(means, np.asarray(steps), offset, shape, order=1, mode="nearest")


def _standardised(volume: np.ndarray) -> np.ndarray:
    centred = volume - volume.mean()
    spread = centred.std()
    return centred / spread if spread > 0 else np.zeros_like(centred)


def _spectrum(volume: np.ndarray, padded: Sequence[int]) -> np.ndarray:
    """Transform of a volume of unit length, so that cross-correlations are at most 1."""
    return fft.rfftn(volume / np.linalg.norm(volume), padded).astype(np.complex64)


def _subvoxel_offset(cross: np.ndarray, peak: Sequence[np.intp]) -> list[float]:
    """Where a parabola through the peak and its two neighbours has its vertex, for each axis (circular)."""
    offsets = []
    for axis, n in enumerate(cross.shape):
        line = cross[tuple(slice(None) if i == axis else position for i, position in enumerate(peak))]
        before, at, after = line[(peak[axis] + np.array([-1, 0, 1])) % n]
        curvature = before - 2 * at + after
        offsets.append(float(0.5 * (before - after) / curvature) if n > 2 and curvature < 0 else 0.0)
    return offsets


def _overlap(one: np.ndarray, other: np.ndarray, shift: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Voxels that two volumes share if ``other`` starts at ``shift`` in ``one``."""
    spans = [(max(0, s), min(n, m + s)) for s, n, m in zip(shift, one.shape, other.shape, strict=True)]
    in_one = tuple(slice(low, high) for low, high in spans)
    in_other = tuple(slice(low - s, high - s) for (low, high), s in zip(spans, shift, strict=True))
    return one[in_one], other[in_other]


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / norms if norms > 0 else 0.0
