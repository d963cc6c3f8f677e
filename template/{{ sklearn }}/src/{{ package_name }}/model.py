"""The model: its hyperparameters, how it is built and how it predicts.

Replace the estimator with any scikit-learn pipeline: nothing outside this file and train.py
knows which one it is. What it learns to do, the estimator and how its answer is read, is in
objective.py. If a new estimator is refused when loaded, review the type that the message names
and add it to TRUSTED_TYPES.
"""

from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from . import objective
from .config import Section
from .contract import CATEGORIES, NUMBERS

Model: TypeAlias = Pipeline

# The only types, beyond skops' own list, that a saved model may hold. It is kept in code, not
# with the model, so that an altered model cannot bless itself.
TRUSTED_TYPES = [
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]


class ModelConfig(Section):
    """configs/model.yaml: hyperparameters, under scikit-learn's names."""

    seed: int = 0
    learning_rate: float = Field(gt=0, le=1)
    max_iter: int = Field(ge=1, description="most trees")
    n_iter_no_change: int = Field(ge=1, description="stop after so many trees without progress")
    max_leaf_nodes: int = Field(ge=2)
    min_samples_leaf: int = Field(ge=1)
    l2_regularization: float = Field(ge=0)


def build(config: ModelConfig) -> Pipeline:
    """Return the untrained pipeline.

    Categories become numbers; those too rare to learn from share one. A category that training
    never saw becomes a missing value, which the trees handle like any other.
    """
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        min_frequency=20,
        max_categories=250,
    )
    columns = ColumnTransformer(
        [("categories", encoder, CATEGORIES), ("numbers", "passthrough", NUMBERS)]
    )
    estimator = objective.Estimator(
        learning_rate=config.learning_rate,
        max_iter=config.max_iter,
        early_stopping=True,
        n_iter_no_change=config.n_iter_no_change,
        max_leaf_nodes=config.max_leaf_nodes,
        min_samples_leaf=config.min_samples_leaf,
        l2_regularization=config.l2_regularization,
        categorical_features=list(range(len(CATEGORIES))),
        random_state=config.seed,
    )
    return Pipeline([("columns", columns), ("estimator", estimator)])


def predict(model: Model, features: pd.DataFrame) -> NDArray[np.float64]:
    """Return one answer per row, shape (rows,); objective.py says what it means."""
    return objective.answer(model, features)
