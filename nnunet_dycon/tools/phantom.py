"""A small 3D phantom with lesions, written as a raw nnU-Net dataset with one labelled scan and many unlabelled ones.

It is for trying the package out and for tests, not for claims about real scans. What makes it more than a threshold:

- *Tissue*: a body in air, a brighter layer of fat, one organ of another mean, all with noise that is correlated at
  several scales.
- *Lesions*: level sets of ellipsoids deformed by smooth noise, mottled, bright or subtle.
- *Distractors* as bright as the lesions: vessels (tubes) and nodules (smooth spheres in a dark shell); dark cysts.
- *Scanner*: bias field, blur, noise, gamma, gain and the contrasts of fat and organ differ much from case to case, so
  that a few labelled scans do not cover what occurs while the unlabelled ones do.

Arrays are (Z, Y, X) as SimpleITK has them, voxels 1 mm. Tissue has intensity 1, air 0, before the scanner's gain.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from scipy import ndimage
from tqdm import tqdm

from nnunet_dycon.dataset.raw_dataset import check_new_dataset
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole

MIN_SIZE_VOXELS = 32
MIN_FOREGROUND_VOXELS = 100  # over all lesions of a case
MIN_LESION_VOXELS = 30
# How hard the task is: ranges, ends included. A small U-Net has to be able to learn it in a few hundred steps.
LESIONS, DISTRACTORS = (1, 3), (0, 1)  # a case; distractors of each kind
LESION_RADIUS_VOXELS = (5.0, 9.0)
CONTRAST = (0.6, 1.2)  # of lesions and bright distractors
MOTTLE = 0.35  # standard deviation of a lesion's contrast from voxel to voxel
FAT_CONTRAST = (0.1, 0.5)
FAT_VOXELS = (1.5, 4.0)  # thickness of the layer
TEXTURE_SCALES_VOXELS = (0.8, 2.0, 5.0)


class PhantomCase(NamedTuple):
    """One scan, (Z, Y, X): ``image`` int16, ``segmentation`` uint8 (1 is lesion), ``tissue`` bool (under the fat)."""

    image: np.ndarray
    segmentation: np.ndarray
    tissue: np.ndarray


def make_case(seed: int, index: int, *, pool: str = "train", size_voxels: int = 48) -> PhantomCase:
    """Make case ``index`` of a pool, train or test. It depends on these arguments alone, not on the number of cases."""
    rng = np.random.default_rng([seed, ("train", "test").index(pool), index])
    organ_contrast = rng.uniform(0.1, 0.5) * rng.choice([-1.0, 1.0])
    fat_contrast = rng.uniform(*FAT_CONTRAST)
    texture, weights = rng.uniform(0.03, 0.08), rng.dirichlet(np.ones(len(TEXTURE_SCALES_VOXELS)))
    bias, blur_voxels, noise = rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.9), rng.uniform(0.02, 0.12)
    gamma, gain = np.exp(rng.uniform(-0.8, 0.8)), rng.uniform(200.0, 800.0)

    phantom = _Phantom(rng, size_voxels)
    body = phantom.image
    scales = zip(TEXTURE_SCALES_VOXELS, weights, strict=True)
    correlated = sum(np.sqrt(weight) * phantom.noise(sigma) for sigma, weight in scales)
    clean = 1.0 + organ_contrast * phantom.organ + fat_contrast * (body & ~phantom.tissue)
    phantom.image = body * (clean + texture * correlated)
    for add in (phantom.add_vessel, phantom.add_nodule, phantom.add_cyst):
        for _ in range(rng.integers(*DISTRACTORS, endpoint=True)):
            phantom.image = np.where(phantom.tissue, add(), phantom.image)
    segmentation = phantom.add_lesions()

    field = np.exp(bias * phantom.noise(0.35 * size_voxels))
    image = ndimage.gaussian_filter(np.clip(phantom.image, 0.0, None) * field, blur_voxels) ** gamma
    real, imaginary = (noise * rng.standard_normal(image.shape) for _ in range(2))  # a magnitude image: Rician noise
    image = np.clip(np.rint(gain * np.hypot(image + real, imaginary)), 0, 32767).astype(np.int16)
    return PhantomCase(image, segmentation, phantom.tissue)


class _Phantom:
    """A body in air, whose ``tissue``, an ``organ`` in it, lies under fat; to its ``image`` more is added."""

    def __init__(self, rng: np.random.Generator, size_voxels: int) -> None:
        self._rng = rng
        self._shape = (size_voxels,) * 3
        self._centre = np.full(3, size_voxels / 2) + rng.uniform(-0.03, 0.03, 3) * size_voxels
        radii_voxels = size_voxels * rng.uniform(0.42, 0.5, 3)
        self.image = _largest_component(self._blob(self._centre, radii_voxels, 0.04) > 0)
        depth_voxels = ndimage.distance_transform_edt(np.pad(self.image, 1))[1:-1, 1:-1, 1:-1]
        self.tissue = _largest_component(depth_voxels > rng.uniform(*FAT_VOXELS))
        self.depth_voxels = ndimage.distance_transform_edt(self.tissue)  # 0 outside
        centre = self._centre + rng.uniform(-0.12, 0.12, 3) * self._shape
        self.organ = (self._blob(centre, size_voxels * rng.uniform(0.18, 0.3, 3), 0.12) > 0) & self.tissue

    def noise(self, sigma_voxels: float) -> np.ndarray:
        """Gaussian noise correlated over so many voxels, mean 0, standard deviation 1."""
        white = self._rng.standard_normal(self._shape, dtype=np.float32)
        noise = ndimage.gaussian_filter(white, sigma_voxels, mode="wrap")
        return (noise - noise.mean()) / noise.std()

    def add_vessel(self) -> np.ndarray:
        """A bright tube along a quadratic Bezier curve."""
        start, bend, end = (self._site(depth) for depth in (1.0, 6.0, 1.0))
        t = np.linspace(0.0, 1.0, 4 * self._shape[0])[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        off_curve = np.ones(self._shape, dtype=bool)
        off_curve[tuple(np.rint(curve).astype(int).T)] = False
        distance = self._rng.uniform(0.7, 1.4) - ndimage.distance_transform_edt(off_curve)
        return self.image + self._log_uniform(*CONTRAST) * _cover(distance)

    def add_nodule(self) -> np.ndarray:
        """A sphere as bright as a lesion, but smooth and in a thin dark shell."""
        radius_voxels = self._rng.uniform(2.5, 5.0)
        distance = self._blob(self._site(radius_voxels + 2.0), np.full(3, radius_voxels), 0.0)
        contrast, inside = self._log_uniform(*CONTRAST), _cover(distance)
        smooth = ndimage.gaussian_filter(self.image, 2.0)
        shell = _cover(distance + 2.0) - inside
        return (1 - inside) * self.image + inside * (smooth + contrast) - 0.9 * contrast * shell

    def add_cyst(self) -> np.ndarray:
        radii_voxels = self._rng.uniform(2.0, 4.5, 3)
        centre = self._site(float(radii_voxels.max()))
        return self.image * (1 - self._rng.uniform(0.3, 0.7) * _cover(self._blob(centre, radii_voxels, 0.08)))

    def add_lesions(self) -> np.ndarray:
        """Blend lesions into the image, one more if they are too small together; their mask (uint8)."""
        segmentation = np.zeros(self._shape, dtype=np.uint8)
        mottle = 1.0 + MOTTLE * self.noise(1.0)
        wanted, made = int(self._rng.integers(*LESIONS, endpoint=True)), 0
        while made < wanted or segmentation.sum() < MIN_FOREGROUND_VOXELS:
            radius_voxels = self._log_uniform(*LESION_RADIUS_VOXELS)
            radii_voxels = radius_voxels * self._rng.uniform(0.7, 1.4, 3)
            distance = self._blob(self._site(radius_voxels), radii_voxels, self._rng.uniform(0.1, 0.25))
            mask = _largest_component((distance > 0) & self.tissue)
            if mask.sum() >= MIN_LESION_VOXELS:
                near = ndimage.binary_dilation(mask) & self.tissue
                self.image = self.image + self._log_uniform(*CONTRAST) * _cover(distance) * near * mottle
                segmentation[mask] = 1
                made += 1
        return segmentation

    def _blob(self, centre: np.ndarray, radii_voxels: np.ndarray, deformation: float) -> np.ndarray:
        """Level-set function of a deformed ellipsoid, in about voxels: positive inside, 0 on its surface."""
        rotation = np.linalg.qr(self._rng.standard_normal((3, 3)))[0]
        offset = np.indices(self._shape, dtype=np.float32) - centre.reshape(3, 1, 1, 1)
        scaled = np.tensordot(rotation / radii_voxels[:, None], offset, axes=1)
        radius, mean_radius = np.sqrt((scaled**2).sum(axis=0)), float(radii_voxels.mean())
        if deformation > 0:
            radius -= deformation * self.noise(max(1.0, 0.45 * mean_radius))
        return mean_radius * (1.0 - radius)

    def _site(self, min_depth_voxels: float) -> np.ndarray:
        """A voxel at least so deep in the tissue (or, in a thin body, as deep as can be)."""
        sites = np.argwhere(self.depth_voxels >= min(min_depth_voxels, 0.8 * self.depth_voxels.max()))
        return sites[self._rng.integers(len(sites))].astype(float)

    def _log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self._rng.uniform(np.log(low), np.log(high))))


def _largest_component(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return mask if count < 2 else labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def _cover(distance_voxels: np.ndarray, softness_voxels: float = 0.6) -> np.ndarray:
    """Share of each voxel that lies inside a level set: partial volume at its surface."""
    return np.clip(0.5 + 0.5 * distance_voxels / softness_voxels, 0.0, 1.0)


def write_dataset(
    raw_folder: Path,
    dataset_id: int,
    *,
    name: str = "Phantom",
    labeled: int = 1,
    unlabeled: int = 27,
    test: int = 12,
    size_voxels: int = 48,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write a dataset under ``nnUNet_raw``, whole or not at all, and return its folder.

    The labelled scans are the first of the training pool, the unlabelled ones, whose masks are written nowhere, those
    that follow.

    Raises:
        UserError: an option is out of range, the ID is taken, or the folder cannot be written.
    """
    for option, value, least in (
        ("labeled", labeled, 1), ("unlabeled", unlabeled, 0), ("test", test, 0), ("seed", seed, 0),
        ("size", size_voxels, MIN_SIZE_VOXELS),
    ):  # fmt: skip
        if value < least:
            raise UserError(f"--{option} {value}: give {least} or more")
    check_new_dataset(dataset_id, name)
    roles = [("train", "imagesTr", "labelsTr")] * labeled + [("train", "imagesUn", "")] * unlabeled
    cases = [*enumerate(roles), *enumerate([("test", "imagesTs", "labelsTs")] * test)]
    target = raw_folder / f"Dataset{dataset_id:03d}_{name}"
    with whole(target) as folder:
        for subfolder in ("imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"):
            (folder / subfolder).mkdir(parents=True)
        for index, (pool, images, labels) in tqdm(cases, desc="phantom", unit="scan", disable=not progress):
            case = make_case(seed, index, pool=pool, size_voxels=size_voxels)
            _write_volume(case.image, folder / images / f"{pool}_{index:03d}_0000.nii.gz")
            if labels:
                _write_volume(case.segmentation, folder / labels / f"{pool}_{index:03d}.nii.gz")
        generate_dataset_json(
            str(folder), {0: "MRI"}, {"background": 0, "lesion": 1}, labeled, ".nii.gz", dataset_name=name,
            description=f"synthetic lesions, seed {seed}, {size_voxels} voxels a side, 1 mm",
            license="none needed: synthetic", converted_by="nnunet-dycon phantom",
        )  # fmt: skip
    return target


def _write_volume(array: np.ndarray, path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=True, compressionLevel=1)
