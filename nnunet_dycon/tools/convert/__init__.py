"""From a dataset's download to a complete nnU-Net raw dataset: ``nnunet-dycon convert``."""

from __future__ import annotations

from nnunet_dycon.tools.convert.naming import DATASETS, case_name

__all__ = ["DATASETS", "case_name"]
