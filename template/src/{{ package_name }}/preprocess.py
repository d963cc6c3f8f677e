"""Preprocess: divide the validated rows by time.

What the model needs beyond that (encoding, scaling, imputation) belongs in model.py, so that it
is trained, saved and served as part of the model.
"""

from typing import NamedTuple

import pandas as pd

from .config import DataConfig
from .schema import TIME


class Splits(NamedTuple):
    """Rows to fit on, rows to tune on, and the latest rows, which only evaluation sees."""

    train: pd.DataFrame
    validation: pd.DataFrame
    holdout: pd.DataFrame


def split(rows: pd.DataFrame, config: DataConfig) -> Splits:
    """Divide by day, never at random: a model is always used on days after those it saw."""
    rows = rows.sort_values(TIME, kind="stable", ignore_index=True)
    config = config.dated(rows[TIME].max().date())
    train_end = pd.Timestamp(config.train_until)
    validation_end = pd.Timestamp(config.validation_until)
    day = rows[TIME].dt.normalize()
    return Splits(
        train=rows[day <= train_end],
        validation=rows[(day > train_end) & (day <= validation_end)],
        holdout=rows[day > validation_end],
    )
