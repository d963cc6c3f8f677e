"""What the service answers: the predicted values and the model that made them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram

from .source import Release

SIZES = [step * 10**power for power in range(5) for step in (1, 2, 5)]
SCORE = Histogram(
    "prediction_score",
    "The predicted value.",
    buckets=[*(-size for size in reversed(SIZES)), 0, *SIZES],
)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which version of which model."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class PredictResponse:
    """One answer per instance, in the order asked and the target's unit."""

    predictions: list[float]
    model: ModelInfo


def answer(scores: NDArray[np.float64], release: Release) -> PredictResponse:
    """Turn the predicted values, shape (instances,), into the answer."""
    return PredictResponse(
        predictions=scores.tolist(),
        model=ModelInfo(name=release.name, version=release.version),
    )


def count(scores: NDArray[np.float64]) -> None:
    """Record the predicted values of one request in the metrics."""
    for score in scores.tolist():
        SCORE.observe(score)
