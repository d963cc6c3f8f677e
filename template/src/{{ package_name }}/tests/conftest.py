"""The story: a slice of the data is a project of its own, trained once, put to work and served."""

import json
import math
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
from hypothesis import strategies as st
from mlflow import MlflowClient

from .. import config, data, pipeline, run_pipeline, tracking
from ..contract import FEATURES, Column
from ..errors import run_command
from ..frames import model_frame, to_instances, validate
from ..model import ModelConfig
from ..serving.app import application
from ..serving.board import Board, publish_first
from ..settings import ROOT, Settings

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
        patch.setattr(data, "load", pd.read_parquet)
        yield Project(folder, Settings(), patch)


def slice_data(folder: Path) -> None:
    """Configure a project as this one, on some of the rows that data.py loads, as Parquet."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    path = config.load("data", config.DataConfig).path
    rows = validate(data.load(ROOT / path), str(path))
    rows.sample(min(ROWS, len(rows)), random_state=0).to_parquet(folder / "rows.parquet")
    configured = folder / "configs" / "data.yaml"
    configured.write_text(re.sub(r"(?m)^path:.*", "path: rows.parquet", configured.read_text()))


def values(column: Column) -> st.SearchStrategy[Any]:
    """Values that the schema allows in a column; where it has no bounds, up to a trillion."""
    lows, highs = (column.at_least, column.above), (column.at_most, column.below)
    low = max((end for end in lows if end is not None), default=-1e12)
    high = min((end for end in highs if end is not None), default=1e12 + abs(low))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "category": st.text(max_size=column.longest),
        "boolean": st.booleans(),
        "integer": st.integers(math.ceil(low), math.floor(high)),
        "number": st.floats(low, high),
    }
    allowed = kinds[column.kind].filter(lambda value: value not in {column.above, column.below})
    return st.none() | allowed if column.nullable else allowed


def sent(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the features of rows as clients send them: a yes or no is not a number there."""
    flags = [column.name for column in FEATURES if column.kind == "boolean"]
    return [
        {**row, **{name: bool(row[name]) for name in flags if row[name] is not None}}
        for row in to_instances(model_frame(rows))
    ]


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
