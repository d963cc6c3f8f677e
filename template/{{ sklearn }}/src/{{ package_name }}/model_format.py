"""How a scikit-learn model is written, logged and read: skops, which holds no code to run."""

from pathlib import Path

import mlflow.sklearn
import pandas as pd
from mlflow.models.model import ModelInfo

from .errors import RegistryError
from .frames import signature
from .model import TRUSTED_TYPES, Model

FILE = "model.skops"


def save(model: Model, folder: Path) -> None:
    """Write the model into a folder."""
    import skops.io as sio  # takes two seconds, which a run that skips every stage does not have

    sio.dump(model, folder / FILE)


def load(folder: Path) -> Model:
    """Read a model that `save` or `log` wrote.

    Raises
    ------
    RegistryError
        The file is missing, is not a skops file, or holds a type that model.py does not trust.
    """
    import skops.io as sio
    from skops.io.exceptions import UntrustedTypesFoundException

    path = folder / FILE
    try:
        model: Model = sio.load(path, trusted=TRUSTED_TYPES)
    except UntrustedTypesFoundException:
        untrusted = set(sio.get_untrusted_types(file=path)) - set(TRUSTED_TYPES)
        raise RegistryError(
            f"{path.name} holds types that model.py does not trust: {', '.join(sorted(untrusted))}"
        ) from None
    except Exception as error:  # noqa: BLE001
        # Whatever a damaged or planted file makes the reader raise, it is the file's fault.
        raise RegistryError(f"{path} is not a model that skops can read: {error}") from None
    return model


def log(model: Model, example: pd.DataFrame, requirements: list[str]) -> ModelInfo:
    """Log the model, its signature and pinned requirements to the active run."""
    info: ModelInfo = mlflow.sklearn.log_model(
        model,
        name="model",
        serialization_format="skops",
        skops_trusted_types=TRUSTED_TYPES,
        signature=signature(),
        input_example=example,
        pip_requirements=requirements,
    )
    return info
