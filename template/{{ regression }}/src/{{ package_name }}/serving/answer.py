"""What the service answers: the predicted values and the model that made them."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ..registry import Version


class ModelInfo(BaseModel):
    """Which version of which model."""

    name: str
    version: str


class PredictResponse(BaseModel):
    """One answer per instance, in the order asked and the target's unit."""

    predictions: list[float]
    model: ModelInfo


def answer(scores: NDArray[np.float64], version: Version) -> PredictResponse:
    """Turn the predicted values, shape (instances,), into the answer."""
    return PredictResponse(
        predictions=scores.tolist(),
        model=ModelInfo(name=version.name, version=version.number),
    )
