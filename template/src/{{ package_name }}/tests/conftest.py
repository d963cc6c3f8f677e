"""The story: a slice of the data is a project of its own, trained once, put to work and served."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from .. import config, pipeline, run_pipeline, tracking
from ..errors import run_command
from ..model import ModelConfig
from ..serving.app import application
from ..serving.board import Board, publish_first
from ..settings import ROOT, Settings

Change = Callable[[pd.DataFrame], pd.DataFrame]
Message = Callable[[Callable[[], Any]], str]
ROWS = 1500


@dataclass
class Project:
    """A project in a folder of its own, with its own store; what is patched ends with it."""

    folder: Path
    settings: Settings
    patch: pytest.MonkeyPatch

    @property
    def raw(self) -> Path:
        """The raw data."""
        return self.folder / config.load("data", config.DataConfig).path

    @property
    def outputs(self) -> Path:
        """Where the stages' outputs are."""
        return self.folder / "artifacts"

    @property
    def client(self) -> MlflowClient:
        """A client of its store."""
        return MlflowClient(self.settings.mlflow_tracking_uri, self.settings.mlflow_tracking_uri)

    def version(self) -> dict[str, str]:
        """The version that the last run registered."""
        found: dict[str, str] = json.loads((self.outputs / "register/version.json").read_text())
        return found

    def promote(self) -> None:
        """Put the last version into production, past the gates."""
        name, number = self.settings.model_name, self.version()["version"]
        self.client.set_registered_model_alias(name, "production", number)

    def pipeline(self, *overrides: str) -> pipeline.Pipeline:
        """The pipeline over its configuration."""
        return pipeline.Pipeline(
            self.settings,
            config.load("data", config.DataConfig, overrides),
            config.load("model", ModelConfig, overrides),
        )

    def python(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start Python with this project's settings, whatever .env says."""
        known = {k.upper(): str(v) for k, v in self.settings.model_dump().items() if v is not None}
        return subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **known, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def standing_in(folder: Path) -> Iterator[Project]:
    """Make commands act on the project in a folder, whatever the environment and .env say."""
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(name.upper(), raising=False)
        patch.setitem(Settings.model_config, "env_file", None)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}?timeout=1")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        for module in (config, pipeline, tracking):
            patch.setattr(module, "ROOT", folder)
        yield Project(folder, Settings(), patch)


def rewrite(source: Path, target: Path, change: Change) -> None:
    """Change the rows of a raw data file."""
    if source.suffix == ".csv":
        change(pd.read_csv(source)).to_csv(target, index=False)
    else:
        change(pd.read_parquet(source)).to_parquet(target)


def _some(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sample(min(ROWS, len(rows)), random_state=0)


def slice_data(folder: Path) -> None:
    """Configure a project as this one, on some of its rows, wherever they are."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    source = ROOT / config.load("data", config.DataConfig).path
    target = folder / "raw" / source.name
    target.parent.mkdir()
    rewrite(source, target, _some)
    configured = folder / "configs" / "data.yaml"
    text = re.sub(r"(?m)^path:.*", f"path: raw/{source.name}", configured.read_text())
    configured.write_text(text)


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run once."""
    folder: Path = tmp_path_factory.mktemp("trained")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=start"], check=True)
    (folder / "uv.lock").write_text("version = 1\n")
    slice_data(folder)
    with standing_in(folder):
        assert run_pipeline.main([]) == 0
    return folder


@pytest.fixture
def trained(trained_folder: Path) -> Iterator[Project]:
    """The trained project, to be looked at and not changed."""
    with standing_in(trained_folder) as project:
        yield project


@pytest.fixture
def project(trained_folder: Path, tmp_path: Path) -> Iterator[Project]:
    """A copy of the trained project, to be changed and broken."""
    shutil.copytree(trained_folder, tmp_path, dirs_exist_ok=True)
    with standing_in(tmp_path) as copy:
        yield copy


@pytest.fixture(scope="session")
def service(trained_folder: Path) -> Iterator[TestClient]:
    """The trained project's service, with its version in production."""
    with standing_in(trained_folder) as project:
        project.promote()
        with client_of(project.settings, trained_folder / "service") as client:
            yield client


@contextmanager
def client_of(settings: Settings, folder: Path) -> Iterator[TestClient]:
    """Start a service in this process; give a client of it."""
    board = Board(None)
    publish_first(settings, board, folder)
    with TestClient(application(settings, board, folder)) as client:
        yield client


@pytest.fixture
def message(capsys: pytest.CaptureFixture[str]) -> Message:
    """Run something that must fail the way a command does; return the one line it printed."""

    def run(action: Callable[[], Any]) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_command(lambda _: action())
        assert stopped.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return run
