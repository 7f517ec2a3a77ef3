"""Draw test Dice against the number of labelled scans, nnU-Net and DyCON, from the folders of ``nnunet-dycon compare``.

    python scripts/experiments/labels_saved.py OUT.png LA 2=la2 4=la4 8=la8 16=la16 60=la4/all [LGG 2=lgg2 ...]

Each set is a title and LABELS=FOLDER pairs: FOLDER is what compare's -o was, with the runs control, dycon and da5 where
it was made, or one run's folder alone (of nnU-Net with all labels). Dots are seeds, lines their means. An arrow goes
from DyCON's mean of most seeds to the number of labels at which nnU-Net's line, drawn straight between its points, has
as much.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from nnunet_dycon.pictures.canvas import GREEN, STUDENT, TEACHER

RUNS = {"control": ("nnU-Net", STUDENT), "da5": ("nnU-Net, DA5", GREEN), "dycon": ("DyCON", TEACHER)}


def seeds(folder: Path) -> list[float]:
    """Mean test Dice [%] of each finished seed of a run, classes before cases."""
    jobs = [json.loads(file.read_text()) for file in sorted(folder.glob("seed_*/fold_*/job.json"))]
    return [float(100 * pd.DataFrame(job["cases"]).groupby("class")["Dice"].mean().mean()) for job in jobs]


def points(pairs: list[str]) -> pd.DataFrame:
    """One row a training: run, labels, Dice [%]."""
    rows = []
    for pair in pairs:
        labels, _, name = pair.partition("=")
        folder = Path(name)
        runs = {run: folder / run for run in RUNS} if any((folder / run).is_dir() for run in RUNS) else {}
        for run, place in (runs or {"control": folder}).items():
            rows += [{"run": run, "labels": int(labels), "Dice": value} for value in seeds(place)]
    return pd.DataFrame(rows)


def labels_with(control: pd.Series, dice: float) -> float | None:
    """Number of labels at which nnU-Net's line reaches a Dice; None where it does not."""
    number, best = np.log(control.index.to_numpy(float)), np.maximum.accumulate(control.to_numpy())
    return None if dice > best[-1] else float(np.exp(np.interp(dice, best, number)))


def draw(axes: Axes, title: str, table: pd.DataFrame) -> None:
    means = {run: part.groupby("labels")["Dice"].mean() for run, part in table.groupby("run")}
    for run, (name, colour) in ((run, RUNS[run]) for run in RUNS if run in means):
        part = table[table["run"] == run]
        axes.plot(part["labels"], part["Dice"], ".", color=colour, alpha=0.5)
        axes.plot(means[run].index, means[run], color=colour, label=name)
    numbers = {labels: labels_with(means["control"], dice) for labels, dice in means["dycon"].items()}
    print(f"{title}: labels with which nnU-Net has DyCON's Dice, by DyCON's labels: {numbers}")
    surest = table.loc[table["run"] == "dycon", "labels"].mode()[0]
    if (number := numbers[surest]) is not None:
        dice = means["dycon"][surest]
        arrow = {"arrowstyle": "<-", "color": "0.45", "shrinkA": 0, "shrinkB": 4}
        axes.annotate("", (surest, dice), (number, dice), arrowprops=arrow)
        place = np.sqrt(surest * number), dice
        axes.text(*place, f"{number / surest:.1f} x", ha="center", va="top", color="0.3")
    axes.set_xscale("log")
    axes.set_xticks(sorted(table["labels"].unique()), [str(i) for i in sorted(table["labels"].unique())], minor=False)
    axes.minorticks_off()
    axes.set(title=title, xlabel="labelled scans", ylabel="test Dice [%]")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    print(f"{title}: {json.dumps({run: {int(k): round(v, 1) for k, v in i.items()} for run, i in means.items()})}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("sets", nargs="+", help="TITLE LABELS=FOLDER ... for each panel")
    args = parser.parse_args()
    panels: list[tuple[str, list[str]]] = []
    for word in args.sets:
        if "=" in word:
            panels[-1][1].append(word)
        else:
            panels.append((word, []))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 3.6), squeeze=False, layout="constrained")
    for axis, (title, pairs) in zip(axes[0], panels, strict=True):
        draw(axis, title, points(pairs))
    figure.savefig(args.output, dpi=110)


if __name__ == "__main__":
    main()
