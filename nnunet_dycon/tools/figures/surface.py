"""Surfaces of reference and prediction, the latter coloured by its distance to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.ndimage import find_objects, gaussian_filter
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.cases import MOST_CLASSES, Case

Mesh = tuple[np.ndarray, np.ndarray]  # as surface() returns it
_SMOOTHING_VOXELS = 0.6  # takes the steps of the voxels away
_MOST_VOXELS_A_SIDE = 96  # finer masks are read at every other voxel or so
_HIGHEST_MM = 10.0  # so that one stray blob does not take all colours
_ARMS = "arms: L left, P back, H head of the patient (0, 1, 2: axes of a scan that tells no directions)"
_TITLE: Any = {"fontsize": 7.5}
_ARM_TEXT: Any = {"fontsize": 6.5, "va": "center", "in_layout": False}
_LIGHT_DEGREES = (159.4, 30.3)  # from the viewer's upper right; the viewer stands in front of the patient


def surface(mask: np.ndarray, spacing_mm: Sequence[float]) -> Mesh:
    """Surface of a boolean mask (Z, Y, X).

    Returns:
        Vertices (V, 3) in mm as x to the patient's left, y to the back, z to the head; triangles (F, 3) of indices.
        Both are empty for an empty mask.
    """
    if not mask.any():
        return np.empty((0, 3)), np.empty((0, 3), dtype=int)
    box = tuple(slice(max(i.start - 2, 0), i.stop + 2) for i in find_objects(mask.view(np.uint8))[0])
    part = np.pad(mask[box].astype(np.float32), 2)
    step = max(1, round(max(part.shape) / _MOST_VOXELS_A_SIDE))
    smooth = gaussian_filter(part, _SMOOTHING_VOXELS)
    level = 0.5 if smooth.max() > 0.5 else float(smooth.max()) / 2  # so that a single voxel has a surface, too
    vertices, faces, *_ = marching_cubes(smooth, level, spacing=tuple(spacing_mm), step_size=step)
    start_mm = [(i.start - 2) * length for i, length in zip(box, spacing_mm, strict=True)]
    return (vertices + start_mm)[:, ::-1], faces


@canvas.style()
def surface_figure(cases: Sequence[Case], note: str = "") -> Figure:
    """A row a case and class, seen from the front: the reference, and the prediction with its distance to it.

    There is at least one case. More than four classes are drawn as one, and the figure says so. A tripod shows
    directions and scale; the note says where the predictions come from.
    """
    rows = [row for case in cases for row in _one_class_each(case)]
    figure = canvas.empty_figure(0.8 * canvas.WIDTH_INCHES, 0.4 + 1.75 * len(rows), layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False, subplot_kw={"projection": "3d", "proj_type": "ortho"})
    meshes = [
        [surface(case.foreground(labels), case.spacing_mm) for labels in (case.reference, case.predictions[0])]
        for case in rows
    ]
    # of each triangle of the prediction to the nearest vertex of the reference; without any it is infinite
    distances = [cKDTree(i).query(vertices[faces].mean(axis=1))[0] for (i, _), (vertices, faces) in meshes]
    farthest = max([1.0, *(np.percentile(i, 98) for i in distances if len(i))])  # where nearly all lie
    scale = ScalarMappable(Normalize(0, min(farthest, _HIGHEST_MM)), "cividis_r")  # made for colour-blind readers
    for (left, right), case, pair, distance in zip(axes, rows, meshes, distances, strict=True):
        _draw(left, pair[0], canvas.REFERENCE)
        _draw(right, pair[1], scale.to_rgba(distance))
        _same_view((left, right), pair, "LPH" if case.is_oriented else "210")
        left.set_title(canvas.wrapped([case.name, f"{next(iter(case.classes))}, reference"], 2.6), **_TITLE)
        right.set_title(f"prediction\n{case.dice_lines()[0]}", **_TITLE)
    label = "distance to the reference [mm]"
    figure.colorbar(scale, ax=axes, shrink=0.6, aspect=25, pad=0.02, extend="max", label=label)
    figure.supxlabel(f"{_ARMS}\n{note}".strip(), fontsize=6.5, color="0.3")
    return figure


def _one_class_each(case: Case) -> list[Case]:
    """The same case with each class alone, or with all its classes as one if there are too many."""
    classes = case.classes
    if len(classes) > MOST_CLASSES:
        classes = {f"all {len(classes)} classes together": tuple(case.values())}
    return [replace(case, classes={name: values}) for name, values in classes.items()]


def _draw(axis: Any, mesh: Mesh, colours: Any) -> None:
    """Draw triangles, brighter where they face the light; as pixels inside the PDF, text stays text."""
    axis.set_axis_off()
    triangles = mesh[0][mesh[1]]
    if not len(triangles):
        axis.text2D(0.5, 0.5, "nothing segmented", transform=axis.transAxes, ha="center")
        return
    collection = Poly3DCollection(
        triangles, facecolors=colours, edgecolors=colours, shade=True, lightsource=LightSource(*_LIGHT_DEGREES),
        linewidths=0.1, rasterized=True,
    )  # fmt: skip
    collection.set(clip_on=False, in_layout=False)  # constrained layout would leave no room for it
    axis.add_collection3d(collection)


def _same_view(axes: Sequence[Any], meshes: Sequence[Mesh], names: str) -> None:
    """The same part of space in both panels, from the front, a little from above and from the left, with a tripod."""
    together = np.concatenate([vertices for vertices, _ in meshes])
    if not len(together):
        return
    low, high = together.min(axis=0), together.max(axis=0)
    longest = (high - low).max() / 5
    power = 10.0 ** np.floor(np.log10(longest))
    arm_mm = max(i * power for i in (1, 2, 5) if i * power <= longest)
    corner = np.array([low[0], low[1], low[2] - 1.5 * arm_mm])
    for axis in axes:
        for direction, name in zip(np.eye(3), names, strict=True):
            end = corner + arm_mm * direction
            axis.plot(*np.stack([corner, end], axis=1), color="0.2", linewidth=1.2, clip_on=False, in_layout=False)
            axis.text(*(corner + 1.35 * arm_mm * direction), name, **_ARM_TEXT, ha="center")
        axis.text(*(corner - [0, 0, 0.5 * arm_mm]), f"{arm_mm:g} mm", **_ARM_TEXT, ha="left")
        low_z = corner[2] - 0.5 * arm_mm
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low_z, high[2]))
        size = high - [low[0], low[1], low_z]
        height = np.dot([np.hypot(*size[:2]), size[2]], [0.26, 0.97]) / np.linalg.norm(size)  # seen from 15 degrees
        axis.set_box_aspect(size, zoom=min(1.45, 0.85 / height))  # a tall one stays below its title
        axis.view_init(elev=15, azim=-65)
