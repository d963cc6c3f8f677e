"""Promotion, rollback, racing and repair on real registries, not only on SQLite.

A project's own promotion tests run unchanged; TEST_TRACKING_URI points them elsewhere.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Render, project_environment
from registries import NoPostgresError, mlflow_server, postgres

pytestmark = [pytest.mark.executed, pytest.mark.xdist_group("registries")]


@dataclass
class Installed:
    """An installed project, and a Postgres beside it."""

    folder: Path
    variables: dict[str, str]
    database: str

    def promotion_tests(self, store: str) -> subprocess.CompletedProcess[str]:
        """Run the project's promotion tests against a store."""
        return subprocess.run(
            ["uv", "run", "--no-sync", "pytest", "-q", "src/flight_delays/tests/promotion"],
            cwd=self.folder / "project",
            env={**self.variables, "TEST_TRACKING_URI": store, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("registries")
    project = Path(shutil.copytree(render(), folder / "project"))
    variables = project_environment(project, folder)
    driver = ["uv", "pip", "install", "--python", ".venv", "psycopg[binary]"]
    for words in (["make", "install"], driver):
        subprocess.run(words, cwd=project, env=variables, check=True, capture_output=True)
    try:
        with postgres() as database:
            yield Installed(folder, variables, database)
    except NoPostgresError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"PROMOTION IS NOT TESTED ON POSTGRES AND MLFLOW'S SERVER: {error}")
    finally:
        shutil.rmtree(folder)


def test_promotion_holds_on_postgres(installed: Installed) -> None:
    done = installed.promotion_tests(installed.database)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr


@pytest.fixture(scope="module")
def registry(installed: Installed) -> Iterator[str]:
    """Run MLflow's server beside the project."""
    with mlflow_server(installed.database, installed.folder, installed.variables) as address:
        yield address


def test_a_bundle_is_fetched_over_mlflows_server(installed: Installed, registry: str) -> None:
    """The service's own reading of the REST API is held against the server that defines it."""
    variables = {**installed.variables, "MLFLOW_TRACKING_URI": registry}
    for words in (["make", "run"], ["make", "promote"], ["make", "bundle"]):
        done = subprocess.run(
            words,
            cwd=installed.folder / "project",
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    fetched = installed.folder / "project/bundle"
    record = json.loads((fetched / "version.json").read_text())
    registered = json.loads(
        (installed.folder / "project/artifacts/register/version.json").read_text()
    )
    assert (record["version"], record["sha256"]) == (registered["version"], registered["sha256"])


def test_promotion_holds_over_mlflows_server(installed: Installed, registry: str) -> None:
    done = installed.promotion_tests(registry)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
