"""The model learns, and gives the same answers however it was trained, saved or asked."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from .. import config, data, model_format
from ..contract import CATEGORIES, NUMBERS, TARGET
from ..errors import RegistryError
from ..evaluate import score
from ..frames import model_frame, validate
from ..model import Model, ModelConfig, predict
from ..preprocess import Splits, split
from ..progress import TrainingProgress
from ..settings import ROOT
from ..train import train

EPOCHS = 4


class Killed(BaseException):
    """Stands for a signal: nothing in the code under test may catch it."""


@pytest.fixture(scope="module")
def splits() -> Splits:
    settings = config.load("data", config.DataConfig)
    rows = validate(data.load(ROOT / settings.path), "the sample")
    parts = split(rows, settings)
    return Splits(*(part.iloc[:: max(1, len(part) // 3000)] for part in parts))


@pytest.fixture(scope="module")
def settings() -> ModelConfig:
    return config.load("model", ModelConfig, [f"model.epochs={EPOCHS}", "model.device=cpu"])


@pytest.fixture(scope="module")
def model(splits: Splits, settings: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Model:
    progress = TrainingProgress(tmp_path_factory.mktemp("checkpoint"))
    return train(splits.train, splits.validation, settings, progress)


def holdout_metrics(model: Model, splits: Splits) -> dict[str, float]:
    predicted = predict(model, model_frame(splits.holdout))
    return score(splits.holdout[TARGET.name].to_numpy(np.float64), predicted)


def test_the_same_seed_and_data_give_the_same_metrics(
    model: Model, splits: Splits, settings: ModelConfig, tmp_path: Path
) -> None:
    again = train(splits.train, splits.validation, settings, TrainingProgress(tmp_path))
    assert holdout_metrics(again, splits) == holdout_metrics(model, splits)


@pytest.mark.parametrize("epoch", [1, EPOCHS - 1, EPOCHS])
def test_a_killed_training_resumes_to_the_result_it_would_have_had(
    epoch: int, model: Model, splits: Splits, settings: ModelConfig, tmp_path: Path
) -> None:
    def kill(step: int, _metrics: Mapping[str, float]) -> None:
        if step == epoch:
            raise Killed

    with pytest.raises(Killed):
        train(splits.train, splits.validation, settings, TrainingProgress(tmp_path, kill))
    resumed = train(splits.train, splits.validation, settings, TrainingProgress(tmp_path))
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name])


def test_it_predicts_better_than_a_constant(model: Model, splits: Splits) -> None:
    target = splits.validation[TARGET.name].to_numpy(np.float64)
    errors = predict(model, model_frame(splits.validation)) - target
    constant = splits.train[TARGET.name].to_numpy(np.float64).mean()
    assert (errors**2).mean() < 0.99 * ((constant - target) ** 2).mean()


def test_unseen_categories_and_missing_values_get_finite_answers(
    model: Model, splits: Splits
) -> None:
    rows = model_frame(splits.holdout.head(3))
    unseen = rows.assign(**dict.fromkeys(CATEGORIES, "never seen"))
    empty = rows.assign(**dict.fromkeys(CATEGORIES), **dict.fromkeys(NUMBERS, np.nan))
    assert np.isfinite(predict(model, pd.concat([unseen, empty]))).all()


def test_an_answer_does_not_depend_on_the_rows_asked_with_it(model: Model, splits: Splits) -> None:
    rows = model_frame(splits.holdout.head(100))
    alone = np.concatenate([predict(model, rows.iloc[[i]]) for i in range(len(rows))])
    np.testing.assert_allclose(alone, predict(model, rows), rtol=2e-7)


def test_a_saved_model_predicts_the_same(model: Model, splits: Splits, tmp_path: Path) -> None:
    model_format.save(model, tmp_path)
    rows = model_frame(splits.holdout)
    assert (predict(model_format.load(tmp_path), rows) == predict(model, rows)).all()


class Planted:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("planted-code-ran"),)


@pytest.mark.parametrize("planted", ["pickle", "torch", "damaged"])
def test_a_planted_or_damaged_file_is_refused_and_runs_nothing(
    planted: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model_format.save(model, tmp_path)
    weights = tmp_path / model_format.WEIGHTS
    if planted == "pickle":
        weights.write_bytes(pickle.dumps(Planted()))
    elif planted == "torch":
        torch.save({"layers.0.weight": Planted()}, weights)
    else:
        weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(RegistryError):
        model_format.load(tmp_path)
    assert not Path("planted-code-ran").exists()
