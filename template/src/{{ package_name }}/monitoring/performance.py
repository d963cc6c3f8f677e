"""How well the model has done, once labels have arrived: what decides when it is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import special

from .. import comparison
from ..config import DriftConfig, Watched
from .checks import Finding
from .profile import Metric

Values = NDArray[np.float64]
Score = Callable[[Values, Values], dict[str, float]]
SEED = 0
MIN_DAYS = 10  # fewer are not enough to resample: stretches of successive rows are
STRETCHES = 50
TWO_SIDED = 1.96


@dataclass(frozen=True)
class Labelled:
    """Predictions whose label has arrived, finite, and how many were served in all."""

    target: Values
    predicted: Values
    times: NDArray[np.datetime64]
    served: int


class Performance(BaseModel):
    """What the labels of a window say.

    `state` is unknown where there are too few labels, or none of the watched metrics exists on both
    sides; worse where one of them is, by more than its tolerance and more than noise; else holds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Literal["unknown", "holds", "worse"]
    labelled: int
    coverage: float
    metrics: dict[str, Metric] = {}
    sentences: list[str]
    worse: list[str] = []  # those of the sentences that tell of a worse metric


def judge(
    score: Score, rows: Labelled, holdout: Mapping[str, Metric], config: DriftConfig
) -> Performance:
    """Compare the labelled rows' metrics with the holdout's.

    A metric's bounds are those of resampled days, as in `comparison`. The difference to the holdout
    is tested one-sided with both uncertainties, and the level is divided by the metrics watched.

    Parameters
    ----------
    score
        The metrics, as in evaluate.py.
    rows
        The labelled predictions.
    holdout
        The metrics and bounds in the reference profile.
    config
        The metrics to watch, their tolerances, and how many labels it takes.
    """
    labelled = len(rows.target)
    coverage = labelled / rows.served if rows.served else 0.0
    told = f"{labelled:,} of {rows.served:,} predictions have a label ({coverage:.0%})"
    if labelled < config.min_labels:
        told = f"{told}; {config.min_labels:,} are needed to judge them"
        return Performance(state="unknown", labelled=labelled, coverage=coverage, sentences=[told])
    now = _metrics(score, rows)
    level = config.false_alarms / len(config.metrics)
    verdicts = [
        _verdict(name, watched, holdout.get(name), now.get(name), level)
        for name, watched in config.metrics.items()
    ]
    states = {state for state, _ in verdicts}
    return Performance(
        state="worse" if "worse" in states else "holds" if "holds" in states else "unknown",
        labelled=labelled,
        coverage=coverage,
        metrics=now,
        sentences=[sentence for _, sentence in verdicts] + [told],
        worse=[sentence for state, sentence in verdicts if state == "worse"],
    )


def _metrics(score: Score, rows: Labelled) -> dict[str, Metric]:
    clusters, count = rows.times.astype("datetime64[D]").astype(np.float64), len(rows.times)
    if len(np.unique(clusters)) < MIN_DAYS:
        clusters[np.argsort(rows.times, kind="stable")] = np.arange(count) * STRETCHES // count
    found = comparison.intervals(score, rows.target, rows.predicted, clusters, SEED)
    return {n: Metric(value=i.value, low=i.low, high=i.high) for n, i in found.items()}


def _verdict(
    name: str, watched: Watched, before: Metric | None, now: Metric | None, level: float
) -> tuple[str, str]:
    if before is None or now is None:
        where = "holdout" if before is None else "labelled rows"
        return "unknown", f"{name} is not defined on the {where}"
    worse = before.value - now.value if watched.better == "higher" else now.value - before.value
    error = np.hypot(before.high - before.low, now.high - now.low) / (2 * TWO_SIDED)
    p = float(special.ndtr(-worse / error)) if error > 0 else float(worse <= 0)
    alarm = worse >= watched.tolerance and p <= level
    told = (
        f"{name} {now.value:.3f} ({now.low:.3f} to {now.high:.3f}); the holdout had "
        f"{before.value:.3f} ({before.low:.3f} to {before.high:.3f})"
    )
    return ("worse" if alarm else "holds"), f"{told}{', worse than that' if alarm else ''}"


def reasons(performance: Performance | None, findings: Sequence[Finding]) -> list[str]:
    """Return what to tell whoever is called, the most serious first.

    A drop in performance outranks every change of the inputs. Broken data comes next, because it
    may explain the rest; then the predictions, then the features.
    """
    dropped = performance.worse if performance else []
    alarms = [finding for finding in findings if finding.alarm]
    alarms.sort(key=lambda finding: (not finding.quality, finding.check != "prediction"))
    return [*dropped, *(finding.sentence for finding in alarms)]
