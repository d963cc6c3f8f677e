"""How a PyTorch model is written, logged and read: weights as tensors, all else as JSON.

Loading runs nothing but this package's own code. PyTorch's export format and MLflow's flavor of
it do not promise that: torch.export.load unpickles, and evaluates expressions found in the file.
"""

from pathlib import Path
from types import SimpleNamespace

import mlflow.models
import pandas as pd
import torch
from mlflow.models.model import ModelInfo
from pydantic import BaseModel, ValidationError

from .contract import CATEGORIES, NUMBERS
from .errors import RegistryError, first_line
from .frames import signature
from .model import Encoder, Model, ModelConfig, ready

FLAVOR = "pytorch_weights"
WEIGHTS = "weights.pt"
DESIGN = "model.json"


class Design(BaseModel):
    """All that rebuilds the untrained model."""

    encoder: Encoder
    config: ModelConfig


def save(model: Model, folder: Path) -> None:
    """Write the model into a folder."""
    design = Design(encoder=model.encoder, config=model.config)
    (folder / DESIGN).write_text(design.model_dump_json(indent=1) + "\n", encoding="utf-8")
    torch.save(model.state_dict(), folder / WEIGHTS)


def load(folder: Path) -> Model:
    """Read a model that `save` or `log` wrote.

    Raises
    ------
    RegistryError
        A file is missing, damaged or holds more than tensors, or fits another model.py or schema.
    """
    try:
        design = Design.model_validate_json((folder / DESIGN).read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise RegistryError(f"{folder / DESIGN} does not describe this model: {reason}") from None
    encoder = design.encoder
    if [*encoder.vocabularies] != CATEGORIES or [*encoder.means] != NUMBERS:
        raise RegistryError(f"{folder / DESIGN} has other features than schema.py: train again")
    torch.set_num_threads(design.config.threads)
    model = ready(Model(encoder, design.config))
    try:
        model.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    except Exception as error:
        # Whatever a damaged or planted file makes the reader raise, it is the file's fault.
        reason = first_line(error)
        raise RegistryError(f"{folder / WEIGHTS} are not this model's weights: {reason}") from error
    return model


def log(model: Model, example: pd.DataFrame, requirements: list[str]) -> ModelInfo:
    """Log the model, its signature and pinned requirements to the active run."""

    def save_model(path: str, mlflow_model: mlflow.models.Model) -> None:
        folder = Path(path)
        folder.mkdir()
        save(model, folder)
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        example.to_json(folder / "input_example.json", orient="split", index=False)
        mlflow_model.saved_input_example_info = {
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        }
        mlflow_model.signature = signature()
        mlflow_model.add_flavor(FLAVOR, pytorch_version=str(torch.__version__))
        mlflow_model.save(folder / "MLmodel")

    flavor = SimpleNamespace(save_model=save_model)
    logged: ModelInfo = mlflow.models.Model.log(None, flavor, name="model", flavor_name=FLAVOR)
    return logged
