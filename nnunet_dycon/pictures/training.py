"""Pictures of a training: how prediction and uncertainty of two fixed crops change with the epochs."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from matplotlib.figure import Figure
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import nn

from nnunet_dycon.data.unlabeled_dataset import network_input, nnUNetDatasetUnlabeled
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.losses import entropy
from nnunet_dycon.losses.patches import predicted_labels
from nnunet_dycon.pictures.canvas import Panel, Slice, save_figure, shown_classes, slices_figure
from nnunet_dycon.pictures.overlay import spread

FOLDER = "uncertainty"
FILM_STRIP_EPOCHS = 8
_SIZES: Any = {"panel_inches": 2.2, "right": 0.75}
# A full disk, a damaged or missing file, the accelerator's memory, arrays that do not fit: no reason to stop a training
FAILURES = (
    OSError, RuntimeError, ValueError, LookupError, TypeError, EOFError, MemoryError, ArithmeticError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Crop(NamedTuple):
    """The centre of a preprocessed case, as large as a patch.

    The image is (channels, X, Y[, Z]), float32, on the CPU; the reference has labels and the shape of a channel, it
    is None for an unlabelled case; ``start`` is the place of the first slice in the case.
    """

    title: str
    image: torch.Tensor
    reference: np.ndarray | None
    start: int = 0


def centre_crop(title: str, image: Any, reference: Any | None, patch_size: Sequence[int]) -> Crop:
    """Cut the centre out of a preprocessed case; for two-dimensional patches out of its middle slice.

    Image (channels, X, Y, Z) and reference (1, X, Y, Z) are arrays, or files that are read where they are sliced.
    """
    dropped = len(image.shape) - 1 - len(patch_size)
    size = (1,) * dropped + tuple(patch_size)
    start = [(extent - length) // 2 for extent, length in zip(image.shape[1:], size, strict=True)]
    box = [[i, i + length] for i, length in zip(start, size, strict=True)]
    drop = (slice(None), *[0] * dropped)
    labels = None if reference is None else crop_and_pad_nd(reference, box, -1)[drop][0]
    return Crop(title, torch.from_numpy(crop_and_pad_nd(image, box, 0)[drop]).float().contiguous(), labels, start[0])


def fixed_crops(
    unlabeled: nnUNetDatasetUnlabeled,
    validation: nnUNetBaseDataset,
    patch_size: Sequence[int],
    foreground_labels: Sequence[int],
    trained: Collection[str] = (),
) -> list[Crop]:
    """The first unlabelled case, of which only the image is read, and the first validation case.

    A validation case that is also among those ``trained`` on is called so.
    """
    name = unlabeled.identifiers[0]
    image = network_input(unlabeled.load_image(name), unlabeled.load_previous(name), foreground_labels)
    crops = [centre_crop(f"unlabelled\n{name}", image, None, patch_size)]
    if validation.identifiers:
        name = sorted(validation.identifiers)[0]
        image, labels, previous, _ = validation.load_case(name)
        image = network_input(image, previous, foreground_labels)
        role = "trained on" if name in trained else "validation"
        crop = centre_crop(f"{role}\n{name}", image, labels, patch_size)
        assert crop.reference is not None
        annotated = np.isin(crop.reference, foreground_labels)  # not ignored
        crops.append(crop._replace(reference=np.where(annotated, crop.reference, 0)))
    return crops


class Reading(NamedTuple):
    """How logits are read: ``class_order`` is the label of each region, ``autocast`` makes the network's context."""

    nonlinearity: str
    class_order: Sequence[int] | None
    device: torch.device
    autocast: Callable[[], AbstractContextManager]


@torch.inference_mode()
def view_of(crop: Crop, network: nn.Module, how: Reading, spacing: Sequence[float]) -> Slice:
    """Predict a crop and keep one slice: the middle one, or the one with most reference foreground.

    The network returns logits (1, C, X, Y[, Z]), or a list of them with full resolution first; ``spacing`` is of the
    crop's axes, in mm.
    """
    training = network.training
    network.eval()  # dropout would draw random numbers that the training is to draw
    try:
        with how.autocast():
            outputs = network(crop.image[None].to(how.device))
    finally:
        network.train(training)
    logits = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    labels = predicted_labels(logits, class_order=how.class_order)[0].cpu().numpy()
    uncertainty = entropy(logits, how.nonlinearity)[0].cpu().numpy()
    shown, place = 0, cast(Any, ...)
    if labels.ndim == 3:
        foreground = np.zeros(1) if crop.reference is None else (crop.reference > 0).sum(axis=(1, 2))
        shown = place = int(foreground.argmax()) if foreground.any() else len(labels) // 2
    return Slice(
        title=f"{crop.title}\nslice {crop.start + shown} of axis 0",
        image=crop.image[0].numpy()[place],
        prediction=labels[place].astype(np.int16),
        entropy=uncertainty[place].astype(np.float32),
        mean_entropy=float(uncertainty.mean()),
        aspect=float(spacing[-2] / spacing[-1]),
        reference=None if crop.reference is None else crop.reference[place].astype(np.int16),
    )


@dataclass(frozen=True)
class Picture:
    """The views of an epoch, and the largest entropy that a voxel can have, in nats."""

    epoch: int
    highest_entropy: float
    views: tuple[Slice, ...]

    @property
    def titles(self) -> list[str]:
        """What the views are of."""
        return [view.title for view in self.views]

    def save(self, file: Path) -> None:
        """Write everything into ``file`` (.npz), whole or not at all."""
        arrays = {"epoch": np.asarray(self.epoch), "highest_entropy": np.asarray(self.highest_entropy)}
        for index, view in enumerate(self.views):
            values = {i.name: getattr(view, i.name) for i in fields(view)}
            arrays |= {f"{index}_{name}": np.asarray(i) for name, i in values.items() if i is not None}
        with whole(file) as partial:
            np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]  # numpy's stub takes no dict of arrays

    @classmethod
    def load(cls, file: Path) -> Picture:
        """What ``save`` has written."""
        with np.load(file, allow_pickle=False) as arrays:
            count = len([key for key in arrays if key.endswith("_title")])
            views = [{i.name: arrays.get(f"{index}_{i.name}") for i in fields(Slice)} for index in range(count)]
            for values in views:
                values |= {"title": str(values["title"])}
                values |= {name: float(values[name]) for name in ("mean_entropy", "aspect")}
            return cls(int(arrays["epoch"]), float(arrays["highest_entropy"]), tuple(Slice(**i) for i in views))


def views_figure(views: Sequence[Slice], highest_entropy: float, title: str, *, dpi: int = 110) -> Figure:
    """A row a view: image, prediction on the image, entropy map (black to bright for ``highest_entropy`` nats)."""
    classes, rows = shown_classes(views), []
    for view in views:
        panels = [Panel(view), Panel(view, classes), _entropy_panel(view, highest_entropy)]
        rows.append((view.title.splitlines(), panels))
    return slices_figure(rows, ("image", "prediction", "entropy"), [*classes], **_SIZES, dpi=dpi, note=title)


def _entropy_panel(view: Slice, highest_entropy: float) -> Panel:
    return Panel(view, None, f"mean {view.mean_entropy:.3f}", highest_entropy)


def write_picture(folder: Path, picture: Picture) -> None:
    """Write ``epoch_XXXX.png``, and beside it the arrays it shows, from which the film strip is made.

    Pictures of later epochs are an earlier training's and are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in [*folder.glob("epoch_*.npz"), *folder.glob("epoch_*.png")]:
        if int(file.stem.removeprefix("epoch_")) > picture.epoch:
            file.unlink()
    stem = f"epoch_{picture.epoch:04d}"
    picture.save(folder / f"{stem}.npz")
    figure = views_figure(picture.views, picture.highest_entropy, f"epoch {picture.epoch}; mean entropy of the crop")
    save_figure(figure, folder / f"{stem}.png")


def film_strip_figure(pictures: Sequence[Picture], *, dpi: int = 110) -> Figure:
    """Two rows a case, prediction and entropy map; a column for each of at most ``FILM_STRIP_EPOCHS``.

    A ValueError says that there is no picture, or that they are of different cases.
    """
    if not pictures or any(i.titles != pictures[-1].titles for i in pictures):
        raise ValueError("no picture, or pictures of different cases, do not make a film strip")
    pictures = spread(pictures, FILM_STRIP_EPOCHS)
    columns, rows = [picture.views for picture in pictures], []
    classes = shown_classes(chain(*columns))
    for views in zip(*columns, strict=True):
        rows.append(([*views[0].title.splitlines(), "prediction"], [Panel(view, classes) for view in views]))
        maps = [_entropy_panel(view, i.highest_entropy) for view, i in zip(views, pictures, strict=True)]
        rows.append((["entropy"], maps))
    return slices_figure(rows, [f"epoch {i.epoch}" for i in pictures], [*classes], **_SIZES, dpi=dpi)


def write_film_strip(folder: Path) -> None:
    """Write ``film_strip.png`` of the pictures in the folder, if there are any, of those before a restart as well."""
    if pictures := load_pictures(folder):
        save_figure(film_strip_figure(pictures), folder / "film_strip.png")


def load_pictures(folder: Path) -> list[Picture]:
    """All pictures of a training that show the same cases as its last one, in order of the epochs."""
    pictures = sorted((Picture.load(file) for file in folder.glob("epoch_*.npz")), key=lambda i: i.epoch)
    return [i for i in pictures if i.titles == pictures[-1].titles]


@dataclass
class TrainingPictures:
    """Draws a fixed unlabelled and a fixed validation case every few epochs, and a film strip at the end.

    Nothing of the training depends on it: the random state is left alone, and a failing picture is a line in the log.
    ``every_epochs`` of 0 draws nothing; ``crops`` is called for every picture, so it had better be cached; ``network``
    is the plain one that predicts.
    """

    folder: Path
    every_epochs: int
    crops: Callable[[], list[Crop]]
    network: Callable[[], nn.Module]
    how: Reading
    spacing: Sequence[float]
    highest_entropy: float
    log: Callable[[str], None]

    def after_epoch(self, epoch: int, *, is_last: bool) -> None:
        """Draw a picture, if it is time for one."""
        if self.every_epochs > 0 and (epoch % self.every_epochs == 0 or is_last):
            self._try(f"picture of epoch {epoch}", lambda: write_picture(self.folder, self.picture(epoch)))

    def after_training(self) -> None:
        """Put all pictures into a film strip."""
        if self.every_epochs > 0:
            self._try("film strip", lambda: write_film_strip(self.folder))

    def picture(self, epoch: int) -> Picture:
        """What the network makes of the crops now."""
        network = self.network()
        views = [view_of(crop, network, self.how, self.spacing) for crop in self.crops()]
        return Picture(epoch, self.highest_entropy, tuple(views))

    def _try(self, what: str, draw: Callable[[], object]) -> None:
        try:
            draw()
        except FAILURES as error:
            self.log(
                f"WARNING: no uncertainty {what}: {type(error).__name__}: {error}. The training is not affected; "
                "nnUNet_dycon=picture_every_epochs=0 switches these pictures off."
            )
