"""Tests run inside a rendered project: boosting is exported exactly, others where they can be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from .. import bundle, export, model_format
from ..contract import CATEGORIES, NUMBERS, TARGET
from ..frames import model_frame, to_instances
from ..model import Model


@pytest.fixture(scope="module")
def rows(trained_folder: Path) -> pd.DataFrame:
    return pd.read_parquet(trained_folder / "artifacts" / "preprocess" / "holdout.parquet")


@pytest.fixture(autouse=True)
def any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export pipelines of these tests, whatever the project's own model is."""
    monkeypatch.setattr(export, "predict", lambda fitted, frame: fitted.predict(frame))
    monkeypatch.setattr(model_format, "save", lambda *_: None)


def boosting() -> Model:
    """Return untrained boosting, with splits on categories as well as on numbers."""
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=250
    )
    columns = ColumnTransformer(
        [("categories", encoder, CATEGORIES), ("numbers", "passthrough", NUMBERS)]
    )
    estimator = ensemble.HistGradientBoostingRegressor(
        max_iter=30, categorical_features=list(range(len(CATEGORIES))), random_state=0
    )
    return Pipeline([("columns", columns), ("estimator", estimator)])


def fit(model: Model, rows: pd.DataFrame) -> Model:
    """Return the pipeline, trained on what the rows say; targets below 0 do not suit all losses."""
    target = rows[TARGET.name].to_numpy(np.float64)
    return model.fit(model_frame(rows), target - target.min())


def test_values_at_every_threshold_go_the_same_way(rows: pd.DataFrame, tmp_path: Path) -> None:
    model = fit(boosting(), rows)
    assert export.export(model, rows, tmp_path).runtime == "onnx"
    scorer, frame = bundle.load(tmp_path), model_frame(rows)
    trees = [tree.nodes for (tree,) in model.named_steps["estimator"]._predictors]  # noqa: SLF001
    nodes = np.concatenate(trees)
    splits = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
    for column, name in enumerate(NUMBERS, start=len(CATEGORIES)):
        at = np.unique(splits[splits["feature_idx"] == column]["num_threshold"])
        edges = np.concatenate([at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)])
        probe = pd.concat([frame.head(1)] * len(edges)).assign(**{name: edges})
        if len(probe):
            scores, answers = scorer(to_instances(probe)), model.predict(probe)
            assert bundle.differ(scores, answers) <= 1e-12


@pytest.mark.parametrize("model", [boosting, lambda: pipeline(Ridge())], ids=["boosting", "ridge"])
def test_a_category_may_be_missing(
    model: Callable[[], Model], rows: pd.DataFrame, tmp_path: Path
) -> None:
    """To scikit-learn None is one more category; in a graph's input a text stands for it."""
    gaps = {name: rows[name].mask(rows.index % 5 == n, None) for n, name in enumerate(CATEGORIES)}
    rows = rows.assign(**gaps)
    description = export.export(fit(model(), rows), rows, tmp_path)
    assert description.runtime == "onnx", description.note


def pipeline(estimator: Any) -> Model:
    """Return an untrained pipeline of the usual parts around an estimator."""
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer(
        [("categories", categories, CATEGORIES), ("numbers", SimpleImputer(), NUMBERS)]
    )
    return make_pipeline(columns, estimator)


@pytest.mark.parametrize(
    ("estimator", "runtime"),
    [
        (make_pipeline(StandardScaler(), LinearRegression()), "onnx"),
        (ensemble.HistGradientBoostingRegressor(max_iter=5), "onnx"),
        (ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=5), "native"),
        (ensemble.GradientBoostingRegressor(n_estimators=5, random_state=0), "onnx"),
        (ensemble.RandomForestRegressor(5, max_depth=3, random_state=0), "onnx"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_pipelines_are_exported_or_served_natively(
    estimator: Any, runtime: str, rows: pd.DataFrame, tmp_path: Path
) -> None:
    """On scaled numbers trees may lose rows to rounding at their thresholds; these are as given."""
    description = export.export(fit(pipeline(estimator), rows), rows, tmp_path)
    assert description.runtime == runtime, description.note
