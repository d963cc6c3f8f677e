"""A registry of its own for each test, and two models: one that learned, one that learned wrong.

TEST_TRACKING_URI points the tests at another tracking store than a temporary SQLite file.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from ... import (
    comparison,
    config,
    gates,
    preprocess,
    promote_model,
    promotion,
    registration,
    registry,
)
from ...config import DataConfig
from ...contract import TARGET
from ...data import load
from ...evaluate import score
from ...frames import model_frame, validate
from ...lifecycle import Store, open_store
from ...model import Model, ModelConfig, predict
from ...progress import TrainingProgress
from ...settings import ROOT, Settings
from ...train import train

MOST_ROWS = 2_500


@dataclass
class Models:
    """Two trained models, the holdout rows as a file, and what was logged of them."""

    good: Model
    bad: Model
    example: pd.DataFrame
    holdout: Path
    logged: dict[int, registration.Logged] = field(default_factory=dict)

    def log(self, model: Model, holdout: Path) -> registration.Logged:
        """Log a model to a run of its own."""
        with mlflow.start_run():
            mlflow.set_tags({"git.sha": "0123abc", "data.sha256": "feed"})
            return registration.log(model, self.example, holdout)

    @cached_property
    def scores(self) -> tuple[dict[str, float], dict[str, float]]:
        """The good model's scores on the holdout, and the bad one's."""
        rows = pd.read_parquet(self.holdout)
        target, frame = rows[TARGET.name].to_numpy(np.float64), model_frame(rows)
        return score(target, predict(self.good, frame)), score(target, predict(self.bad, frame))


@dataclass
class World:
    """One registered model's registry, with commands to act on it; what is patched ends with it."""

    settings: Settings
    models: Models
    store: Store
    root: Path
    patch: pytest.MonkeyPatch

    def register(self, model: Model | None = None) -> str:
        """Register a model, by default the good one, and return the version's number.

        Its files are shared by the tests, which do not change them.
        """
        models, chosen = self.models, model or self.models.good
        if id(chosen) not in models.logged:
            models.logged[id(chosen)] = models.log(chosen, models.holdout)
        return registration.register(models.logged[id(chosen)], self.store.model)["version"]

    def register_own(self, holdout: Path | None = None) -> str:
        """Register the good model with files of its own, which a test may change."""
        logged = self.models.log(self.models.good, holdout or self.models.holdout)
        return registration.register(logged, self.store.model)["version"]

    def command(self, *words: str) -> dict[str, Any]:
        """Run one promote_model command and return its result."""
        chosen = promote_model.parse(words)
        return promotion.COMMANDS[chosen.command](self.store, chosen)

    def in_production(self, number: str | None = None) -> str:
        """Take a version, by default a new one, all the way to production."""
        number = number or self.register()
        self.command("promote", "--to", "staging", "--version", number)
        self.command("promote", "--to", "production", "--version", number)
        return number

    def stages(self) -> dict[str, str]:
        """Return where the aliases are."""
        return registry.aliases(self.store.client, self.store.model)

    def version(self, number: str) -> registry.Version:
        """Return a registered version."""
        return registry.version(self.store.client, self.store.model, number)

    def write_gates(self, **changes: Any) -> None:
        """Write gates that the good model passes and the bad one does not, and a card."""
        values: dict[str, Any] = {
            "holdout": bound(self.models),
            "slices": {"columns": [], "min_rows": 100, "bounds": bound(self.models, EVERY)},
            "comparison": {"min_days": 2, "resamples": 1000},
            "budgets": {"latency_ms": 10_000, "size_mb": 500},
        }
        (self.root / "configs").mkdir(exist_ok=True)
        (self.root / "configs" / "gates.yaml").write_text(yaml.safe_dump(values | changes))
        card = {"intended_use": "Tests <only>.", "limits": ["Knows little."]}
        (self.root / "configs" / "card.yaml").write_text(yaml.safe_dump(card))


def _fit(rows: preprocess.Splits, hyperparameters: ModelConfig, folder: Path) -> Model:
    folder.mkdir()
    with TrainingProgress(folder) as progress:
        return train(_some(rows.train), _some(rows.validation), hyperparameters, progress)


def _some(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sample(min(MOST_ROWS, len(rows)), random_state=0).sort_index()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "ROOT", ROOT)  # another test's service may stand in for the project
        settings = config.load("data", DataConfig)
        hyperparameters = config.load("model", ModelConfig)
    rows = preprocess.split(validate(load(ROOT / settings.path), "the data"), settings)
    wrong = preprocess.Splits(*(part.assign(**{TARGET.name: _opposite(part)}) for part in rows))
    _some(rows.holdout).to_parquet(folder / "holdout.parquet", index=False)
    return Models(
        _fit(rows, hyperparameters, folder / "good"),
        _fit(wrong, hyperparameters, folder / "bad"),
        model_frame(rows.train.head(3)),
        folder / "holdout.parquet",
    )


def _opposite(rows: pd.DataFrame) -> "pd.Series[float]":
    target = rows[TARGET.name].astype("float64")
    return target.max() + target.min() - target


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    return os.environ.get("TEST_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture
def world(
    models: Models, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """An empty registry: a model name nobody used, in a store the whole session shares."""
    settings = Settings(
        mlflow_tracking_uri=store_uri,
        mlflow_experiment_name="tests",
        model_name=f"model_{uuid.uuid4().hex[:8]}",
    )
    for module in (config, promotion):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(gates, "TIMED_PREDICTIONS", 3)
    monkeypatch.setattr(comparison, "METRIC_RESAMPLES", 5)
    made = World(settings, models, open_store(settings), tmp_path, monkeypatch)
    made.write_gates()
    yield made
    while mlflow.active_run():
        mlflow.end_run()


NONE, EVERY = -1e6, 1e6


def bound(models: Models, share: float = 0.5) -> dict[str, dict[str, float]]:
    """Bound a metric that tells the good model from the bad one, by preference one that it lowers.

    The bound is so far on the way from the good score to the bad one: halfway only the good model
    keeps it, at NONE no model does, at EVERY any.
    """
    good, bad = models.scores
    name = max(good, key=lambda name: (bad[name] > good[name], abs(bad[name] - good[name])))
    limit = good[name] + share * (bad[name] - good[name])
    return {name: {"max" if bad[name] > good[name] else "min": limit}}


class DyingClient:
    """A client whose process is killed at its nth write: no call happens from then on."""

    WRITES = ("create_", "set_", "log_", "delete_", "update_")

    def __init__(self, client: mlflow.MlflowClient, kill_at: int) -> None:
        self._client = client
        self._left = kill_at

    def __getattr__(self, name: str) -> Any:
        if name.startswith(self.WRITES):
            self._left -= 1
        if self._left <= 0:
            raise Killed(name)
        return getattr(self._client, name)


class Killed(BaseException):
    """SIGKILL, as seen from inside: nothing handles it."""
