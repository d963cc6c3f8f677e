"""Evaluate: the metrics that gates read and the plots that people read."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn import metrics

from .contract import TARGET

matplotlib.use("Agg")

Values = NDArray[np.float64]


def score(target: Values, predicted: Values) -> dict[str, float]:
    """Score predictions.

    Parameters
    ----------
    target
        What happened, in the target's unit, shape (rows,).
    predicted
        What was predicted, in the same unit, shape (rows,).

    Returns
    -------
    dict
        `r2` is left out where it has no meaning: with fewer than two rows, or a target that does
        not vary enough to divide by.
    """
    values = {
        "mae": metrics.mean_absolute_error(target, predicted),
        "median_error": metrics.median_absolute_error(target, predicted),
        "rmse": metrics.root_mean_squared_error(target, predicted),
        "bias": (predicted - target).mean(),
    }
    if target.size > 1 and np.isfinite(r2 := metrics.r2_score(target, predicted)):
        values["r2"] = r2
    return {name: float(value) for name, value in sorted(values.items())}


def losses(target: Values, predicted: Values) -> Values:
    """Return each row's squared error: what decides whether one model is better than another.

    It suits a model of the mean; use the absolute error if yours predicts the median.
    """
    return np.square(target - predicted)


def plot(target: Values, predicted: Values, by_month: pd.DataFrame) -> dict[str, Figure]:
    """Draw the holdout: what each figure is called, and the figure."""
    return {
        "predictions": _predictions(target, predicted),
        "residuals": _residuals(target - predicted),
        "by_month": _by_month(by_month),
    }


def _predictions(target: Values, predicted: Values) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    scatter, averages = figure.subplots(1, 2)
    scatter.scatter(predicted, target, s=4, alpha=0.2)
    scatter.axline((0, 0), slope=1, linestyle="--", color="grey")
    scatter.set(title="Every row", xlabel=f"predicted {TARGET.name}", ylabel="observed")
    tenths = pd.DataFrame({"predicted": predicted, "observed": target}).sort_values("predicted")
    means = tenths.groupby(np.arange(len(tenths)) * 10 // len(tenths)).mean()
    averages.axline((means["predicted"].iloc[0],) * 2, slope=1, linestyle="--", color="grey")
    averages.plot(means["predicted"], means["observed"], marker="o")
    averages.set(title="Means of tenths of the rows", xlabel="predicted", ylabel="observed")
    return figure


def _residuals(residuals: Values) -> Figure:
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    low, high = np.quantile(residuals, [0.005, 0.995])
    axes.hist(residuals, bins=60, range=(low, high))
    axes.axvline(0, linestyle="--", color="grey")
    axes.set(title="Residuals, the middle 99 %", xlabel="observed - predicted", ylabel="rows")
    return figure


def _by_month(by_month: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in ("mae", "bias"):
        axes.plot(by_month.index, by_month[name], marker="o", label=name)
    axes.set(title="By month")
    axes.tick_params(axis="x", labelrotation=45)
    axes.legend()
    return figure
