"""Ingest: from the raw file to a table that fits the schema.

This is where your own file is read. Copy what is in a warehouse, a bucket or behind an API into
a file first, or a folder of files: its digest says what a model has learned from, and whether that
has changed. A file that configs/data.yaml does not name is not seen to change. Return one row per
entity, with the time column, the features and the target of schema.py.
"""

from pathlib import Path

import pandas as pd

LATE_AFTER = 15  # minutes, the bound of the US Department of Transportation


def load(path: Path) -> pd.DataFrame:
    """Read the raw flights and say which arrived late.

    The delay itself is known only on arrival, so it is dropped once the label is made from it.
    """
    flights = pd.read_parquet(path)
    flights["date"] = pd.to_datetime(flights["date"])
    flights["late"] = flights["arrival_delay"] > LATE_AFTER
    return flights.drop(columns="arrival_delay")
