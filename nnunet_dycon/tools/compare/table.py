"""What came of an experiment: table, paired differences, curves, and a verdict in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json
from nnunet_dycon.files.whole_files import write_text
from nnunet_dycon.pictures import canvas
from nnunet_dycon.tools.compare.experiment import RESULT, Experiment
from nnunet_dycon.tools.evaluate.metrics import METRICS, heading, scale

N_RESAMPLES = 10_000
FEW_CASES = 6
COLORS = list(dict.fromkeys(("black", canvas.BLUE, canvas.VERMILION, *reversed(canvas.CLASS_COLOURS))))


def write_results(experiment: Experiment) -> str:
    """Write table.md, table.csv, differences.csv, cases.csv and curves.png of what is finished.

    Returns:
        Table and verdict, to print. A UserError where nothing is finished.
    """
    jobs, cases = read_jobs(experiment)
    if jobs.empty:
        raise UserError(f"no job in {experiment.output} is finished, so there is nothing to put into a table")
    output, control = experiment.output, experiment.runs[0].name
    differences = paired_differences(cases, control)
    table = summary(jobs, cases, differences)
    text = f"{markdown(table)}\n\n{verdict(differences, cases, control)}"
    write_text(f"{text}\n", output / "table.md")
    for frame, name in ((table, "table.csv"), (differences, "differences.csv"), (cases, "cases.csv")):
        write_text(frame.to_csv(index=False, lineterminator="\n"), output / name)
    draw_curves(jobs, output / "curves.png")
    return text


def read_jobs(experiment: Experiment) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Finished jobs, and their cases and classes with the metrics (distances in mm, the rest in percent)."""
    jobs, cases = [], []
    for job in experiment.jobs():
        file = experiment.folder(job) / RESULT
        if file.is_file():
            content = read_json(file, "remove its folder")
            key = {"run": job.run.name, "seed": job.seed, "fold": str(job.fold)}
            kept = ("steps", "seconds", "peak_memory_bytes", "train_loss", "curve")
            jobs.append(key | {name: content[name] for name in kept})
            cases += [key | row for row in content["cases"]]
    frame = pd.DataFrame(cases)
    if cases:
        frame[list(METRICS)] = frame[list(METRICS)].astype(float) * [scale(metric) for metric in METRICS]
    return pd.DataFrame(jobs), frame


def by_seed(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean over cases, then over classes, for every run and seed; the metrics are columns."""
    of_classes = cases.groupby(["run", "seed", "class"], sort=False)[list(METRICS)].mean()
    return of_classes.groupby(["run", "seed"], sort=False).agg(lambda values: values.mean(skipna=False))


def paired_differences(cases: pd.DataFrame, control: str) -> pd.DataFrame:
    """Each run minus the control, on the same seeds, classes and cases, with a bootstrap interval over cases and seeds.

    One row for every run and metric: mean difference over cases, then classes, then seeds, 95 % interval, number of
    seeds and cases, and the smallest and the largest difference of a seed.
    """
    values = cases.set_index(["run", "case", "class", "seed"])[list(METRICS)]
    runs = list(values.index.unique("run"))
    rows = [
        {"run": run, "metric": metric, **_difference((values.loc[run] - values.loc[control])[metric])}
        for run in runs
        if run != control and control in runs
        for metric in METRICS
    ]
    columns = ["run", "metric", "difference", "low", "high", "seeds", "cases", "smallest_seed", "largest_seed"]
    return pd.DataFrame(rows, columns=columns)


def _difference(pairs: pd.Series) -> dict[str, float]:
    """``pairs``: by case, class and seed; those without a value in both runs are left out."""
    pairs = pairs.dropna()
    codes, names = zip(*(pairs.index.get_level_values(i).factorize(sort=True) for i in range(3)), strict=True)
    values = np.full([len(i) for i in names], np.nan)
    values[codes] = pairs
    numbers = {"seeds": values.shape[2], "cases": len(values)}
    if pairs.empty:
        return numbers
    low, high = bootstrap_interval(values)
    seeds = _by_seed(values, np.ones((1, len(values))))
    mean = {"difference": seeds.mean(), "low": low, "high": high}
    return mean | numbers | {"smallest_seed": seeds.min(), "largest_seed": seeds.max()}


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of (cases, classes, seeds), NaN where there is no value.

    Cases and seeds are drawn anew with replacement, independently of each other.
    """
    rng = np.random.default_rng(0)
    n_cases, _, n_seeds = values.shape
    of_cases = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), N_RESAMPLES)
    of_seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_RESAMPLES)
    means = np.ma.average(_by_seed(values, of_cases), weights=of_seeds, axis=1)
    low, high = np.percentile(np.ma.compressed(means), [2.5, 97.5])
    return float(low), float(high)


def _by_seed(values: np.ndarray, of_cases: np.ndarray) -> np.ma.MaskedArray:
    """Means (draws, seeds) over cases, taken as often as ``of_cases`` (draws, cases) says, then over classes.

    A class without a value in a draw is left out of it, and a seed without any is masked.
    """
    parts = np.nan_to_num(values), (~np.isnan(values)).astype(float)
    sums, counts = (np.einsum("ri,ikj->rkj", of_cases, part, optimize=True) for part in parts)
    return (sums / np.ma.masked_equal(counts, 0)).mean(axis=1)


def summary(jobs: pd.DataFrame, cases: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """One row a run: means and standard deviations over seeds, difference to the control, time and memory."""
    seeds = by_seed(cases).rename(columns=heading).groupby("run", sort=False)
    costs = jobs.assign(minutes=jobs["seconds"] / 60, memory=jobs["peak_memory_bytes"] / 2**30)
    costs = costs.groupby(["run", "seed"], sort=False).agg(minutes=("minutes", "sum"), memory=("memory", "max"))
    costs = costs.rename(columns={"memory": "memory GiB"}).groupby("run", sort=False)
    dice = differences[differences["metric"] == "Dice"].itertuples()
    gain = pd.Series({i.run: f"{i.difference:+.2f} [{i.low:+.2f}, {i.high:+.2f}]" for i in dice}, dtype=object)
    number = seeds.size().astype(str).rename("seeds")
    table = pd.concat([number, seeds.agg(spread), gain.rename("Dice minus control [95 %]"), costs.agg(spread)], axis=1)
    return table.fillna("").rename_axis("run").reset_index()


def spread(values: pd.Series) -> str:
    """Mean ± sample standard deviation."""
    return f"{values.mean():.2f}" if len(values) < 2 else f"{values.mean():.2f} ± {values.std():.2f}"


def markdown(table: pd.DataFrame) -> str:
    """The table for people and for a page."""
    rows = [list(table.columns), *table.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def verdict(differences: pd.DataFrame, cases: pd.DataFrame, control: str) -> str:
    """A sentence for each run: does it help, and what the spread leaves open."""
    lines = [_sentence(row, control) for _, row in differences[differences["metric"] == "Dice"].iterrows()]
    dice = by_seed(cases)["Dice"]
    if control in dice.index and len(of_control := dice.loc[control]) > 1:
        gap = of_control.max() - of_control.min()
        lines.append(f"{control} alone differs by {gap:.1f} points of Dice between its seeds.")
    lines.append("The intervals hold for scans like these test scans and for trainings of this length.")
    return "\n".join(lines)


def _sentence(row: pd.Series, control: str) -> str:
    if not row["cases"]:
        return f"{row['run']}: no case has a Dice in this run and in {control}."
    is_one = row["seeds"] == 1
    seeds = "one seed" if is_one else f"{row['seeds']} seeds"
    points = f"{row['difference']:+.1f} points of Dice against {control}"
    between = f"95 % interval {row['low']:+.1f} to {row['high']:+.1f}, over {row['cases']} cases and {seeds}"
    of_seeds = "" if is_one else f"; by seed {row['smallest_seed']:+.1f} to {row['largest_seed']:+.1f}"
    but = f", with only {row['cases']} case(s)" if row["cases"] < FEW_CASES else ""
    return f"{row['run']}: {points} ({between}{of_seeds}): {_word(row)}{but}."


def _word(row: pd.Series) -> str:
    """It needs more than one seed, and the whole interval and every seed on one side of 0."""
    if row["seeds"] == 1:
        return "no verdict, as one seed says nothing of others"
    if min(row["low"], row["smallest_seed"]) > 0:
        return "it helps"
    if max(row["high"], row["largest_seed"]) < 0:
        return "it does harm"
    return "no difference is shown: the spread is larger than the gain"


def draw_curves(jobs: pd.DataFrame, file: Path) -> None:
    """Test Dice against training steps, mean and range over seeds."""
    points = [
        (job.run, job.seed, int(steps), 100 * dice)
        for job in jobs.itertuples()
        for steps, dice in job.curve.items()
        if dice is not None
    ]
    frame = pd.DataFrame(points, columns=["run", "seed", "steps", "Dice"])
    seeds = frame.groupby(["run", "steps", "seed"], sort=False)["Dice"].mean()
    with canvas.style():
        figure = canvas.empty_figure(canvas.WIDTH_INCHES, 4.5, layout="constrained")
        axes = figure.add_subplot()
        for i, run in enumerate(frame["run"].unique()):
            curve, color = seeds.loc[run].groupby("steps").agg(["mean", "min", "max"]), COLORS[i % len(COLORS)]
            axes.plot(curve.index, curve["mean"], color=color, marker="o", label=run)
            axes.fill_between(curve.index, curve["min"], curve["max"], color=color, alpha=0.15, linewidth=0)
        axes.set(xlabel="training steps", ylabel="test Dice [%], mean and range over seeds")
        axes.legend()
        canvas.save_figure(figure, file)
