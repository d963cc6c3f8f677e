"""What the model learns: to tell yes from no."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

Estimator = HistGradientBoostingClassifier


def answer(model: Pipeline, features: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probability of yes, shape (rows,)."""
    return np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)
