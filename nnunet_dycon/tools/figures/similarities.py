"""Do the patch embeddings that FeCL works on tell the classes apart, in an untrained network and in the trained one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import nn

from nnunet_dycon.losses.patches import UNLABELED, patch_labels, regions_to_labels
from nnunet_dycon.models.trained_model import TrainedModel
from nnunet_dycon.pictures.style import BLUE, VERMILION, empty_figure
from nnunet_dycon.tools.figures.trained_run import TrainedRun
from nnunet_dycon.trainers.dycon import DyCONSettings
from nnunet_dycon.training.embeddings import Branch, EncoderTap, ProjectionHead, choose_stage, skip_shapes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 80


@dataclass(frozen=True)
class Similarities:
    """Histograms of cosine similarities over ``BINS`` equal bins from -1 to 1: pairs of one class, and of two."""

    positive: np.ndarray
    negative: np.ndarray

    def separation(self) -> float:
        """Probability that a pair of one class is more similar than a pair of two, ties counted half; 0.5 is chance."""
        positive, negative = (i / i.sum() for i in (self.positive, self.negative))
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum())


def pair_similarities(embeddings: torch.Tensor, labels: torch.Tensor) -> Similarities:
    """Similarities within each crop, of FeCL's positive and negative pairs.

    Args:
        embeddings: (B, N, D), unit length along D.
        labels: (B, N); patches with -1 take no part.
    """
    edges = np.linspace(-1, 1, BINS + 1)
    positive, negative = np.zeros(BINS), np.zeros(BINS)
    for crop, classes in zip(embeddings, labels, strict=True):
        z, classes = crop[classes >= 0], classes[classes >= 0]
        similarity = (z @ z.T).clamp(-1, 1)
        same = classes[:, None] == classes[None]
        pairs = torch.triu(torch.ones_like(same), diagonal=1)
        positive += np.histogram(similarity[same & pairs].numpy(), edges)[0]
        negative += np.histogram(similarity[~same & pairs].numpy(), edges)[0]
    return Similarities(positive, negative)


def similarities(
    run: TrainedRun, model: TrainedModel, cases: Sequence[tuple[Sequence[Path], Path]]
) -> tuple[Similarities, Similarities] | None:
    """Similarities with an untrained network and with the trained student.

    The untrained network has this training's architecture and fresh weights of seed 0; the weights that the training
    itself began with are not stored.

    Args:
        run: the finished training.
        model: the same training as nnU-Net's predictor.
        cases: channel files and reference mask of each case. A crop of the plan's patch size around the reference's
            foreground is used, with patch classes from the reference.

    Returns:
        Untrained and trained; None if the training had no projection head, or no case has patches of two classes.
    """
    state, settings = run.semi_supervised, run.settings
    if state is None or settings is None or state["head_weights"] is None:
        return None
    configuration = model.predictor.configuration_manager
    crops = [_crop(model, files, reference) for files, reference in cases]
    images, references = torch.stack([i for i, _ in crops]), torch.stack([i for _, i in crops])
    results = []
    for weights in (None, state):
        network = _network(model, None if weights is None else weights["student_weights"])
        shapes = skip_shapes(network, images.shape[1], configuration.patch_size)
        stage = choose_stage(shapes, settings.max_patches)
        channels, *grid = shapes[stage]
        head = _head(channels, len(grid), None if weights is None else weights["head_weights"])
        labels = _patch_classes(references, grid, settings, model.predictor.label_manager)
        results.append(pair_similarities(_embed(Branch(network, head, EncoderTap(network, stage)), images), labels))
    if any(not i.positive.sum() or not i.negative.sum() for i in results):
        return None
    return results[0], results[1]


def similarity_figure(untrained: Similarities, trained: Similarities) -> Figure:
    """Two panels with the distributions of both kinds of pairs."""
    figure = empty_figure(2.5)
    axes = figure.subplots(1, 2, sharex=True)
    for axis, title, values in zip(axes, ("untrained network", "trained network"), (untrained, trained), strict=True):
        _draw(axis, values)
        axis.set_title(f"{title} (AUC {values.separation():.2f})")
        axis.set_xlabel("cosine similarity of two patches")
        axis.set(xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1))
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("density")
    axes[0].legend(loc="upper left")
    return figure


def _draw(axis: Axes, values: Similarities) -> None:
    edges = np.linspace(-1, 1, BINS + 1)
    for name, counts, colour, hatch in (
        ("one class (positive)", values.positive, BLUE, None),
        ("two classes (negative)", values.negative, VERMILION, "////"),
    ):
        density = counts / counts.sum() * BINS / 2
        axis.stairs(density, edges, color=colour, linewidth=1.2)
        options: dict[str, Any] = {"hatch": hatch, "facecolor": "none"} if hatch else {"facecolor": colour}
        axis.stairs(density, edges, fill=True, edgecolor=colour, alpha=0.35, linewidth=0, label=name, **options)


def _network(model: TrainedModel, weights: dict[str, torch.Tensor] | None) -> nn.Module:
    """The training's network with these weights, or initialised anew with a fixed seed."""
    predictor = model.predictor
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = recursive_find_trainer_class_by_name(predictor.trainer_name).build_network_architecture(
            predictor.plans_manager,
            predictor.configuration_manager,
            determine_num_input_channels(
                predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
            ),
            predictor.label_manager.num_segmentation_heads,
            enable_deep_supervision=False,
        )
    if weights is not None:
        network.load_state_dict(weights)
    return network.eval()


def _head(channels: int, dim: int, weights: dict[str, torch.Tensor] | None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = ProjectionHead(channels, dim)
    if weights is not None:
        head.load_state_dict(weights)
    return head.eval()


@torch.inference_mode()
def _embed(branch: Branch, images: torch.Tensor) -> torch.Tensor:
    """(B, N, D), crop by crop, on the CPU."""
    embeddings = [branch(image[None])[1] for image in images]
    return torch.cat([i for i in embeddings if i is not None])


def _crop(model: TrainedModel, files: Sequence[Path], reference: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (channels, X, Y[, Z]) and labels (X, Y[, Z]) of a patch around the foreground, preprocessed by nnU-Net."""
    predictor = model.predictor
    configuration = predictor.configuration_manager
    data, labels, _ = configuration.preprocessor_class(verbose=False).run_case(
        [str(i) for i in files], str(reference), predictor.plans_manager, configuration, predictor.dataset_json
    )
    dropped = data.ndim - 1 - len(configuration.patch_size)
    size = np.array([1] * dropped + list(configuration.patch_size))
    places = np.argwhere(labels[0] > 0)
    centre = (places.min(axis=0) + places.max(axis=0) + 1) // 2 if len(places) else np.array(labels.shape[1:]) // 2
    box = [[int(i), int(i + n)] for i, n in zip(centre - size // 2, size, strict=True)]
    drop = (slice(None), *[0] * dropped)
    image = torch.from_numpy(crop_and_pad_nd(data, box, 0)[drop]).float()
    cut = crop_and_pad_nd(labels, box, 0)[drop][0].clip(min=0)  # outside the scan is background, as in the training
    return image, torch.from_numpy(cut.astype(np.int64))


def _patch_classes(
    references: torch.Tensor, grid: Sequence[int], settings: DyCONSettings, manager: Any
) -> torch.Tensor:
    """(B, N): class of each patch, by the rule of the training.

    Args:
        references: (B, X, Y[, Z]) label maps.
        grid: patches along each axis.
        settings: of the training.
        manager: nnU-Net's label manager.
    """
    labels, order = references, manager.regions_class_order if manager.has_regions else None
    if order:
        inside = [torch.isin(references, torch.tensor(region)) for region in manager.foreground_regions]
        labels = regions_to_labels(torch.stack(inside, dim=1), order)
    if manager.has_ignore_label:
        labels = labels.masked_fill(references == manager.ignore_label, UNLABELED)
    classes = [0, *dict.fromkeys(order)] if order else [i for i in manager.all_labels if i != manager.ignore_label]
    return patch_labels(
        labels,
        classes,
        grid,
        foreground_share=settings.patch_foreground_share,
        min_purity=settings.patch_min_purity,
    )
