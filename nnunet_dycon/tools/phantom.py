"""A small 3D phantom with lesions, written as a raw nnU-Net dataset with one labelled scan and many unlabelled ones.

It is for trying the package out and for tests, not for claims about real scans. What makes it more than a threshold:

- *Tissue*: a body in air, a brighter layer of fat, one organ of another mean, all with noise that is correlated at
  several scales.
- *Lesions*: level sets of ellipsoids deformed by smooth noise, mottled, bright or subtle.
- *Distractors* as bright as the lesions: vessels (tubes) and nodules (smooth spheres in a dark shell); dark cysts.
- *Scanner*: bias field, blur, noise, gamma, gain and the contrasts of fat and organ differ much from case to case, so
  that a few labelled scans do not cover what occurs while the unlabelled ones do.

Arrays are (Z, Y, X) as SimpleITK has them, voxels 1 mm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from scipy import ndimage

from nnunet_dycon.dataset.raw_dataset import check_new_dataset
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole

FILE_ENDING = ".nii.gz"
MIN_SIZE_VOXELS = 32
MIN_FOREGROUND_VOXELS = 100  # over all lesions of a case
MIN_LESION_VOXELS = 30
POOLS = ("train", "test")

# How hard the task is: ranges, ends included. A small U-Net has to be able to learn it in a few hundred steps.
LESIONS, VESSELS, NODULES, CYSTS = (1, 3), (0, 1), (0, 1), (0, 1)  # a case
LESION_RADIUS_VOXELS = (5.0, 9.0)
CONTRAST = (0.6, 1.2)  # of lesions and bright distractors; tissue is 1, air 0
MOTTLE = 0.35  # standard deviation of a lesion's contrast from voxel to voxel
FAT_CONTRAST = (0.1, 0.5)
FAT_VOXELS = (1.5, 4.0)  # thickness of the layer
TEXTURE_SCALES_VOXELS = (0.8, 2.0, 5.0)


class PhantomCase(NamedTuple):
    """One scan, (Z, Y, X): ``image`` int16, ``segmentation`` uint8 (1 is lesion), ``tissue`` bool (under the fat)."""

    image: np.ndarray
    segmentation: np.ndarray
    tissue: np.ndarray


@dataclass(frozen=True)
class Scanner:
    """What differs between scans though the anatomy does not. Intensities are relative to tissue = 1, air = 0."""

    organ_contrast: float
    fat_contrast: float
    texture: float
    texture_weights: tuple[float, ...]
    bias: float
    blur_voxels: float
    noise: float
    gamma: float
    gain: float


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Draw the scanner of one case."""
    return Scanner(
        organ_contrast=rng.uniform(0.1, 0.5) * rng.choice([-1.0, 1.0]),
        fat_contrast=rng.uniform(*FAT_CONTRAST),
        texture=rng.uniform(0.03, 0.08),
        texture_weights=tuple(rng.dirichlet(np.ones(len(TEXTURE_SCALES_VOXELS)))),
        bias=rng.uniform(0.05, 0.3),
        blur_voxels=rng.uniform(0.3, 0.9),
        noise=rng.uniform(0.02, 0.12),
        gamma=np.exp(rng.uniform(-0.8, 0.8)),
        gain=rng.uniform(200.0, 800.0),
    )


def make_case(seed: int, index: int, *, pool: str = "train", size_voxels: int = 48) -> PhantomCase:
    """Make case ``index`` of a pool. It depends on these arguments alone, not on how many cases there are.

    Raises:
        UserError: a volume too small for its anatomy.
    """
    if size_voxels < MIN_SIZE_VOXELS:
        raise UserError(f"a phantom of {size_voxels} voxels a side is too small: use --size {MIN_SIZE_VOXELS} or more")
    rng = np.random.default_rng([seed, POOLS.index(pool), index])
    shape = (size_voxels,) * 3
    scanner = draw_scanner(rng)
    body, tissue, organ = _draw_anatomy(rng, shape)
    clean = 1.0 + scanner.organ_contrast * organ + scanner.fat_contrast * (body & ~tissue)
    clean = body * (clean + _tissue_texture(rng, shape, scanner))
    depth_voxels = ndimage.distance_transform_edt(tissue)
    clean = _add_distractors(rng, clean, depth_voxels)
    clean, segmentation = _add_lesions(rng, clean, depth_voxels)
    return PhantomCase(_acquire(rng, clean, scanner), segmentation, tissue)


# --- anatomy ---------------------------------------------------------------------------------------------------------


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_voxels: float) -> np.ndarray:
    """Gaussian noise correlated over ``sigma_voxels``, mean 0, standard deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma_voxels, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _coordinates(shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _random_rotation(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((3, 3)))[0]


def _blob(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    centre: np.ndarray,
    radii_voxels: np.ndarray,
    deformation: float,
) -> np.ndarray:
    """Level-set function of a deformed ellipsoid, in about voxels: positive inside, 0 on its surface."""
    scaling = _random_rotation(rng) / radii_voxels[:, None]
    offset = _coordinates(shape) - centre.reshape(3, 1, 1, 1)
    radius = np.sqrt((np.tensordot(scaling, offset, axes=1) ** 2).sum(axis=0))
    mean_radius = float(radii_voxels.mean())
    if deformation > 0:
        radius -= deformation * smooth_noise(rng, shape, max(1.0, 0.45 * mean_radius))
    return mean_radius * (1.0 - radius)


def _largest_component(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return mask if count < 2 else labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def _draw_anatomy(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Body (air around it), the tissue under its layer of fat, and the organ in the tissue."""
    extent = np.asarray(shape, dtype=float)
    centre = extent / 2 + rng.uniform(-0.03, 0.03, 3) * extent
    body = _largest_component(_blob(rng, shape, centre, extent * rng.uniform(0.42, 0.5, 3), 0.04) > 0)
    depth_voxels = ndimage.distance_transform_edt(np.pad(body, 1))[1:-1, 1:-1, 1:-1]
    tissue = _largest_component(depth_voxels > rng.uniform(*FAT_VOXELS))
    organ_centre = centre + rng.uniform(-0.12, 0.12, 3) * extent
    organ = _blob(rng, shape, organ_centre, extent * rng.uniform(0.18, 0.3, 3), 0.12) > 0
    return body, tissue, organ & tissue


def _tissue_texture(rng: np.random.Generator, shape: tuple[int, ...], scanner: Scanner) -> np.ndarray:
    scales = zip(TEXTURE_SCALES_VOXELS, scanner.texture_weights, strict=True)
    texture = sum(np.sqrt(weight) * smooth_noise(rng, shape, sigma) for sigma, weight in scales)
    return scanner.texture * texture


def _random_site(rng: np.random.Generator, depth_voxels: np.ndarray, min_depth_voxels: float) -> np.ndarray:
    """A voxel at least so deep under the surface of the body (or, in a thin body, as deep as can be)."""
    sites = np.argwhere(depth_voxels >= min(min_depth_voxels, 0.8 * depth_voxels.max()))
    return sites[rng.integers(len(sites))].astype(float)


def _cover(distance_voxels: np.ndarray, softness_voxels: float = 0.6) -> np.ndarray:
    """Share of each voxel that lies inside a level set: partial volume at its surface."""
    return np.clip(0.5 + 0.5 * distance_voxels / softness_voxels, 0.0, 1.0)


# --- lesions and what looks like them --------------------------------------------------------------------------------


def _draw_contrast(rng: np.random.Generator) -> float:
    """Contrast of lesions and of bright distractors alike: log-uniform, from subtle to bright."""
    return _log_uniform(rng, *CONTRAST)


def _add_lesions(
    rng: np.random.Generator, clean: np.ndarray, depth_voxels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Blend the lesions in, one more if they are too small together. Returns the image and the mask (uint8)."""
    tissue = depth_voxels > 0
    segmentation = np.zeros(clean.shape, dtype=np.uint8)
    mottle = 1.0 + MOTTLE * smooth_noise(rng, clean.shape, 1.0)
    wanted, made = int(rng.integers(*LESIONS, endpoint=True)), 0
    while made < wanted or segmentation.sum() < MIN_FOREGROUND_VOXELS:
        mean_radius_voxels = _log_uniform(rng, *LESION_RADIUS_VOXELS)
        radii_voxels = mean_radius_voxels * rng.uniform(0.7, 1.4, 3)
        centre = _random_site(rng, depth_voxels, mean_radius_voxels)
        distance = _blob(rng, clean.shape, centre, radii_voxels, rng.uniform(0.1, 0.25))
        mask = _largest_component((distance > 0) & tissue)
        if mask.sum() < MIN_LESION_VOXELS:
            continue
        near = ndimage.binary_dilation(mask) & tissue
        clean = clean + _draw_contrast(rng) * _cover(distance) * near * mottle
        segmentation[mask] = 1
        made += 1
    return clean, segmentation


def _add_distractors(rng: np.random.Generator, clean: np.ndarray, depth_voxels: np.ndarray) -> np.ndarray:
    tissue = depth_voxels > 0
    for add, low, high in ((_add_vessel, *VESSELS), (_add_nodule, *NODULES), (_add_cyst, *CYSTS)):
        for _ in range(rng.integers(low, high, endpoint=True)):
            clean = np.where(tissue, add(rng, clean, depth_voxels), clean)
    return clean


def _add_vessel(rng: np.random.Generator, clean: np.ndarray, depth_voxels: np.ndarray) -> np.ndarray:
    """A bright tube along a quadratic Bezier curve."""
    start, bend, end = (_random_site(rng, depth_voxels, depth) for depth in (1.0, 6.0, 1.0))
    t = np.linspace(0.0, 1.0, 4 * max(clean.shape))[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    off_curve = np.ones(clean.shape, dtype=bool)
    off_curve[tuple(np.rint(curve).astype(int).T)] = False
    distance = rng.uniform(0.7, 1.4) - ndimage.distance_transform_edt(off_curve)
    return clean + _draw_contrast(rng) * _cover(distance)


def _add_nodule(rng: np.random.Generator, clean: np.ndarray, depth_voxels: np.ndarray) -> np.ndarray:
    """A sphere as bright as a lesion, but smooth and in a thin dark shell."""
    radius_voxels = rng.uniform(2.5, 5.0)
    centre = _random_site(rng, depth_voxels, radius_voxels + 2.0)
    distance = _blob(rng, clean.shape, centre, np.full(3, radius_voxels), 0.0)
    shell = _cover(distance + 2.0) - _cover(distance)
    contrast = _draw_contrast(rng)
    inside = _cover(distance)
    smooth = ndimage.gaussian_filter(clean, 2.0)
    return (1 - inside) * clean + inside * (smooth + contrast) - 0.9 * contrast * shell


def _add_cyst(rng: np.random.Generator, clean: np.ndarray, depth_voxels: np.ndarray) -> np.ndarray:
    radii_voxels = rng.uniform(2.0, 4.5, 3)
    centre = _random_site(rng, depth_voxels, float(radii_voxels.max()))
    return clean * (1 - rng.uniform(0.3, 0.7) * _cover(_blob(rng, clean.shape, centre, radii_voxels, 0.08)))


# --- acquisition -----------------------------------------------------------------------------------------------------


def _acquire(rng: np.random.Generator, clean: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Bias field, blur, gamma, noise in two channels (magnitude image: Rician) and gain; int16."""
    field = np.exp(scanner.bias * smooth_noise(rng, clean.shape, 0.35 * clean.shape[0]))
    image = ndimage.gaussian_filter(np.clip(clean, 0.0, None) * field, scanner.blur_voxels) ** scanner.gamma
    real = image + scanner.noise * rng.standard_normal(clean.shape)
    imaginary = scanner.noise * rng.standard_normal(clean.shape)
    return np.clip(np.rint(scanner.gain * np.hypot(real, imaginary)), 0, 32767).astype(np.int16)


# --- dataset ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhantomDataset:
    """What to write. The labelled scans are the first of the training pool, the unlabelled ones those that follow."""

    dataset_id: int
    name: str = "Phantom"
    labeled: int = 1
    unlabeled: int = 27
    test: int = 12
    size_voxels: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if self.labeled < 1:
            raise UserError(f"--labeled {self.labeled}: nnU-Net needs at least one labelled case")
        for option in ("unlabeled", "test", "seed"):
            if getattr(self, option) < 0:
                raise UserError(f"--{option} {getattr(self, option)}: give 0 or more")
        if self.size_voxels < MIN_SIZE_VOXELS:
            raise UserError(f"--size {self.size_voxels}: give {MIN_SIZE_VOXELS} or more voxels a side")

    @property
    def folder_name(self) -> str:
        return f"Dataset{self.dataset_id:03d}_{self.name}"

    def cases(self) -> Iterator[tuple[str, int, str, str | None]]:
        """(pool, index, images folder, labels folder or None) of every case."""
        for index in range(self.labeled + self.unlabeled):
            yield ("train", index, *(("imagesTr", "labelsTr") if index < self.labeled else ("imagesUn", None)))
        for index in range(self.test):
            yield "test", index, "imagesTs", "labelsTs"


def write_dataset(
    spec: PhantomDataset,
    raw_folder: str | os.PathLike,
    progress: Callable[[list], Iterator] = iter,
) -> Path:
    """Write the dataset under ``raw_folder`` (``nnUNet_raw``), whole or not at all, and return its folder.

    ``progress`` wraps the list of cases (tqdm). Masks of unlabelled cases are written nowhere.

    Raises:
        UserError: the dataset ID is taken or none, or the folder cannot be written.
    """
    check_new_dataset(spec.dataset_id, spec.name)
    target = Path(raw_folder) / spec.folder_name
    with whole(target) as partial:
        for folder in ("imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"):
            (partial / folder).mkdir(parents=True)
        for pool, index, images, labels in progress(list(spec.cases())):
            case = make_case(spec.seed, index, pool=pool, size_voxels=spec.size_voxels)
            name = f"{pool}_{index:03d}"
            _write_volume(case.image, partial / images / f"{name}_0000{FILE_ENDING}")
            if labels is not None:
                _write_volume(case.segmentation, partial / labels / f"{name}{FILE_ENDING}")
        _write_dataset_json(spec, partial)
    return target


def _write_volume(array: np.ndarray, path: Path) -> None:
    volume = sitk.GetImageFromArray(array)  # 1 mm, identity direction
    sitk.WriteImage(volume, str(path), useCompression=True, compressionLevel=1)


def _write_dataset_json(spec: PhantomDataset, folder: Path) -> None:
    generate_dataset_json(
        str(folder),
        channel_names={0: "MRI"},
        labels={"background": 0, "lesion": 1},
        num_training_cases=spec.labeled,
        file_ending=FILE_ENDING,
        dataset_name=spec.name,
        description=f"synthetic lesions, seed {spec.seed}, {spec.size_voxels} voxels a side, 1 mm",
        license="none needed: synthetic",
        converted_by="nnunet-dycon phantom",
    )
