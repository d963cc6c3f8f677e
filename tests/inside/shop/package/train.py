"""Fit in one step, which has no progress to report."""

import pandas as pd

from .contract import TARGET
from .frames import model_frame
from .model import Model, ModelConfig, build
from .progress import TrainingProgress


def train(
    training: pd.DataFrame,
    validation: pd.DataFrame,
    config: ModelConfig,
    progress: TrainingProgress,
) -> Model:
    """Return the fitted pipeline."""
    del validation, progress
    return build(config).fit(model_frame(training), training[TARGET.name].to_numpy())
