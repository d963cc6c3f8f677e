"""Labels that arrived later: what really happened, keyed by the request and its row."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..contract import TARGET
from ..errors import DataError, first_line
from .records import Batch, key, locate

WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Labels:
    """The targets by key, and what of the file could not be used."""

    targets: "pd.Series[float]"
    excluded: Counter[str]

    def of(self, batch: Batch) -> NDArray[np.float64]:
        """Return each row's target, NaN where its label has not arrived."""
        return np.asarray(self.targets.reindex(batch.keys), np.float64)


def load(place: str) -> Labels:
    """Read a Parquet or CSV file, a path or a URI; where a row has several, the last one counts.

    It has the columns `request_id`, the target's name and, unless each request had one instance,
    `row`. An entity's own key is a good request id, if the caller sends it as such.

    Raises
    ------
    DataError
        The file is missing, unreadable or lacks a column.
    """
    table = _table(place)
    for name in ("request_id", TARGET.name):
        if name not in table.columns:
            raise DataError(f"labels in {place} have no column {name!r}; it joins or holds them")
    rows = _numbers(table["row"]) if "row" in table else np.zeros(len(table))
    targets = _numbers(table[TARGET.name])
    usable = table["request_id"].notna().to_numpy() & np.isfinite(rows) & np.isfinite(targets)
    ids = table["request_id"][usable].astype(str).to_numpy()
    found = pd.Series(targets[usable], key(ids, rows[usable].astype(np.int64)))
    kept = found[~found.index.duplicated(keep="last")]
    excluded = Counter(unusable=int((~usable).sum()), replaced=len(found) - len(kept))
    return Labels(kept, excluded)


def _table(place: str) -> pd.DataFrame:
    try:
        filesystem, path = locate(place)
        with filesystem.open_input_file(path) as file:
            if path.endswith(".csv"):
                return pd.read_csv(file, dtype={"request_id": str})
            return pd.read_parquet(file)
    except FileNotFoundError:
        raise DataError(f"there are no labels at {place}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"labels in {place} cannot be read: {first_line(error)}") from None


def _numbers(values: "pd.Series[Any]") -> NDArray[np.float64]:
    if not pd.api.types.is_numeric_dtype(values):
        words = values.astype(str).str.lower()
        values = words.map(WORDS).fillna(pd.to_numeric(words, errors="coerce"))
    return values.to_numpy(np.float64, na_value=np.nan)
