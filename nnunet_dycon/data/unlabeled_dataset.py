"""Unlabelled cases as the data loader sees them: images, and for a cascade what its first stage predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import blosc2

from nnunet_dycon.dataset.preprocessed_files import is_whole, open_image
from nnunet_dycon.dataset.unlabeled_scans import recorded_source
from nnunet_dycon.errors import UserError


class nnUNetDatasetUnlabeled:
    """Preprocessed images of unlabelled cases in nnU-Net's memory-mapped format.

    It knows the image file (``CASE.b2nd``) of each case, with the record beside it that names its source, and no other
    file: not the segmentation, and not the properties, which for a case preprocessed with its label hold the places of
    the foreground. In the second stage of a cascade it also knows the file with the first stage's prediction.

    Raises:
        UserError: an image file is missing or truncated.
    """

    def __init__(self, files: Mapping[str, Path], previous: Mapping[str, Path] | None = None) -> None:
        broken = [str(file) for file in files.values() if not is_whole(file)]
        if broken:
            raise UserError(
                f"{len(broken)} preprocessed unlabelled image(s) are missing or truncated, first {broken[0]}. Run "
                "nnUNetv2_preprocess (cases in splits_final.json) or nnunet-dycon preprocess (imagesUn) again"
            )
        self._files = {case: str(files[case]) for case in sorted(files)}
        self._previous = None if previous is None else {case: str(previous[case]) for case in self._files}
        self.identifiers = list(self._files)
        self.sources = {case: recorded_source(files[case]) for case in self._files}

    def load_image(self, identifier: str) -> blosc2.NDArray:
        """The image of a case, (channels, X, Y, Z), read from disk only where it is sliced."""
        return open_image(self._files[identifier])

    def load_previous(self, identifier: str) -> blosc2.NDArray | None:
        """The labels that a cascade's first stage predicted for a case, (X, Y, Z); None without a cascade."""
        return None if self._previous is None else open_image(self._previous[identifier])
