"""What the service answers: the decision, its probability, and the model that made it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Histogram

from ..schema import THRESHOLD
from .source import Release

PREDICTIONS = Counter("predictions_total", "Instances, by what was predicted.", ["outcome"])
YES, NO = PREDICTIONS.labels("true"), PREDICTIONS.labels("false")
SCORE = Histogram(
    "prediction_score", "The probability of yes.", buckets=[n / 10 for n in range(1, 11)]
)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which version of which model."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class PredictResponse:
    """One answer per instance, in the order asked."""

    predictions: list[bool]
    probabilities: list[float]
    model: ModelInfo


def answer(scores: NDArray[np.float64], release: Release) -> PredictResponse:
    """Turn the probabilities of yes, shape (instances,), into the answer."""
    return PredictResponse(
        predictions=(scores >= THRESHOLD).tolist(),
        probabilities=scores.tolist(),
        model=ModelInfo(name=release.name, version=release.version),
    )


def count(scores: NDArray[np.float64]) -> None:
    """Record the probabilities of one request in the metrics."""
    for score in scores.tolist():
        (YES if score >= THRESHOLD else NO).inc()
        SCORE.observe(score)
