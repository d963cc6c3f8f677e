"""Registration: from a trained model to a version that can be checked for ever after."""

import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo

from . import holdout, model_format, registry
from .creation import once
from .digests import tree_digest
from .export import export
from .model import Model
from .stages import dependency_versions

# A model in its run, and the tags of a version made of it.
Logged = tuple[ModelInfo, dict[str, str]]


def log(model: Model, example: pd.DataFrame, holdout_file: Path) -> Logged:
    """Log a model to the active run, with the bundle that a service loads and the holdout rows.

    The tags hold the SHA-256 of each.
    """
    requirements = [f"{library}=={number}" for library, number in dependency_versions().items()]
    logged = model_format.log(model, example, requirements)
    files = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    tags = {
        registry.DIGEST_TAG: tree_digest(files, registry.DOWNLOAD_NOTE),
        holdout.TAG: holdout.log(holdout_file),
        **log_bundle(model, pd.read_parquet(holdout_file)),
    }
    return logged, tags


def register(logged: Logged, name: str) -> dict[str, str]:
    """Register a logged model as a new version without an alias.

    Returns
    -------
    dict
        name, version, run_id, experiment_id, sha256, and the bundle's note, if it has one.
    """
    info, tags = logged
    client = MlflowClient()  # mlflow.register_model does the same, but prints
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise

    def create() -> str:
        uri, run_id = info.model_uri, info.run_id
        made = client.create_model_version(name, uri, run_id, tags, model_id=info.model_id)
        return str(made.version)

    def find() -> str | None:
        known = registry.versions(client, name)
        return next((each.number for each in known if each.run_id == info.run_id), None)

    number = once(create, find)
    run = mlflow.get_run(info.run_id)
    return {
        "name": name,
        "version": number,
        "run_id": run.info.run_id,
        "experiment_id": run.info.experiment_id,
        "sha256": tags[registry.DIGEST_TAG],
        "note": tags.get(registry.NOTE_TAG, ""),
    }


def log_bundle(model: Model, rows: pd.DataFrame) -> dict[str, str]:
    """Export the model, log its bundle to the active run, and return the version's tags for it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        description = export(model, rows, folder)
        mlflow.log_artifacts(str(folder), registry.BUNDLE)
        tags = {
            registry.BUNDLE_DIGEST_TAG: tree_digest(folder),
            registry.RUNTIME_TAG: description.runtime,
            **({registry.NOTE_TAG: description.note} if description.note else {}),
        }
    mlflow.set_tags(tags)
    return tags
