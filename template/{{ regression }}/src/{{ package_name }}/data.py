"""Ingest: from the raw file to a table that fits the schema.

This is where your own source goes: a warehouse query, a bucket, an API. Return one row per
entity, with the time column, the features and the target of schema.py.
"""

from pathlib import Path

import pandas as pd


def load(path: Path) -> pd.DataFrame:
    """Read the raw flights; the sample already holds the target, the delay on arrival."""
    flights = pd.read_parquet(path)
    flights["date"] = pd.to_datetime(flights["date"])
    return flights
