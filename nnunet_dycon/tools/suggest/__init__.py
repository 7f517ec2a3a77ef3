"""Which unlabelled scans to label next: ``nnunet-dycon suggest``."""

from __future__ import annotations

from nnunet_dycon.tools.suggest.model import TrainedModel, open_model
from nnunet_dycon.tools.suggest.run import SuggestReport, suggest_cases
from nnunet_dycon.tools.suggest.selection import Pick, rank_cases

__all__ = ["Pick", "SuggestReport", "TrainedModel", "open_model", "rank_cases", "suggest_cases"]
