"""The metrics say what they should about predictions whose quality is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..evaluate import losses, score
from ..serving.answer import answer
from ..serving.source import Release

numbers = st.floats(-1e6, 1e6)
outcomes = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30)


def test_a_perfect_prediction_has_the_best_scores() -> None:
    scored = score(np.array([1.0, 2, 4]), np.array([1.0, 2, 4]))
    assert (scored["mae"], scored["rmse"], scored["bias"], scored["r2"]) == (0, 0, 0, 1)


def test_the_bias_is_positive_where_predictions_are_too_high() -> None:
    scored = score(np.array([0.0, 10]), np.array([3.0, 13]))
    assert scored["bias"] == scored["mae"] == scored["median_error"] == 3


def test_a_metric_that_needs_two_rows_is_left_out_of_one() -> None:
    assert "r2" not in score(np.array([1.0]), np.array([2.0]))


@given(outcomes)
def test_every_metric_is_a_finite_number(rows: list[tuple[float, float]]) -> None:
    target, predicted = (np.array(column) for column in zip(*rows, strict=True))
    scored = score(target, predicted)
    assert np.isfinite(list(scored.values())).all()
    assert scored["rmse"] ** 2 == pytest.approx(losses(target, predicted).mean())


@given(numbers, numbers, numbers)
def test_a_row_loses_more_the_farther_it_is_off(target: float, one: float, other: float) -> None:
    near, far = sorted([one, other], key=lambda value: abs(value - target))
    less, more = losses(np.full(2, target), np.array([near, far]))
    assert less <= more


def test_the_answer_has_the_values_in_the_order_asked() -> None:
    given_answer = answer(
        np.array([3.5, -1.0]),
        Release(name="model", version="3", stage="", sha256=None, bundle_sha256=""),
    )
    assert given_answer.predictions == [3.5, -1.0]
    assert given_answer.model.version == "3"
