"""A store that cannot be used is one line, and nothing is half-written."""

import sqlite3
import time
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from requests import HTTPError

from .. import digests, promote_model, registration, run_pipeline, tracking
from ..creation import RETRIES
from ..errors import RegistryError
from ..settings import Settings
from .conftest import Message, Project


def test_a_locked_store_is_one_line_and_changes_nothing(project: Project, message: Message) -> None:
    before = digests.tree_digest(project.outputs)
    holder = sqlite3.connect(project.folder / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    said = message(lambda: run_pipeline.main(["--force"]))
    holder.close()
    assert "the tracking store sqlite:///" in said
    assert "database is locked" in said
    assert digests.tree_digest(project.outputs) == before


def test_a_store_that_fails_during_registration_leaves_the_old_record(
    project: Project, message: Message
) -> None:
    def fail(*_: object) -> None:
        raise MlflowException("the disk is full")

    before = digests.tree_digest(project.outputs)
    project.patch.setattr(registration, "register", fail)
    assert "the disk is full" in message(lambda: run_pipeline.main(["register", "--force"]))
    assert digests.tree_digest(project.outputs) == before


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///{folder}/nowhere/mlflow.db",
        "sqlite:///{folder}/configs",
        "sqlite:///{folder}/uv.lock",
        "http://127.0.0.1:9",
        "carrier-pigeon://coop",
    ],
    ids=["missing", "a folder", "not a database", "unreachable", "unknown"],
)
def test_a_store_that_cannot_be_used_is_one_line_and_changes_nothing(
    project: Project, message: Message, uri: str
) -> None:
    before = digests.tree_digest(project.outputs)
    project.patch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=project.folder))
    said = message(lambda: run_pipeline.main([]))
    assert uri.format(folder=project.folder) in said
    assert "Check MLFLOW_TRACKING_URI" in said
    assert digests.tree_digest(project.outputs) == before


def test_a_password_in_the_address_is_never_shown(project: Project, message: Message) -> None:
    project.patch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:9")
    said = message(lambda: run_pipeline.main([]))
    assert "http://127.0.0.1:9" in said
    assert "s3cret" not in said


def test_what_accompanies_runs_lies_in_their_folder_where_they_have_one() -> None:
    foldered = Settings(model_name="a.b.c", mlflow_experiment_name="/Shared/flights/runs")
    assert tracking.beside_runs(foldered, "journal") == "/Shared/flights/a.b.c-journal"
    named = Settings(model_name="a.b.c", mlflow_experiment_name="team/runs")
    assert tracking.beside_runs(named, "journal") == "a.b.c-journal"


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("API request to endpoint /api failed with error code 401 != 200."),
        HTTPError("401 Client Error: Unauthorized for url: http://server/metrics.json."),
        MlflowException("These failed:\n## File a ##\n401 Client Error: Unauthorized for url: x"),
    ],
    ids=["request", "upload", "downloads"],
)
def test_a_refused_login_is_told_whatever_was_asked(error: Exception) -> None:
    said = "http://server did not do .* it answered 401: your login is not accepted"
    with pytest.raises(RegistryError, match=said), tracking.explained("http://server"):
        raise error


def test_artifacts_lie_beside_the_database(trained: Project) -> None:
    run = trained.client.get_run(trained.version()["run_id"])
    assert run.info.artifact_uri.startswith((trained.folder / "mlartifacts").as_uri())


def test_a_dead_server_is_told_in_seconds(project: Project, message: Message) -> None:
    project.patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    project.patch.delenv(RETRIES)
    pauses: list[float] = []
    project.patch.setattr(time, "sleep", pauses.append)
    said = message(lambda: promote_model.main(["status"]))
    assert 0 < sum(pauses) < 30  # four seconds; MLflow's own default takes 247
    assert "http://127.0.0.1:9 did not do what was asked: it does not answer (Connection" in said


def test_a_run_whose_creation_seemed_to_fail_is_taken_up_and_not_begun_twice(
    project: Project,
) -> None:
    begin = mlflow.start_run
    lost = iter([True])

    def begun_and_not_told(**words: Any) -> Any:
        run = begin(**words)
        if next(lost, False):
            mlflow.end_run("RUNNING")
            raise MlflowException("the answer was lost")
        return run

    client = tracking.connect(project.settings)
    experiment = tracking.ensure_experiment(
        client, project.settings, project.settings.mlflow_experiment_name
    )
    before = len(client.search_runs([experiment]))
    project.patch.setattr(mlflow, "start_run", begun_and_not_told)
    with tracking.open_run(project.settings.mlflow_tracking_uri):
        assert mlflow.active_run() is not None
    newest, *others = client.search_runs([experiment])
    assert (newest.info.status, len(others)) == ("FINISHED", before)
