"""Train: fit the model on the training rows and stop where the validation rows say so."""

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
    """Return the fitted pipeline; the same rows and seed give the same one.

    Boosting stops early on the validation rows, which are later than the training rows, instead
    of on a random part of the latter, which would flatter it.
    """
    model = build(config)
    columns, estimator = model.named_steps["columns"], model.named_steps["estimator"]
    estimator.fit(
        columns.fit_transform(model_frame(training)),
        training[TARGET.name].to_numpy(),
        X_val=columns.transform(model_frame(validation)),
        y_val=validation[TARGET.name].to_numpy(),
    )
    losses = zip(-estimator.train_score_, -estimator.validation_score_, strict=True)
    for trees, (fitted, validated) in enumerate(losses):
        metrics = {"train_loss": float(fitted), "validation_loss": float(validated)}
        progress.report(trees, estimator.n_iter_, metrics)
    return model
