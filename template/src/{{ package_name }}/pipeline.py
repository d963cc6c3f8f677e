"""The five stages of the pipeline, over one configuration."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient

from . import (
    config,
    data,
    evaluate,
    frames,
    holdout,
    model_format,
    preprocess,
    registration,
    registry,
    stages,
    tracking,
    train,
)
from .contract import TARGET
from .errors import DataError, first_line
from .frames import answers, model_frame, validate
from .model import Model, ModelConfig, predict
from .monitoring import reference
from .progress import TrainingProgress
from .schema import TIME
from .settings import ROOT, Settings

NAMES = ("ingest", "preprocess", "train", "evaluate", "register")
SPLITS = ("train", "validation", "holdout")


@dataclass
class Pipeline:
    """The five stages over one configuration; `client` is set once the store is needed."""

    settings: Settings
    data: config.DataConfig
    model: ModelConfig
    root: Path = field(default_factory=lambda: ROOT / "artifacts")
    marks: Mapping[str, str] = field(default_factory=dict)
    client: MlflowClient | None = None

    @property
    def source(self) -> Path:
        """The raw data's path."""
        return ROOT / self.data.path

    @property
    def dated(self) -> config.DataConfig:
        """What the splits' days are, once the rows are there to count back from."""
        days = pd.read_parquet(self.root / "ingest" / "rows.parquet", columns=[TIME])[TIME]
        return self.data.dated(days.max().date())

    def stages(self) -> list[stages.Stage]:
        """Return the stages in order, each with what its outputs depend on."""
        splits = self.data.model_dump(mode="json", exclude={"path"})
        return [
            stages.Stage("ingest", self.ingest, [data, frames], files=[self.source]),
            stages.Stage("preprocess", self.preprocess, [preprocess], splits),
            stages.Stage(
                "train", self.train, [train, model_format], self.model.model_dump(mode="json")
            ),
            stages.Stage("evaluate", self.evaluate, [evaluate]),
            stages.Stage(
                "register",
                self.register,
                [registration, reference],
                {
                    "name": self.settings.model_name,
                    "store": self.settings.mlflow_tracking_uri,
                    "experiment": self.settings.mlflow_experiment_name,
                },
                still_valid=self.still_registered,
            ),
        ]

    def ingest(self, out: Path) -> None:
        """Load the raw data and hold it against the schema."""
        try:
            rows = data.load(self.source)
        except (KeyError, OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.data.path} {_fault(error)}") from error
        validate(rows, str(self.data.path)).to_parquet(out / "rows.parquet", index=False)

    def preprocess(self, out: Path) -> None:
        """Divide the rows by time."""
        rows = pd.read_parquet(self.root / "ingest" / "rows.parquet")
        for name, part in preprocess.split(rows, self.dated)._asdict().items():
            if part.empty:
                raise DataError(
                    f"the {name} split has no rows; check the dates in configs/data.yaml"
                )
            part.to_parquet(out / f"{name}.parquet", index=False)

    def split(self, name: str) -> pd.DataFrame:
        """Read one split."""
        return pd.read_parquet(self.root / "preprocess" / f"{name}.parquet")

    def train(self, out: Path) -> None:
        """Fit the model; a checkpoint of the same inputs is resumed."""
        checkpoint = self.root / "checkpoints" / self.marks["train"][:16]
        checkpoint.mkdir(parents=True, exist_ok=True)
        steps = tracking.StepLog(self.settings.mlflow_tracking_uri)
        with TrainingProgress(checkpoint, steps) as progress:
            model = train.train(self.split("train"), self.split("validation"), self.model, progress)
        model_format.save(model, out)
        steps.flush()
        progress.write_history(out / "history.json")
        shutil.rmtree(checkpoint.parent)

    def log_history(self) -> None:
        """Log the steps of a training that an earlier run did."""
        steps = tracking.StepLog(self.settings.mlflow_tracking_uri)
        for metrics in self.read("train/history.json"):
            steps(metrics.pop("step"), metrics)
        steps.flush()

    def evaluate(self, out: Path) -> None:
        """Score every split and every month, and draw the holdout."""
        model = model_format.load(self.root / "train")
        scored = {name: _with_predictions(self.split(name), model) for name in SPLITS}
        rows = pd.concat(scored.values())
        months = {str(m): _score(part) for m, part in rows.groupby(rows[TIME].dt.strftime("%Y-%m"))}
        metrics = {**{name: _score(part) for name, part in scored.items()}, "by_month": months}
        (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        target, predicted = answers(scored["holdout"])
        by_month = pd.DataFrame.from_dict(months, orient="index")
        for name, figure in evaluate.plot(target, predicted, by_month).items():
            figure.savefig(out / f"{name}.png", dpi=110)

    def register(self, out: Path) -> None:
        """Log the run's parameters, metrics, plots and model, and register the model's version."""
        model = model_format.load(self.root / "train")
        with tracking.explained(self.settings.mlflow_tracking_uri):
            self._log_run()
            held = self.split("holdout")
            scores = predict(model, model_frame(held))
            reference.log(reference.make(self.split("train"), held, scores))
            example = model_frame(self.split("train").head(3))
            logged = registration.log(model, example, self.root / "preprocess" / holdout.FILE)
            record = registration.register(logged, self.settings.model_name)
        (out / "version.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def _log_run(self) -> None:
        mlflow.set_tags(tracking.provenance(self.source))
        mlflow.log_params({f"data.{k}": v for k, v in self.dated.model_dump(mode="json").items()})
        mlflow.log_params({f"model.{k}": v for k, v in self.model.model_dump(mode="json").items()})
        mlflow.log_metrics(flatten(self.metrics()))
        mlflow.log_artifact(str(self.root / "evaluate" / "metrics.json"))
        for picture in sorted((self.root / "evaluate").glob("*.png")):
            mlflow.log_artifact(str(picture), "plots")
        for name in SPLITS:
            tracking.log_rows(self.split(name), self.source, TARGET.name, name)

    def read(self, name: str) -> Any:
        """Read what a stage wrote as JSON."""
        return json.loads((self.root / name).read_text(encoding="utf-8"))

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Read what evaluate wrote."""
        return dict(self.read("evaluate/metrics.json"))

    def still_registered(self, folder: Path) -> bool:
        """Say whether the store still has the version that the folder records."""
        record = json.loads((folder / "version.json").read_text(encoding="utf-8"))
        client = self.connect()
        known = {v.number: v for v in registry.versions(client, self.settings.model_name)}
        return record["version"] in known and known[record["version"]].digest == record["sha256"]

    def connect(self) -> MlflowClient:
        """Return the tracking client, connecting on first use."""
        if self.client is None:
            # What was trained for hours is worth a minute's wait for the server.
            self.client = tracking.connect(self.settings, retries=5, timeout=30)
        return self.client


def _fault(error: Exception) -> str:
    """Say what data.py could not do, and on which of its lines."""
    frames_of = extract_tb(error.__traceback__)
    lines = [str(frame.lineno) for frame in frames_of if frame.filename == data.__file__]
    place = ":".join(["data.py", *lines[-1:]])
    if isinstance(error, KeyError):
        return f"has no column {error}, which {place} uses"
    return f"cannot be read: {first_line(error)} ({place})"


def flatten(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Turn nested metrics into MLflow names such as ``holdout/NAME``."""
    return dict(pd.json_normalize(dict(metrics), sep="/").iloc[0])


def _with_predictions(rows: pd.DataFrame, model: Model) -> pd.DataFrame:
    return rows[[TIME, TARGET.name]].assign(predicted=predict(model, model_frame(rows)))


def _score(rows: pd.DataFrame) -> dict[str, float]:
    return evaluate.score(*answers(rows))
