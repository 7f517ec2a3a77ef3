"""Unlabelled cases as the data loader sees them: images, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import blosc2

from nnunet_dycon.errors import UserError


class nnUNetDatasetUnlabeled:
    """Preprocessed images of unlabelled cases in nnU-Net's memory-mapped format.

    It knows the image file of each case and no other file: not the segmentation, and not the properties, which for a
    case preprocessed with its label hold the places of the foreground.

    Args:
        files: image file (``CASE.b2nd``) by case name.

    Raises:
        UserError: an image file is missing.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        missing = [str(file) for file in files.values() if not file.is_file()]
        if missing:
            raise UserError(
                f"{len(missing)} preprocessed unlabelled image(s) are missing, first {missing[0]}. Run "
                "nnUNetv2_preprocess (cases in splits_final.json) or nnunet-dycon preprocess (imagesUn) again"
            )
        self._files = {case: str(files[case]) for case in sorted(files)}
        self.identifiers = list(self._files)
        # as in nnU-Net's own dataset: memory mapping does not work on Windows
        self._mmap_kwargs = {} if os.name == "nt" else {"mmap_mode": "r"}

    def load_image(self, identifier: str) -> blosc2.NDArray:
        """The image of a case, (channels, X, Y, Z), read from disk only where it is sliced."""
        return blosc2.open(self._files[identifier], mode="r", dparams={"nthreads": 1}, **self._mmap_kwargs)
