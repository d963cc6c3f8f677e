"""The model a service answers with: fetched, checked and tried once, then only called."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import registry, tracking
from ..contract import example
from ..errors import RegistryError
from ..frames import to_frame
from ..model import Model, predict
from ..model_format import load
from ..settings import Settings


@dataclass(frozen=True)
class Predictor:
    """A loaded model and the version it is."""

    model: Model
    version: registry.Version

    def __call__(self, instances: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return one score per instance, shape (instances,)."""
        return predict(self.model, to_frame(instances))


def load_predictor(settings: Settings) -> Predictor:
    """Resolve the configured alias to a version, fetch that version and predict with it once.

    Raises
    ------
    RegistryError
        There is no such version, or its files are not the registered ones or do not predict.
    """
    client = tracking.connect(settings)
    with tracking.explained(settings.mlflow_tracking_uri):
        version = registry.resolve(client, settings.model_name, settings.model_stage)
        with tempfile.TemporaryDirectory() as folder:
            predictor = Predictor(load(registry.fetch(version, Path(folder))), version)
    if not np.isfinite(predictor([example()])).all():
        raise RegistryError(f"version {version.number} predicts no number for the schema's example")
    return predictor
