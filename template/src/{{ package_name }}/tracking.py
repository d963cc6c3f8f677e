"""Where runs are recorded: connecting to the tracking store, and what every run says of itself."""

import contextlib
import fcntl
import logging
import os
import platform
import re
import subprocess
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from . import backend
from .creation import RETRIES, once, unrepeated
from .digests import file_digest, path_digest
from .errors import RegistryError, first_line
from .settings import ROOT, Settings, shown
from .stages import dependency_versions

SQLITE = "sqlite:///"
REFUSED = {"CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED", "UNAUTHENTICATED"}
METRICS_PER_BATCH = 1000  # the most that a tracking server takes at once
SECONDS_BETWEEN_BATCHES = 2.0
# Which checkout of which machine started a run, and which attempt to start it this was.
STARTED_BY, ATTEMPT = "started.by", "started.attempt"
# What these say below their level is either told better by our own output or not for users: that
# tables were created, that uv.lock was found, that an environment made by uv has no pip, that a new
# version is waited for.
QUIET = {
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.WARNING,
    "mlflow.store.model_registry.abstract_store": logging.WARNING,
    "mlflow.tracking.fluent": logging.WARNING,
    "mlflow.utils.environment": logging.ERROR,
    "mlflow.utils.uv_utils": logging.WARNING,
}


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
        reason = first_line(error)
        advice = "Check MLFLOW_TRACKING_URI and that the store is up and writable"
        if "Max retries exceeded" in reason:
            cause = re.search(r"\[Errno -?\d+\] ([\w ]+)|(timed out|too many \d+ error)", reason)
            what = next(filter(None, cause.groups())) if cause else "away"
            reason = f"it does not answer ({what})"
        elif refused := _refusal(error):
            reason = (
                f"it answered {refused}: your login is not accepted, not any more, or not for this"
            )
            advice = backend.LOGIN
        said = f"the tracking store {uri} did not do what was asked: {reason}. {advice}"
        raise RegistryError(said.replace(uri, shown(uri))) from error


def _refusal(error: Exception) -> str | None:
    """Return by which code or word a store refused a login, if it did."""
    if found := re.search(r"\b(401|403) (?:!=|Client Error)", str(error)):
        return found[1]
    code = str(getattr(error, "error_code", ""))
    return code if code in REFUSED else None


@contextlib.contextmanager
def open_run(uri: str) -> Iterator[None]:
    """Record a run, and close it as failed whatever ends it early."""
    tags = {STARTED_BY: checkout(), ATTEMPT: uuid.uuid4().hex}

    def started() -> Run | None:
        wanted = f"tags.`{ATTEMPT}` = '{tags[ATTEMPT]}'"
        found = mlflow.search_runs(filter_string=wanted, output_format="list")
        return mlflow.start_run(run_id=found[0].info.run_id) if found else None

    try:
        with explained(uri):
            once(lambda: mlflow.start_run(tags=tags), started)
        yield
    except BaseException:
        with contextlib.suppress(Exception), unrepeated():  # the first error is the one to tell
            mlflow.end_run("FAILED")
        raise
    with explained(uri):
        mlflow.end_run()


def checkout() -> str:
    """Return which folder of which machine this is."""
    return f"{platform.node()}:{ROOT}"


def sweep(client: MlflowClient, settings: Settings, hours: float) -> list[str]:
    """Close the runs of killed processes and return their ids.

    The caller holds this checkout's lock, so a run of this checkout that is open has lost its
    process. Nothing is known of other machines: of theirs, and of other checkouts, only runs that
    started more than `hours` ago are closed.
    """
    experiment = ensure_experiment(client, settings, settings.mlflow_experiment_name)
    latest = time.time() * 1000 - hours * 3_600_000
    closed = []
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if run.data.tags.get(STARTED_BY) == checkout() or run.info.start_time < latest:
            client.set_terminated(run.info.run_id, "KILLED")
            closed.append(str(run.info.run_id))
    return closed


def connect(settings: Settings, retries: int = 2, timeout: int = 5) -> MlflowClient:
    """Point MLflow at the configured stores and return a client that has been answered once.

    By default a server that is down is told in about four seconds. Five retries take a minute, and
    MLflow's own default takes four.
    """
    os.environ.setdefault(RETRIES, str(retries))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout))
    # With a server it prints the address of each run that ends, into what `--json` prints as well.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    uri = settings.mlflow_tracking_uri
    backend.prepare(uri, retries)
    with explained(uri), _first_client_alone(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(settings.mlflow_registry_uri or uri)
        client = MlflowClient()
        experiment = ensure_experiment(client, settings, settings.mlflow_experiment_name)
        mlflow.set_experiment(experiment_id=experiment)
    return client


@contextlib.contextmanager
def _first_client_alone(uri: str) -> Iterator[None]:
    """Let one process at a time create the SQLite tables: two at once would break each other."""
    if not uri.startswith(SQLITE):
        yield
        return
    path = _database(uri)
    with path.with_name(f".{path.name}.lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A file that cannot be used is found out here: MLflow would try it for minutes.
        engine = create_engine(uri)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA schema_version")
        engine.dispose()
        yield


def _database(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).resolve()


def ensure_experiment(client: MlflowClient, settings: Settings, name: str) -> str:
    """Return the id of an experiment, creating it if it does not exist."""
    uri = settings.mlflow_tracking_uri
    # An absolute location: a relative one would depend on where each command is started.
    beside = _database(uri).with_name("mlartifacts").as_uri() if uri.startswith(SQLITE) else None
    found = find_experiment(client, name)
    if not found:
        try:
            return str(client.create_experiment(name, artifact_location=beside))
        except MlflowException as error:
            found = find_experiment(client, name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not found:
                raise
    return found


def find_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, or nothing where there is none."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id) if found else ""


def beside_runs(settings: Settings, what: str) -> str:
    """Return the name of an experiment of the model's own: `<model>-<what>`.

    Where experiments lie in folders, and are named by a path, it is beside that of the runs.
    """
    name = f"{settings.model_name}-{what}"
    runs = PurePosixPath(settings.mlflow_experiment_name)
    return str(runs.with_name(name)) if runs.is_absolute() else name


class StepLog:
    """Logs training steps to the active run, if there is one, a few seconds' worth at a time.

    A request for each step would take longer than the step.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._points: list[Metric] = []
        self._written = time.monotonic()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step."""
        now = time.time_ns() // 1_000_000
        self._points += [Metric(name, value, now, step) for name, value in metrics.items()]
        if time.monotonic() - self._written > SECONDS_BETWEEN_BATCHES:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written yet."""
        run = mlflow.active_run()
        if run is not None:
            with explained(self._uri):
                for start in range(0, len(self._points), METRICS_PER_BATCH):
                    batch = self._points[start : start + METRICS_PER_BATCH]
                    MlflowClient().log_batch(run.info.run_id, batch)
        self._points, self._written = [], time.monotonic()


def log_rows(rows: pd.DataFrame, source: Path, target: str, name: str) -> None:
    """Log a table that the active run used, with its digest and where it came from."""
    with warnings.catch_warnings():
        # MLflow finds its own local source twice and warns that it takes one of the two.
        warnings.filterwarnings("ignore", "The specified dataset source", UserWarning)
        table = from_pandas(rows, str(source), target, name)
    mlflow.log_input(table, context=name)


def provenance(data: Path) -> dict[str, str]:
    """Return the tags that tie a run to its code, environment and data."""
    lock = ROOT / "uv.lock"
    versions = {f"version.{name}": number for name, number in dependency_versions().items()}
    return {
        "git.sha": _git("rev-parse", "HEAD") or "none",
        "git.dirty": str(bool(_git("status", "--porcelain"))).lower(),
        "lock.sha256": file_digest(lock) if lock.is_file() else "none",
        "data.sha256": path_digest(data),
        "version.python": platform.python_version(),
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
    """Return where to look at a run, as well as that can be said.

    On MLflow's own server that is a URL, and without a server one of that which `make ui` starts.
    """
    uri = shown(settings.mlflow_tracking_uri).rstrip("/")
    server = uri if uri.startswith("http") else "http://127.0.0.1:5000"
    own = f"{server}/#/experiments/{experiment}/runs/{run_id}"
    return backend.run_page(uri, experiment, run_id) or own
