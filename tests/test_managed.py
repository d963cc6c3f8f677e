"""Databricks and SageMaker, as far as their clients go: real clients, against services played here.

`databricks_workspace.py` and `sagemaker_server.py` say what is played. What is shown is that the
project's code asks the right paths with the right headers and bodies, and takes the answers; not
that the services answer so.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import databricks_workspace
import pytest
import sagemaker_server
from conftest import Render, project_environment
from databricks_workspace import Workspace, workspace
from managed import RefusedError
from moto.server import ThreadedMotoServer
from registries import Installed, mlflow_server
from sagemaker_server import Server
from test_executed import FLIGHT, Executed, running
from test_registries import BETTER

GUESSED = {"DATABRICKS_CLIENT_SECRET": "guessed"}

pytestmark = [pytest.mark.executed, pytest.mark.xdist_group("managed")]


@dataclass
class Project(Installed):
    """With the service it records to, and the login that reaches it."""

    service: Any
    login: dict[str, str]

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the login, but for what is given."""
        return super().run(*words, **{**self.login, **variables})

    def refused(self, *words: str, **changed: str) -> str:
        """Run a command that fails with one sentence, and return that."""
        done = self.run(*words, **changed)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr
        (said,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        return said

    def version(self) -> dict[str, str]:
        record = (self.path / "artifacts/register/version.json").read_text()
        found: dict[str, str] = json.loads(record)
        return found


def install(render: Render, folder: Path, tracking: str) -> dict[str, str]:
    path = Path(shutil.copytree(render(tracking=tracking), folder / "project"))
    gates = path / "configs/gates.yaml"  # so that a second version may follow the first
    gates.write_text(gates.read_text().replace("min_improvement: 0.005", "min_improvement: 0"))
    variables = project_environment(path, folder)
    subprocess.run(["make", "install"], cwd=path, env=variables, check=True, capture_output=True)
    return variables


@pytest.fixture(scope="module")
def databricks(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("databricks")
    variables = install(render, folder, "databricks")
    with (
        mlflow_server(folder, variables) as server,
        workspace(server) as space,
    ):
        yield Project(folder, variables, space, space.login())
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sagemaker(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("sagemaker")
    variables = install(render, folder, "sagemaker")
    with ExitStack() as stack:
        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        moto.start()
        stack.callback(moto.stop)
        store = "http://{}:{}".format(*moto.get_host_and_port())
        keys = {"aws_access_key_id": "owner", "aws_secret_access_key": "owner"}
        bucket = boto3.client("s3", endpoint_url=store, region_name="us-east-1", **keys)
        bucket.create_bucket(Bucket=sagemaker_server.BUCKET)
        server = stack.enter_context(mlflow_server(folder, variables))
        played = stack.enter_context(sagemaker_server.tracking_server(server))
        yield Project(folder, variables, played, played.login(store))
    shutil.rmtree(folder)


def life(project: Project) -> None:
    """Train, promote, serve, ask, train better, promote, look, roll back."""
    project.done("make", "doctor")
    project.done("make", "run")
    assert "in its own pages" in project.refused("make", "ui")
    first = project.version()
    project.done("make", "promote")
    assert project.status()["stages"] == {"staging": "1", "production": "1"}
    served = Executed(project.path, {}, {**project.variables, **project.login})
    log = project.folder / "serve.log"
    with running(served, ["make", "serve"], log, PREDICTION_LOG="predictions") as service:
        assert service.get("/version")["model_version"] == first["version"]
        assert len(service.get("/predict", {"instances": [FLIGHT]})["predictions"]) == 1
    project.done("make", "run", f"ARGS={BETTER}")
    project.done("make", "promote")
    assert project.status()["stages"] == {"staging": "2", "production": "2"}
    words = ("monitor_model", "--json", "--log", "predictions", "--last", "1h", "--version", "1")
    for more in ([], ["--request"]):  # reads alone, then writes the window down
        watched = project.run("uv", "run", "--no-sync", *words, *more)
        assert watched.returncode == 11, watched.stdout + watched.stderr  # one row is too little
    project.done("make", "rollback")
    told = project.status()
    assert told["stages"]["production"] == "1"
    assert [version["quarantined"] is None for version in told["versions"]] == [False, True]
    assert told["attention"] == []
    project.done("make", "bundle")
    record = json.loads((project.path / "bundle/version.json").read_text())
    assert (record["version"], record["sha256"]) == ("1", first["sha256"])


def test_life_over_databricks(databricks: Project) -> None:
    life(databricks)
    space: Workspace = databricks.service
    catalog = space.models["main.ml.flights"]
    assert {number: v["status"] for number, v in catalog["versions"].items()} == {
        1: "READY", 2: "READY",
    }  # fmt: skip
    assert catalog["aliases"] == {"staging": "2", "production": "1"}
    assert "main.ml.flights_lock" not in space.models


def test_what_databricks_is_asked(databricks: Project) -> None:
    """Paths, headers and bodies: create run, log model, register, alias, read."""
    space: Workspace = databricks.service
    for call in space.asked("/api/"):
        assert re.fullmatch(r"Bearer token-\d+", call.headers["authorization"]), call.path
    experiments = space.asked("POST /api/2.0/mlflow/experiments/create")
    folder = "/Shared/flights"
    assert {call.body["name"] for call in experiments} == {
        f"{folder}/runs", f"{folder}/main.ml.flights-journal",
        f"{folder}/main.ml.flights-monitoring",
    }  # fmt: skip
    started = space.asked("POST /api/2.0/mlflow/runs/create")[0].body
    assert {"started.by", "started.attempt"} <= {tag["key"] for tag in started["tags"]}
    logged = space.asked("POST /api/2.0/mlflow/logged-models$")
    assert len(logged) == 2
    registered = space.asked("POST .*/unity-catalog/model-versions/create")[0].body
    assert registered["name"] == "main.ml.flights"
    assert registered["source"] == f"models:/{registered['model_id']}"
    tags = {tag["key"] for tag in registered["tags"]}
    assert {"sha256", "bundle_sha256", "bundle_runtime", "holdout_sha256"} <= tags
    files = {path.rpartition("/")[2] for path in space.files if path.startswith("/Models/main/ml")}
    assert {"MLmodel", "requirements.txt"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]
    finalized = space.asked("POST .*/unity-catalog/model-versions/finalize")
    assert [call.body["version"] for call in finalized] == ["1", "2"]
    moved = [call.body for call in space.asked("POST .*/registered-models/alias")]
    assert [(each["alias"], each["version"]) for each in moved] == [
        ("staging", "1"), ("production", "1"), ("staging", "2"), ("production", "2"),
        ("production", "1"),
    ]  # fmt: skip
    assert space.asked("GET .*/registered-models/alias")[0].query["alias"] == "production"


def test_doctor_says_what_databricks_lacks(databricks: Project) -> None:
    space: Workspace = databricks.service

    def missing(**changed: str) -> str:
        done = databricks.run("make", "doctor", **changed)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        return done.stdout

    said = missing(MODEL_NAME="flights", MLFLOW_EXPERIMENT_NAME="runs", MLFLOW_REGISTRY_URI="")
    assert "export MODEL_NAME=CATALOG.SCHEMA.flights" in said
    assert "export MLFLOW_EXPERIMENT_NAME=/Shared/flights/runs" in said
    assert "export MLFLOW_REGISTRY_URI=databricks-uc" in said
    assert "export MLFLOW_TRACKING_URI=databricks" in missing(MLFLOW_TRACKING_URI="")
    said = missing(**GUESSED)
    assert "invalid_client: Client authentication failed" in said
    assert said.rstrip().endswith("1 to fix")
    assert "databricks workspace mkdirs /Users/me" in missing(MLFLOW_EXPERIMENT_NAME="/Users/me/x")
    assert "CREATE SCHEMA main.other" in missing(MODEL_NAME="main.other.flights")
    held, space.granted = space.granted, {"USE_CATALOG"}
    said = missing()
    space.granted = held
    me = databricks_workspace.CLIENT
    assert f"GRANT USE SCHEMA ON SCHEMA main.ml TO `{me}`;" in said
    for privilege in ("CREATE MODEL", "APPLY TAG", "EXECUTE"):
        assert f"GRANT {privilege} ON SCHEMA main.ml TO `{me}`;" in said
    assert "USE CATALOG" not in said


def test_a_workspace_that_is_away_or_refuses_is_one_sentence(databricks: Project) -> None:
    away = databricks.refused("make", "status", DATABRICKS_HOST="http://127.0.0.1:9")
    assert "DATABRICKS_HOST=http://127.0.0.1:9 does not answer" in away
    wrong = databricks.refused("make", "status", **GUESSED)
    assert "invalid_client" in wrong
    assert "`make doctor`" in wrong
    nobody = {name: "" for name in databricks.login if name.startswith("DATABRICKS_")}
    assert "cannot configure default credentials" in databricks.refused("make", "status", **nobody)
    serve = ("uv", "run", "--no-sync", "python", "-m", "flight_delays.serving")
    assert "does not answer" in databricks.refused(*serve, DATABRICKS_HOST="http://127.0.0.1:9")


def test_a_job_signs_in_to_databricks_without_a_secret(databricks: Project) -> None:
    """As a workflow does: by GitHub's token for an audience, which the workspace exchanges."""
    space: Workspace = databricks.service
    asked = len(space.requests)
    job = {
        "DATABRICKS_CLIENT_SECRET": "", "DATABRICKS_AUTH_TYPE": "github-oidc",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{space.address}{databricks_workspace.GITHUB}?api=1",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
    }  # fmt: skip
    databricks.done("make", "status", **job)
    told = [r for r in space.requests[asked:] if r.path == databricks_workspace.GITHUB]
    audience = f"{space.address}/oidc/v1/token"
    assert {(r.headers["authorization"], r.query["audience"]) for r in told} == {
        ("Bearer of-the-job", audience)
    }


def test_a_token_that_expires_during_a_run_loses_nothing(databricks: Project) -> None:
    """Half-way through registration; the second try registers one version."""
    space: Workspace = databricks.service
    before = len(space.models["main.ml.flights"]["versions"])
    again = ("make", "run", f"ARGS={BETTER} --from register --force")
    asked = len(space.requests)
    databricks.done(*again)
    space.expires_after = (len(space.requests) - asked) // 3
    said = databricks.refused(*again)
    space.expires_after = None
    assert "it answered PERMISSION_DENIED: your login is not accepted" in said
    versions = space.models["main.ml.flights"]["versions"]
    assert [v["status"] for v in versions.values()] == ["READY"] * (before + 1)
    databricks.done(*again)
    assert len(versions) == before + 2


def test_life_over_sagemaker(sagemaker: Project) -> None:
    """Every request is signed for the server, or it would have been refused."""
    life(sagemaker)


def test_what_sagemaker_is_asked(sagemaker: Project) -> None:
    server: Server = sagemaker.service
    started = server.asked("POST /api/2.0/mlflow/runs/create")[0].body
    assert {"started.by", "started.attempt"} <= {tag["key"] for tag in started["tags"]}
    registered = server.asked("POST /api/2.0/mlflow/model-versions/create")[0].body
    assert registered["name"] == "flight_delays"
    assert registered["source"] == f"models:/{registered['model_id']}"
    moved = [call.body["alias"] for call in server.asked("POST .*/registered-models/alias")]
    assert moved == ["staging", "production", "staging", "production", "production"]
    assert server.asked("GET .*/registered-models/alias")[0].query["alias"] == "production"
    assert not server.asked("mlflow-artifacts")  # files go to the bucket


def test_doctor_says_what_sagemaker_lacks(sagemaker: Project) -> None:
    server: Server = sagemaker.service

    def doctor(**changed: str) -> str:
        return sagemaker.run("make", "doctor", **changed).stdout

    assert "nothing to fix" in doctor()
    assert "export MLFLOW_TRACKING_URI=arn:aws" in doctor(MLFLOW_TRACKING_URI="")
    assert "is no ARN of a tracking server" in doctor(MLFLOW_TRACKING_URI="arn:aws:s3:::team")
    other = sagemaker_server.ARN.replace(sagemaker_server.ACCOUNT, "999999999999")
    assert "the server is in 999999999999: sign in there" in doctor(MLFLOW_TRACKING_URI=other)
    server.status = "Stopped"
    assert "start-mlflow-tracking-server --tracking-server-name team" in doctor()
    server.status, server.version = "Created", "3.0"
    assert "the server has MLflow 3.0, this project 3." in doctor()
    server.version = "99.0"
    nobody = {name: "" for name in sagemaker.login if name.startswith("AWS_")}
    nobody["AWS_EC2_METADATA_DISABLED"] = "true"
    assert "nobody is signed in to AWS" in doctor(**nobody)


def test_a_server_of_sagemaker_that_is_away_or_refuses_is_one_sentence(sagemaker: Project) -> None:
    away = {"SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": "http://127.0.0.1:9"}
    assert "it does not answer" in sagemaker.refused("make", "status", **away)
    wrong = sagemaker.refused("make", "status", AWS_ACCESS_KEY_ID="AKIDSOMEBODY")
    assert "it answered PERMISSION_DENIED: your login is not accepted" in wrong
    assert "docs/sagemaker.md" in wrong


def test_a_session_of_aws_that_expired_loses_nothing(sagemaker: Project) -> None:
    server: Server = sagemaker.service
    before = sagemaker.status()
    server.expired = True
    assert "it answered PERMISSION_DENIED" in sagemaker.refused("make", "run", "ARGS=--force")
    server.expired = False
    assert sagemaker.status() == before


def test_unity_catalog_is_played_by_its_rules() -> None:
    """What the contract leans on: three levels, no dots in tags, one model of a name."""
    space = Workspace("http://127.0.0.1:9")
    create = "registered-models/create"
    with pytest.raises(RefusedError, match="all three levels"):
        space.catalog("POST", create, {"name": "flights"})
    dotted = {"name": "main.ml.x", "tags": [{"key": "bundle.sha256", "value": "1"}]}
    with pytest.raises(RefusedError, match="is not allowed"):
        space.catalog("POST", create, dotted)
    space.catalog("POST", create, {"name": "main.ml.x"})
    with pytest.raises(RefusedError, match="already exists"):
        space.catalog("POST", create, {"name": "main.ml.x"})
    with pytest.raises(RefusedError, match="Invalid access token"):
        space.let_in({"authorization": "Bearer token-0"})
