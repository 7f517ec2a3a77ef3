"""The guard of Pancreas-CT: does this mask belong to this scan, the way it lies?

Scan and mask are separate downloads whose headers disagree, so a mispaired case (a flipped mask, slices in the wrong
order, the mask of another patient) looks fine until training fails. Two measurements tell:

- the mean Hounsfield value under the mask, which is soft tissue for a pancreas;
- the contrast between the mask and a shell around it: the pancreas is brighter than the fat around it, while a mask
  in the wrong place has much the same values inside and outside. The mask as given is compared with its 7 mirror
  images.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nnunet_dycon.errors import UserError

SOFT_TISSUE_HU = (0.0, 200.0)
# Air and bone count as fat and contrast agent: a bowel bubble beside the mask must not decide.
CLIP_HU = (-150.0, 250.0)
SHELL_VOXELS = 3
# A mirror image has to beat the mask as given by this much. A choice between chance (a few HU) and the contrast of
# soft tissue (50 HU) to fat (-100 HU), not fitted to data.
MARGIN_HU = 30.0


def check_pairing(hounsfield_units: np.ndarray, mask: np.ndarray) -> None:
    """Refuse a mask that does not lie on its organ.

    Args:
        hounsfield_units: (z, y, x).
        mask: Same shape; nonzero is pancreas.

    Raises:
        UserError: The mask is empty, lies on no soft tissue, or fits clearly better when flipped.
    """
    if not mask.any():
        raise UserError("the mask is empty, so that it cannot be checked against the scan; download the label again")
    foreground = mask > 0
    mean = float(hounsfield_units[foreground].mean())
    contrasts = contrasts_hu(hounsfield_units, foreground)
    best = max(contrasts, key=lambda axes: contrasts[axes])
    better_by = contrasts[best] - contrasts[()]
    low, high = SOFT_TISSUE_HU
    finding = ""
    if better_by > MARGIN_HU:
        names = "".join("zyx"[axis] for axis in reversed(best))
        finding = (
            f"the mask stands out from its surroundings by {contrasts[()]:.0f} HU, flipped along {names} by "
            f"{contrasts[best]:.0f} HU"
        )
    elif not low <= mean <= high:
        finding = f"the mean value under the mask is {mean:.0f} HU, where soft tissue has {low:.0f} to {high:.0f}"
    if finding:
        raise UserError(
            f"label and scan do not belong together: {finding}. Use label and DICOM of the TCIA download, unconverted; "
            "if you have seen that they fit, pass --accept with the case name"
        )


def contrasts_hu(hounsfield_units: np.ndarray, foreground: np.ndarray) -> dict[tuple[int, ...], float]:
    """Mean value inside the mask minus that of a shell of 3 voxels around it, values clipped to [-150, 250] HU.

    Args:
        hounsfield_units: (z, y, x).
        foreground: Same shape, not empty.

    Returns:
        By the axes along which the scan is flipped: none, each, each two, all.
    """
    (box,) = ndimage.find_objects(np.pad(foreground, SHELL_VOXELS).astype(np.uint8))
    # in the padded mask the box starts later by the shell, so that it is wider by it in the mask
    box = tuple(slice(max(0, part.start - 2 * SHELL_VOXELS), part.stop) for part in box)
    inside = foreground[box]
    shell = ndimage.binary_dilation(inside, iterations=SHELL_VOXELS) & ~inside
    contrasts = {}
    for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        values = np.clip(np.flip(hounsfield_units, axes)[box], *CLIP_HU)
        contrasts[axes] = float(values[inside].mean() - values[shell].mean())
    return contrasts
