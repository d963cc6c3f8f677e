"""The model learns, answers for rows it has never seen, and is read back only if it is safe."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io as sio
from sklearn.preprocessing import FunctionTransformer

from .. import config, data, model_format
from ..contract import CATEGORIES, NUMBERS, TARGET
from ..errors import RegistryError
from ..frames import model_frame, validate
from ..model import Model, ModelConfig, predict
from ..preprocess import Splits, split
from ..progress import TrainingProgress
from ..settings import ROOT
from ..train import train


@pytest.fixture(scope="module")
def splits() -> Splits:
    """Every fifth row or so of the data, divided by time."""
    settings = config.load("data", config.DataConfig)
    rows = validate(data.load(ROOT / settings.path), "the data")
    parts = split(rows, settings)
    return Splits(*(part.iloc[:: max(1, len(part) // 3000)] for part in parts))


def fit(splits: Splits, folder: Path) -> Model:
    """Train with the project's hyperparameters."""
    settings = config.load("model", ModelConfig)
    return train(splits.train, splits.validation, settings, TrainingProgress(folder))


@pytest.fixture(scope="module")
def model(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The model, trained on them."""
    return fit(splits, tmp_path_factory.mktemp("checkpoint"))


def test_the_same_seed_and_data_give_the_same_predictions(
    model: Model, splits: Splits, tmp_path: Path
) -> None:
    rows = model_frame(splits.holdout)
    assert (predict(fit(splits, tmp_path), rows) == predict(model, rows)).all()


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
    rows = model_frame(splits.holdout.head(30))
    alone = [predict(model, rows.iloc[[row]])[0] for row in range(len(rows))]
    assert predict(model, rows).tolist() == alone


def test_a_saved_model_predicts_the_same(model: Model, splits: Splits, tmp_path: Path) -> None:
    model_format.save(model, tmp_path)
    rows = model_frame(splits.holdout)
    assert (predict(model_format.load(tmp_path), rows) == predict(model, rows)).all()


class Planted:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("planted-code-ran"),)


@pytest.mark.parametrize("content", [b"", b"not a model", pickle.dumps(Planted())])
def test_a_planted_or_damaged_file_is_refused_and_runs_nothing(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / model_format.FILE).write_bytes(content)
    with pytest.raises(RegistryError, match="is not a model that skops can read"):
        model_format.load(tmp_path)
    assert not Path("planted-code-ran").exists()


def test_a_truncated_or_missing_file_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=model_format.FILE):
        model_format.load(tmp_path)
    model_format.save(model, tmp_path)
    path = tmp_path / model_format.FILE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RegistryError, match="is not a model that skops can read"):
        model_format.load(tmp_path)


def test_a_type_that_the_code_does_not_trust_is_refused_by_name(tmp_path: Path) -> None:
    sio.dump(FunctionTransformer(func=print), tmp_path / model_format.FILE)
    with pytest.raises(RegistryError, match=r"does not trust: .*print"):
        model_format.load(tmp_path)
