"""Logistic regression: its numbers have no gaps, and it has no seed."""

from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from . import objective
from .config import Section
from .contract import CATEGORIES, NUMBERS

Model: TypeAlias = Pipeline
TRUSTED_TYPES = ["numpy.dtype"]


class ModelConfig(Section):
    """configs/model.yaml."""

    strength: float = Field(gt=0)
    rare: int | None = Field(None, description="customers of fewer orders are one")


def build(config: ModelConfig) -> Pipeline:
    """Return the untrained pipeline."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(
        handle_unknown="ignore", min_frequency=config.rare, sparse_output=False
    )
    columns = ColumnTransformer(
        [("categories", categories, CATEGORIES), ("numbers", numbers, NUMBERS)]
    )
    return make_pipeline(columns, LogisticRegression(C=config.strength, max_iter=1000))


def predict(model: Model, features: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probability of yes, shape (rows,)."""
    return objective.answer(model, features)
