"""Surfaces of reference and prediction, the latter coloured by its distance to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from nnunet_dycon.pictures.style import SKY_BLUE, WIDTH_INCHES, empty_figure
from nnunet_dycon.tools.figures.segmentation import SegmentedCase, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMOOTHING_VOXELS = 0.6  # takes the steps of the voxels away
_MOST_VOXELS_A_SIDE = 96  # finer masks are read at every other voxel or so
_HIGHEST_MM = 10.0  # so that one stray blob does not take all colours
_TITLE: Any = {"fontsize": 8, "y": 0.96}
_LIGHT = np.array([0.3, -0.8, 0.5])  # from the viewer's upper right; the viewer stands in front of the patient


def surface(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Surface of a boolean mask (Z, Y, X).

    Returns:
        Vertices (V, 3) in mm as x to the patient's left, y to the back, z to the head; triangles (F, 3) of indices.
        Both are empty for an empty mask.
    """
    if not mask.any():
        return np.empty((0, 3)), np.empty((0, 3), dtype=int)
    corners = np.argwhere(mask)
    low = np.maximum(corners.min(axis=0) - 2, 0)
    high = corners.max(axis=0) + 3
    part = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32), 2)
    step = max(1, round(max(part.shape) / _MOST_VOXELS_A_SIDE))
    smooth = gaussian_filter(part, _SMOOTHING_VOXELS)
    level = 0.5 if smooth.max() > 0.5 else float(smooth.max()) / 2  # so that a single voxel has a surface, too
    vertices, faces, *_ = marching_cubes(smooth, level, spacing=tuple(spacing_mm), step_size=step)
    return (vertices + (low - 2) * np.asarray(spacing_mm))[:, ::-1], faces


def surface_figure(cases: Sequence[SegmentedCase]) -> Figure:
    """A row a case and class, seen from the front: the reference, and the prediction with its distance to it.

    More than four classes are drawn as one, and the figure says so.

    Raises:
        ValueError: no case.
    """
    if not cases:
        raise ValueError("no case to draw")
    rows = [(case, name) for case in (i.together() for i in cases) for name in case.classes]
    figure = empty_figure(0.2 + 1.75 * len(rows), 0.8 * WIDTH_INCHES)
    axes = figure.subplots(len(rows), 2, squeeze=False, subplot_kw={"projection": "3d", "proj_type": "ortho"})
    meshes = [[surface(mask, case.spacing_mm) for mask in case.masks(name)] for case, name in rows]
    distances = [_distances(*pair) for pair in meshes]
    farthest = max([1.0, *(float(np.percentile(i, 98)) for i in distances if len(i))])
    highest = min(farthest, _HIGHEST_MM)
    scale = _scale(highest)
    for row, (case, name), (reference, prediction), distance in zip(axes, rows, meshes, distances, strict=True):
        _draw(row[0], reference, SKY_BLUE)
        _draw(row[1], prediction, scale.to_rgba(distance))
        _same_view(row, [reference[0], prediction[0]])
        title = short_name(case.name, 24)
        title += ": " if len(cases[0].classes) == 1 else f"\n{short_name(name, 30)}: "
        row[0].set_title(f"{title}reference", **_TITLE)
        row[1].set_title(f"prediction, Dice {case.dice_text(name)}", **_TITLE)
    figure.colorbar(
        scale, ax=axes, shrink=0.6, aspect=25, pad=0.02, extend="max", label="distance to the reference [mm]"
    )
    return figure


def _distances(reference: tuple[np.ndarray, np.ndarray], prediction: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Distance of each triangle of the prediction to the nearest vertex of the reference, in mm."""
    centres = prediction[0][prediction[1]].mean(axis=1)
    if not len(reference[0]) or not len(centres):
        return np.full(len(centres), np.inf)
    return cKDTree(reference[0]).query(centres)[0]


def _scale(highest: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, highest), "cividis_r")  # made for colour-blind readers


def _draw(axis: Any, mesh: tuple[np.ndarray, np.ndarray], colours: Any) -> None:
    """Draw triangles, brighter where they face the light; as pixels inside the PDF, text stays text."""
    from matplotlib.colors import to_rgba_array
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    axis.set_axis_off()
    triangles = mesh[0][mesh[1]]
    if not len(triangles):
        axis.text2D(0.5, 0.5, "nothing segmented", transform=axis.transAxes, ha="center")
        return
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = 0.65 + 0.35 * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), -1, 1)
    rgba = np.broadcast_to(to_rgba_array(colours), (len(triangles), 4)).copy()
    rgba[:, :3] = np.clip(rgba[:, :3] * light[:, None], 0, 1)
    collection = Poly3DCollection(triangles, facecolors=rgba, edgecolors=rgba, linewidths=0.1, rasterized=True)
    collection.set_clip_on(False)
    axis.add_collection3d(collection)


def _same_view(axes: Sequence[Any], points: Sequence[np.ndarray]) -> None:
    """The same part of space in both panels, from the front, a little from above and from the left."""
    together = np.concatenate(points)
    if not len(together):
        return
    low, high = together.min(axis=0), together.max(axis=0)
    for axis in axes:
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
        axis.set_box_aspect(high - low, zoom=1.15)
        axis.view_init(elev=15, azim=-65)
