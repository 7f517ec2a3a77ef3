"""A picture of the cases that a model is least sure of: its prediction and entropy where it is unsure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans
from nnunet_dycon.losses import max_entropy
from nnunet_dycon.models.trained_model import TrainedModel
from nnunet_dycon.models.uncertainty import MAPS, output_files, ranked
from nnunet_dycon.pictures.canvas import Slice, save_figure
from nnunet_dycon.pictures.cases import CaseFiles, classes_of, read_case
from nnunet_dycon.pictures.training import views_figure

FILE = f"{MAPS}/least_sure.png"  # not beside the segmentations, which may be .png as well
_MARGIN_MM = 20.0
_DPI = 160


def draw_least_sure(rows: pd.DataFrame, images: Path, output: Path, model: TrainedModel, count: int) -> Path:
    """Draw the first cases of the ranking, each where its entropy is largest, into the folder of the entropy maps.

    The arguments are those of ``predict_folder`` and what it returned.

    Raises:
        UserError: a file that cannot be drawn.
    """
    scans = find_raw_scans(images, model.dataset_json, model.predictor.plans_manager)
    chosen = list(ranked(rows).head(count).itertuples())
    views = [_view(rank, row, scans[row.case][0], output, model) for rank, row in enumerate(chosen, start=1)]
    highest = max_entropy(model.predictor.label_manager.num_segmentation_heads, model.nonlinearity)
    title = f"the least sure {len(chosen)} of {len(rows)} cases; mean entropy of the scan"
    save_figure(views_figure(views, highest, title, dpi=_DPI), output / FILE)
    return output / FILE


def _view(rank: int, row: Any, scan: Path, output: Path, model: TrainedModel) -> Slice:
    segmentation, entropy_map = output_files(output, row.case, model)
    files = CaseFiles(row.case, scan, segmentation, (segmentation,))
    case = read_case(files, *classes_of(model.dataset_json), entropy_map)
    assert case.entropy is not None
    window = case.window(_MARGIN_MM)
    index = int(case.turned(case.entropy)[:, window[0], window[1]].sum(axis=(1, 2)).argmax())
    title = f"{rank}. {row.case}\nborder entropy {row.boundary_entropy_nats:.3f}\n{case.place(index)}"
    return replace(case.view(index, window), title=title, reference=None, mean_entropy=row.mean_entropy_nats)
