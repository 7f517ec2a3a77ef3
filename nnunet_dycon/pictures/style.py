"""One look for all figures: readable at a column's width, colours that colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_dycon.pictures.overlay import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe-Ito
BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
CLASS_COLOURS = (ORANGE, SKY_BLUE, GREEN, "#F0E442", PURPLE, VERMILION)  # those that stand out on grey
WIDTH_INCHES = 7.0  # two columns of most journals

_PARAMETERS: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 300,
    "savefig.dpi": "figure",
    "pdf.fonttype": 42,  # text stays text in editors
}


@contextmanager
def style() -> Iterator[None]:
    """Inside, matplotlib draws in this look, whatever was set before (nnU-Net's plots set seaborn's)."""
    import matplotlib as mpl
    import matplotlib.style

    with matplotlib.style.context("default"), mpl.rc_context(_PARAMETERS):
        yield


def empty_figure(height_inches: float, width_inches: float = WIDTH_INCHES) -> Figure:
    """A figure without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.pdf and NAME.png, each whole or not at all."""
    files = [folder / f"{name}.pdf", folder / f"{name}.png"]
    for file in files:
        save_figure(figure, file)
    return files
