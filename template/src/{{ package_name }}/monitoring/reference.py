"""The reference profile of a version: made when it is registered, fetched when it is monitored."""

import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from pydantic import ValidationError

from .. import comparison, evaluate, registry
from ..contract import FEATURE_NAMES, TARGET
from ..errors import DataError, RegistryError
from ..frames import model_frame
from ..schema import TIME
from .profile import Metric, Profile, build

ARTIFACT = "monitoring/profile.json"


def make(training: pd.DataFrame, held: pd.DataFrame, scores: NDArray[np.float64]) -> Profile:
    """Profile what the model has learned from, and what it predicts on rows it has not seen.

    Parameters
    ----------
    training
        The training rows, whose features are profiled.
    held
        The holdout rows. On training rows a model is surer than it ever will be again, so the
        predictions and the metrics are those of the holdout.
    scores
        What the model predicts for the holdout, shape (rows,).
    """
    days = held[TIME].to_numpy("datetime64[D]").astype(np.float64)
    target = held[TARGET.name].to_numpy(np.float64)
    found = comparison.intervals(evaluate.score, target, scores, days, seed=0)
    metrics = {n: Metric(value=i.value, low=i.low, high=i.high) for n, i in found.items()}
    learned, judged = (
        build(
            {str(name): values.to_numpy() for name, values in model_frame(rows).items()},
            predicted,
            rows[TIME].to_numpy("datetime64[us]"),
        )
        for rows, predicted in ((training, None), (held, scores))
    )
    return learned.model_copy(update={"prediction": judged.prediction, "metrics": metrics})


def log(profile: Profile) -> None:
    """Log a profile to the active run."""
    mlflow.log_text(profile.model_dump_json(), ARTIFACT)


def fetch(client: MlflowClient, version: registry.Version) -> Profile:
    """Return the profile that was logged with a version.

    Raises
    ------
    RegistryError
        It has none, as versions do that were registered before there was monitoring.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(version.run_id, ARTIFACT, folder)
        except (MlflowException, OSError):
            raise RegistryError(
                f"version {version.number} of {version.name!r} has no reference profile "
                f"({ARTIFACT} of its run); name a file with --reference, or register it again: "
                '`make run ARGS="--from register --force"`'
            ) from None
        return read(Path(path))


def read(path: Path) -> Profile:
    """Read a profile from a file.

    Raises
    ------
    DataError
        It is missing, no profile, or of other features than the schema's.
    """
    try:
        profile = Profile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"the profile {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{path} is no profile: {problem['loc']}: {problem['msg']}") from None
    if list(profile.columns) != FEATURE_NAMES:
        raise DataError(
            f"the profile {path.name} has other features than schema.py; check out the commit "
            "that the version was trained from (tag git.sha of its run)"
        )
    return profile
