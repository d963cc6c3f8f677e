"""Ingest: from the raw file to a table that fits the schema.

This is where your own file is read. Copy what is in a warehouse, a bucket or behind an API into
a file first, or a folder of files: its digest says what a model has learned from, and whether that
has changed. A file that configs/data.yaml does not name is not seen to change. Return one row per
entity, with the time column, the features and the target of schema.py.
"""

from pathlib import Path

import pandas as pd


def load(path: Path) -> pd.DataFrame:
    """Read the raw flights; the sample already holds the target, the delay on arrival."""
    flights = pd.read_parquet(path)
    flights["date"] = pd.to_datetime(flights["date"])
    return flights
