"""Where runs are recorded: connecting to the tracking store, and what every run says of itself."""

import contextlib
import fcntl
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from .errors import RegistryError
from .settings import ROOT, Settings
from .stages import dependency_versions, file_digest

SQLITE = "sqlite:///"


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what the tracking client raises into one sentence.

    Raises
    ------
    RegistryError
        The store could not be reached, is locked, or refused the request.
    """
    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RegistryError(
            f"the tracking store {uri} did not do what was asked: {reason}. "
            "Check MLFLOW_TRACKING_URI and that the store is up and writable"
        ) from error


def connect(settings: Settings) -> MlflowClient:
    """Point MLflow at the configured stores and return a client that has been answered once."""
    # Five attempts wait about a minute in all; MLflow's own default waits four.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = settings.mlflow_tracking_uri
    with explained(uri), _first_client_alone(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(settings.mlflow_registry_uri or uri)
        client = MlflowClient()
        _choose_experiment(client, settings)
    return client


@contextlib.contextmanager
def _first_client_alone(uri: str) -> Iterator[None]:
    """Let one process at a time create the SQLite tables: two at once would break each other."""
    if not uri.startswith(SQLITE):
        yield
        return
    path = Path(uri.removeprefix(SQLITE))
    with path.with_name(f".{path.name}.lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _choose_experiment(client: MlflowClient, settings: Settings) -> None:
    name = settings.mlflow_experiment_name
    if client.get_experiment_by_name(name) is None:
        embedded = settings.mlflow_tracking_uri.startswith(SQLITE)
        # An absolute location: a relative one would depend on where each command is started.
        location = (ROOT / "mlartifacts").as_uri() if embedded else None
        try:
            client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    mlflow.set_experiment(name)


def provenance(data: Path) -> dict[str, str]:
    """Return the tags that tie a run to its code, environment and data."""
    lock = ROOT / "uv.lock"
    versions = {f"version.{name}": number for name, number in dependency_versions().items()}
    return {
        "git.sha": _git("rev-parse", "HEAD") or "none",
        "git.dirty": str(bool(_git("status", "--porcelain"))).lower(),
        "lock.sha256": file_digest(lock) if lock.is_file() else "none",
        "data.sha256": file_digest(data),
        **versions,
    }


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def run_page(settings: Settings, experiment: str, run_id: str) -> str:
    """Return where to look at a run: its URL, or the path below a server started by `make ui`."""
    uri = settings.mlflow_tracking_uri
    server = uri if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
