"""The life of a model over the tracking server that `tracking=server` gives, and on Postgres.

The server is started by the command in the rendered compose.yaml, with a real Postgres and moto's
S3. A project's own promotion tests run unchanged; TEST_TRACKING_URI points them elsewhere.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Render, project_environment
from registries import (
    FIRST,
    FRESH,
    Installed,
    NoPostgresError,
    Stack,
    dying,
    expiring,
    mlflow_stack,
    postgres,
)
from test_executed import FLIGHT, Executed, running

BETTER = "--set model.max_iter=40"  # on the holdout, by half a percent

pytestmark = [pytest.mark.executed, pytest.mark.xdist_group("registries")]


@dataclass
class OnPostgres(Installed):
    """With a Postgres beside it."""

    database: str

    def promotion_tests(self, store: str, **login: str) -> subprocess.CompletedProcess[str]:
        """Run the project's promotion tests against a store."""
        words = ["uv", "run", "--no-sync", "pytest", "-q", "src/flight_delays/tests/promotion"]
        return self.run(*words, **login, TEST_TRACKING_URI=store, OMP_NUM_THREADS="1")


@pytest.fixture(scope="module")
def installed(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnPostgres]:
    folder = tmp_path_factory.mktemp("registries")
    project = Path(shutil.copytree(render(tracking="server"), folder / "project"))
    variables = project_environment(project, folder)
    subprocess.run(["make", "install"], cwd=project, env=variables, check=True, capture_output=True)
    try:
        with postgres() as database:
            yield OnPostgres(folder, variables, database)
    except NoPostgresError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"PROMOTION IS NOT TESTED ON POSTGRES AND MLFLOW'S SERVER: {error}")
    finally:
        shutil.rmtree(folder)


def test_promotion_holds_on_postgres(installed: OnPostgres) -> None:
    done = installed.promotion_tests(installed.database)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr


@pytest.fixture(scope="module")
def stack(installed: Installed) -> Iterator[Stack]:
    """Run what compose.yaml describes beside the project."""
    with mlflow_stack(installed.folder, installed.variables) as started:
        yield started


@pytest.fixture(scope="module")
def moved(installed: Installed, stack: Stack) -> dict[str, str]:
    """Train and promote without a server, and move what came of it; return the version's record."""
    for target in ("run", "promote"):
        installed.done("make", target)
    before = installed.status()
    said = installed.done("make", "move-store", **stack.login(), **stack.database())
    assert "3 runs, 1 versions" in said
    assert installed.status(**stack.login()) == before
    record = (installed.folder / "project/artifacts/register/version.json").read_text()
    found: dict[str, str] = json.loads(record)
    return found


@pytest.fixture(scope="module")
def accounts(
    installed: Installed, stack: Stack, moved: dict[str, str]
) -> dict[str, dict[str, str]]:
    """Run what the documents say of people, and return their logins by name."""
    del moved  # whose experiments the trainer is let into
    page = (installed.folder / "project/docs/mlflow_server.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    installed.done("uv", "run", "--no-sync", "python", "-c", code, **stack.login())
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    told = re.findall(r'create_user\("(\w+)", "([^"]+)"\)', code)
    assert stack.query("select username from users order by 1") == ["admin", "reader", "trainer"]
    return {user[0]: stack.login() | dict(zip(names, user, strict=True)) for user in told}


def test_what_was_moved_passes_the_gates_and_is_not_moved_twice(
    installed: Installed,
    stack: Stack,
    accounts: dict[str, dict[str, str]],
    moved: dict[str, str],
) -> None:
    words = ("promote_model", "evaluate", "--version", moved["version"], "--json")
    told = installed.done("uv", "run", "--no-sync", *words, **accounts["reader"])
    assert json.loads(told)["sha256"] == moved["sha256"]
    again = installed.run("make", "move-store", **stack.login(), **stack.database())
    assert "error: the server holds 3 runs already; move into a new one" in again.stderr
    assert again.returncode != 0


def test_compose_file_is_valid(render: Render) -> None:
    compose = render(tracking="server") / "deploy/mlflow/compose.yaml"
    check = Path(sys.executable).with_name("check-jsonschema")
    words = [str(check), "--builtin-schema", "vendor.compose-spec", str(compose)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_file_gives_no_secret_a_default(render: Render) -> None:
    compose = (render(tracking="server") / "deploy/mlflow/compose.yaml").read_text()
    secrets = [line for line in compose.splitlines() if re.search("(PASSWORD|SECRET_KEY):", line)]
    assert len(secrets) == 6
    assert [line for line in secrets if not re.search(r": \$\{[A-Z_]+:\?[^}]+\}$", line)] == []


def test_images_are_pinned(render: Render) -> None:
    compose = (render(tracking="server") / "deploy/mlflow/compose.yaml").read_text()
    images = re.findall(r"(?:image: |FROM )([\w./-]+):(.+)", compose)
    assert len(images) == 4
    assert [name for name, tag in images if not re.search(r"^v?\d|^\$\{\w+:\?", tag)] == []


def test_nobody_is_let_in_without_the_password(installed: Installed, stack: Stack) -> None:
    wrong = {**stack.login(), "MLFLOW_TRACKING_PASSWORD": "guessed"}
    done = installed.run("uv", "run", "--no-sync", "python", "pipelines/run_pipeline.py", **wrong)
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"error: the tracking store {stack.address} did not do")
    assert "it answered 401" in said
    assert "MLFLOW_TRACKING_PASSWORD" in said
    assert done.returncode == 1
    serve = ["uv", "run", "--no-sync", "python", "-m", "flight_delays.serving"]
    done = installed.run(*serve, **wrong)
    told = done.stderr.splitlines()[-1]
    assert told.endswith("answered 401 Unauthorized; export its credentials")
    assert done.returncode != 0


def test_pages_that_rebind_their_name_are_refused(stack: Stack) -> None:
    request = urllib.request.Request(stack.address, headers={"Host": "elsewhere.example"})  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=30)  # noqa: S310


def test_a_bundle_is_fetched_over_mlflows_server(
    installed: Installed, stack: Stack, moved: dict[str, str]
) -> None:
    """The service's own reading of the REST API is held against the server that defines it."""
    installed.done("make", "bundle", **stack.login())
    record = json.loads((installed.folder / "project/bundle/version.json").read_text())
    assert (record["version"], record["sha256"]) == (moved["version"], moved["sha256"])


def test_what_is_served_from_the_server_is_monitored_against_it(
    installed: Installed, accounts: dict[str, dict[str, str]], moved: dict[str, str]
) -> None:
    variables = {**installed.variables, **accounts["reader"]}
    project = Executed(installed.folder / "project", {}, variables)
    log = installed.folder / "serve.log"
    with running(project, ["make", "serve"], log, PREDICTION_LOG="predictions") as service:
        assert service.get("/version")["model_version"] == moved["version"]
        assert len(service.get("/predict", {"instances": [FLIGHT]})["predictions"]) == 1
    words = ("monitor_model", "--json", "--log", "predictions", "--last", "1h")
    done = installed.run("uv", "run", "--no-sync", *words, **accounts["trainer"])
    assert done.returncode == 11, done.stdout + done.stderr  # one row is too little to judge
    report = json.loads(done.stdout)
    assert (report["log"]["rows"], report["verdict"]) == (1, "insufficient")


def test_who_may_only_read_registers_nothing(
    installed: Installed, accounts: dict[str, dict[str, str]]
) -> None:
    refused = installed.run("make", "run", "ARGS=register --force", **accounts["reader"])
    assert "it answered 403" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.returncode != 0


# Where the server is killed, and what is run again.
KILLED = [
    ("POST .*mlflow/runs/log-", ["run", f"ARGS=--from train {BETTER}"]),
    ("PUT .*mlflow-artifacts", ["run", f"ARGS=--from register --force {BETTER}"]),
    ("POST .*registered-models/alias", ["promote", "ARGS=--to staging"]),
]


def test_a_server_killed_in_the_middle_loses_nothing_and_a_second_try_completes(
    installed: Installed,
    stack: Stack,
    accounts: dict[str, dict[str, str]],
    moved: dict[str, str],
) -> None:
    """One story, as each kill needs what the second try before it left."""
    for at, words in KILLED:
        survives(installed, stack, accounts["trainer"], at, words)
    left, login = open_runs(stack), stack.login()
    assert left > 0
    assert f"{left} left open" in installed.done("make", "sweep", **login)
    assert open_runs(stack) == 0
    gates = installed.folder / "project/configs/gates.yaml"
    gates.write_text(gates.read_text().replace("min_improvement: 0.005", "min_improvement: 0"))
    installed.done("make", "promote", "ARGS=--to production", **login)
    _, named = recorded(stack)
    assert named["production"] == named["staging"] != moved["version"]
    installed.done("make", "rollback", **login)
    assert recorded(stack)[1]["production"] == moved["version"]


def survives(
    installed: Installed, stack: Stack, login: dict[str, str], at: str, words: list[str]
) -> None:
    """Kill the server at a request of a command; start it, and see the command complete."""
    before, runs = recorded(stack), open_runs(stack)
    with dying(stack, at) as address:
        quick = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
        died = installed.run("make", *words, **{**login, **quick})
    assert not stack.runs(), f"nobody asked for {at}\n{died.stdout}\n{died.stderr}"
    (said,) = (line for line in died.stderr.splitlines() if line.startswith("error: "))
    assert "it does not answer" in said or "run `promote_model break-lock`" in said
    assert "Traceback" not in died.stdout + died.stderr
    assert died.returncode != 0
    stack.start("--upgrade" if at.startswith("PUT") else "")
    assert recorded(stack) == before
    if words[0] == "promote":
        mended = installed.done("uv", "run", "--no-sync", "promote_model", "break-lock", **login)
        assert "abandoned" in mended
    assert open_runs(stack) == runs + (words[0] == "run")
    installed.done("make", *words, **login)
    (versions, aliases), (versions_before, aliases_before) = recorded(stack), before
    if words[0] == "promote":
        assert versions == versions_before
        assert aliases == {**aliases_before, "staging": versions[-1].partition("|")[0]}
    else:
        assert versions[:-1] == versions_before
        assert aliases == aliases_before


# Where a token runs out: while a model trains, while its files are uploaded, and at the very end.
EXPIRED = ["POST .*mlflow/runs/log-", "PUT .*mlflow-artifacts", "POST .*model-versions/create"]


@pytest.mark.usefixtures("moved")
def test_a_token_that_runs_out_is_told_and_with_a_fresh_one_the_same_command_completes(
    installed: Installed, stack: Stack
) -> None:
    command = ("make", "run", "ARGS=--from train --set model.max_iter=45")
    before, runs = recorded(stack), open_runs(stack)
    for at in EXPIRED:
        with expiring(stack, at) as address:
            refused = installed.run(*command, MLFLOW_TRACKING_URI=address, **FIRST)
        (said,) = (line for line in refused.stderr.splitlines() if line.startswith("error: "))
        assert f"{address} did not do what was asked: it answered 401: your login" in said
        assert "Traceback" not in refused.stdout + refused.stderr
        assert refused.returncode != 0
        assert recorded(stack) == before
    with expiring(stack, at="") as address:
        installed.done(*command, MLFLOW_TRACKING_URI=address, **FRESH)
    (versions, aliases), (versions_before, aliases_before) = recorded(stack), before
    assert versions[:-1] == versions_before
    assert aliases == aliases_before
    # Nobody could be told that these runs ended: `make sweep` closes them.
    assert open_runs(stack) == runs + len(EXPIRED)


def recorded(stack: Stack) -> tuple[list[str], dict[str, str]]:
    """Return the versions, and those that the aliases name, as the database has them."""
    versions = stack.query("select version, run_id, source from model_versions order by 1")
    named = stack.query("select alias, version from registered_model_aliases")
    return versions, dict(line.split("|") for line in named)


def open_runs(stack: Stack) -> int:
    """Return how many runs nobody has ended."""
    (count,) = stack.query("select count(*) from runs where status = 'RUNNING'")
    return int(count)


def test_promotion_holds_over_mlflows_server(installed: OnPostgres, stack: Stack) -> None:
    done = installed.promotion_tests(stack.address, **stack.login())
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr


def test_files_passed_through_the_server_and_no_client_asked_the_bucket(
    stack: Stack, moved: dict[str, str]
) -> None:
    """A client that is given a signed address of the bucket would have to reach it."""
    with urllib.request.urlopen(f"{stack.store}/mlflow?list-type=2", timeout=30) as page:  # noqa: S310
        listed = page.read().decode()
    assert f"{moved['run_id']}/artifacts/bundle/" in listed
    told = stack.log.read_text()
    assert "GET /mlflow/" in told  # moto's log, of what the server asked for
    assert re.findall("X-Amz-Signature|/presigned/|/mpu/", told) == []


@pytest.mark.usefixtures("moved")
def test_files_pass_through_the_server_to_a_bucket_of_google_too(
    installed: Installed, stack: Stack
) -> None:
    """The last one, as the server ends with it. A client's own way leads to where nobody knocks."""
    installed.done("uv", "pip", "install", "--python", ".venv", "google-cloud-storage")
    with stack.on_google() as store, socket.create_server(("127.0.0.1", 0)) as door:
        client = {
            **stack.login(), "MLFLOW_EXPERIMENT_NAME": "google", "MODEL_NAME": "google",
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{door.getsockname()[1]}",
        }  # fmt: skip
        installed.done("make", "run", "ARGS=--from train --force", **client)
        installed.done("make", "promote", "ARGS=--to staging", **client)
        installed.done("make", "bundle", **client, MODEL_STAGE="staging")
        with urllib.request.urlopen(f"{store}/storage/v1/b/mlflow/o", timeout=30) as page:  # noqa: S310
            files = {each["name"] for each in json.load(page)["items"]}
        door.setblocking(False)
        with pytest.raises(BlockingIOError):
            door.accept()
    project = installed.folder / "project"
    version = json.loads((project / "artifacts/register/version.json").read_text())
    served = json.loads((project / "bundle/version.json").read_text())
    assert (served["version"], served["sha256"]) == (version["version"], version["sha256"])
    kept = f"{version['experiment_id']}/{version['run_id']}/artifacts/bundle"
    assert {f"{kept}/bundle.json", f"{kept}/model.onnx"} <= files
    assert "X-Goog-Signature" not in stack.log.read_text()
