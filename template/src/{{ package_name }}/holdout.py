"""The frozen holdout: the rows that every version of a model is judged on.

Each registered version carries its holdout rows and a hash of their content. The hash that a
model's promotions are judged by is frozen with the first one, and moves only when asked to.
"""

import hashlib
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient

from .backend import TAG_JOINT
from .errors import RegistryError
from .registry import Version

TAG = f"holdout{TAG_JOINT}sha256"
FOLDER = "holdout"
FILE = "holdout.parquet"


def digest(rows: pd.DataFrame) -> str:
    """Return the SHA-256 over column names and values, whatever file they were read from."""
    content = hashlib.sha256()
    for name in rows.columns:
        column = rows[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            values = column.astype("datetime64[us]").to_numpy().astype("<i8").tobytes()
        elif pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy("<f8", na_value=np.nan).tobytes()
        else:
            values = "\0".join(column.astype("object").fillna("\1").astype(str)).encode()
        content.update(f"{name}\0{len(column)}\0".encode() + values)
    return content.hexdigest()


def log(path: Path) -> str:
    """Log the holdout to the active run and return the hash of its content."""
    mlflow.log_artifact(str(path), FOLDER)
    return digest(pd.read_parquet(path))


def fetch(client: MlflowClient, version: Version) -> pd.DataFrame:
    """Return the rows that a version was registered with.

    Raises
    ------
    RegistryError
        They cannot be read, or are not the rows that were registered.
    """
    label = f"the holdout of version {version.number}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(version.run_id, f"{FOLDER}/{FILE}", folder)
            rows = pd.read_parquet(path)
        except Exception as error:  # noqa: BLE001 - stores raise many kinds for a damaged file
            raise RegistryError(f"{label} cannot be read: {error}") from None
    if digest(rows) != version.tags.get(TAG):
        raise RegistryError(f"{label} is not the one it was registered with; register it again")
    return rows


def frozen(client: MlflowClient, name: str) -> str | None:
    """Return the hash of the frozen holdout, or None before the first promotion."""
    tag = client.get_registered_model(name).tags.get(TAG)
    return str(tag) if tag else None
