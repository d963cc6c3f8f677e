"""Evaluate: the metrics that gates read and the plots that people read."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.calibration import calibration_curve

from .schema import THRESHOLD

matplotlib.use("Agg")

Values = NDArray[np.float64]


def score(target: Values, predicted: Values) -> dict[str, float]:
    """Score predictions.

    Parameters
    ----------
    target
        1 where the answer was yes, else 0, shape (rows,).
    predicted
        Predicted probabilities of yes, shape (rows,).

    Returns
    -------
    dict
        Metrics that need both answers are left out where only one of them occurs. The normalized
        entropy (He et al. 2014) is the log loss as a share of what knowing only the rate of yes
        would cost, so months with other rates compare; 1 is worth nothing.
    """
    decided, rate = predicted >= THRESHOLD, target.mean()
    # Sums where they say the same as scikit-learn: resampling asks for these 200 times.
    values = {
        "log_loss": metrics.log_loss(target, predicted, labels=[0, 1]),
        "brier": np.square(target - predicted).mean(),
        "precision": target[decided].sum() / max(decided.sum(), 1),
        "recall": target[decided].sum() / max(target.sum(), 1),
        "positive_rate": rate,
    }
    if 0 < rate < 1:
        values["roc_auc"] = metrics.roc_auc_score(target, predicted)
        values["average_precision"] = metrics.average_precision_score(target, predicted)
        knowing_rate = losses(target, np.full_like(predicted, rate)).mean()
        values["normalized_entropy"] = values["log_loss"] / knowing_rate
    return {name: float(value) for name, value in sorted(values.items())}


def losses(target: Values, predicted: Values) -> Values:
    """Return each row's log loss: what decides whether one model is better than another.

    It is a proper scoring rule: no model can gain by reporting other probabilities than it
    believes (Gneiting and Raftery 2007).
    """
    certain = np.clip(predicted, 1e-7, 1 - 1e-7)
    return -np.where(target == 1, np.log(certain), np.log1p(-certain))


def plot(target: Values, predicted: Values, by_month: pd.DataFrame) -> dict[str, Figure]:
    """Draw the holdout: what each figure is called, and the figure."""
    return {
        "curves": _curves(target, predicted),
        "confusion_matrix": _confusion(target, predicted >= THRESHOLD),
        "by_month": _by_month(by_month),
    }


def _curves(target: Values, predicted: Values) -> Figure:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    roc, precision_recall, calibration = figure.subplots(1, 3)
    metrics.RocCurveDisplay.from_predictions(target, predicted, ax=roc, plot_chance_level=True)
    metrics.PrecisionRecallDisplay.from_predictions(
        target, predicted, ax=precision_recall, plot_chance_level=True
    )
    observed, mean_predicted = calibration_curve(target, predicted, n_bins=10, strategy="quantile")
    calibration.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    calibration.plot(mean_predicted, observed, marker="o", label="model, tenths of the rows")
    limit = 1.1 * max(observed.max(), mean_predicted.max())
    calibration.set(xlim=(0, limit), ylim=(0, limit), xlabel="mean predicted", ylabel="observed")
    calibration.legend()
    for axes, title in zip(
        (roc, precision_recall, calibration),
        ("ROC", "Precision and recall", "Calibration"),
        strict=True,
    ):
        axes.set_title(title)
    return figure


def _confusion(target: Values, decided: NDArray[np.bool_]) -> Figure:
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.subplots()
    metrics.ConfusionMatrixDisplay.from_predictions(
        target.astype(bool), decided, ax=axes, colorbar=False, cmap="Blues", values_format=","
    )
    axes.set_title(f"Holdout, yes from a probability of {THRESHOLD:g}")
    return figure


def _by_month(by_month: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in (("roc_auc", "C0"), ("positive_rate", "C1")):
        if name in by_month:
            axes.plot(by_month.index, by_month[name], marker="o", color=colour, label=name)
    axes.set(title="By month", ylim=(0, 1))
    axes.tick_params(axis="x", labelrotation=45)
    axes.legend()
    return figure
