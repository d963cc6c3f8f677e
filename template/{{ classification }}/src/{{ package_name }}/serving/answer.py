"""What the service answers: the decision, its probability, and the model that made it."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ..registry import Version
from ..schema import THRESHOLD


class ModelInfo(BaseModel):
    """Which version of which model."""

    name: str
    version: str


class PredictResponse(BaseModel):
    """One answer per instance, in the order asked."""

    predictions: list[bool]
    probabilities: list[float]
    model: ModelInfo


def answer(scores: NDArray[np.float64], version: Version) -> PredictResponse:
    """Turn the probabilities of yes, shape (instances,), into the answer."""
    return PredictResponse(
        predictions=(scores >= THRESHOLD).tolist(),
        probabilities=scores.tolist(),
        model=ModelInfo(name=version.name, version=version.number),
    )
