"""Tell whether one model is better than another, or only luckier on these rows.

Both models predict the same rows, and whole days are resampled rather than rows, because rows of
one day share its weather and its incidents: treating them as independent would make noise look
significant. Method: paired cluster bootstrap with percentile bounds (Davison and Hinkley 1997,
Bootstrap Methods and their Application, sections 2.4 and 3.8).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import Comparison

Values = NDArray[np.float64]
METRIC_RESAMPLES = 200


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its resamples."""

    value: float
    low: float
    high: float


def improvement(candidate: Values, champion: Values, days: Values, config: Comparison) -> Interval:
    """Estimate by what share the candidate's mean loss is below the champion's.

    Parameters
    ----------
    candidate, champion
        Loss of each row under each model, lower is better, shape (rows,).
    days
        The day, or other cluster, of each row, shape (rows,).
    config
        The number of resamples, their seed, and the one-sided confidence of each bound.

    Returns
    -------
    Interval
        0.01 means one per cent less loss. NaN where the champion's loss is zero.
    """
    _, day = np.unique(days, return_inverse=True)
    count = int(day.max()) + 1
    totals = np.stack([np.bincount(day, loss, count) for loss in (candidate, champion)])
    rng = np.random.default_rng(config.seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=config.resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        candidate_loss, champion_loss = totals @ drawn.T
        shares = 1 - candidate_loss / champion_loss
        value = 1 - totals[0].sum() / totals[1].sum()
        low, high = np.quantile(shares, [1 - config.confidence, config.confidence])
    return Interval(float(value), float(low), float(high))


def intervals(
    score: Callable[[Values, Values], dict[str, float]],
    target: Values,
    predicted: Values,
    days: Values,
    seed: int,
) -> dict[str, Interval]:
    """Return each metric with the bounds that hold 95 % of its resamples over days.

    A metric that is not a finite number is as if it was not there, in a resample too.
    """
    _, day = np.unique(days, return_inverse=True)
    rows_of = [np.flatnonzero(day == each) for each in range(int(day.max()) + 1)]
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {}
    for _ in range(METRIC_RESAMPLES):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[each] for each in drawn])
        for name, value in score(target[rows], predicted[rows]).items():
            if np.isfinite(value):
                resampled.setdefault(name, []).append(value)
    return {
        name: Interval(value, *np.quantile(resampled[name], [0.025, 0.975]).tolist())
        for name, value in score(target, predicted).items()
        if name in resampled and np.isfinite(value)
    }
