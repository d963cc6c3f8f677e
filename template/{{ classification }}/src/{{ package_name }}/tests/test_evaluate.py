"""The metrics say what they should about predictions whose quality is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..evaluate import losses, score
from ..schema import THRESHOLD
from ..serving.answer import answer
from ..serving.source import Release

chances = st.floats(0, 1)
outcomes = st.lists(st.tuples(st.booleans(), chances), min_size=1, max_size=30)
RELEASE = Release(name="model", version="3", stage="", sha256=None, bundle_sha256="")


def test_a_perfect_prediction_has_the_best_scores() -> None:
    scored = score(np.array([0.0, 1, 1]), np.array([0.0, 1, 1]))
    assert (scored["roc_auc"], scored["average_precision"], scored["precision"]) == (1, 1, 1)
    assert scored["log_loss"] == pytest.approx(0, abs=1e-9)
    assert scored["positive_rate"] == pytest.approx(2 / 3)


def test_metrics_that_need_both_answers_are_left_out_of_one() -> None:
    scored = score(np.zeros(3), np.array([0.1, 0.2, 0.3]))
    assert "roc_auc" not in scored
    assert "average_precision" not in scored
    assert scored["positive_rate"] == 0


@given(outcomes)
def test_every_metric_is_a_finite_number(rows: list[tuple[bool, float]]) -> None:
    target, predicted = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assert np.isfinite(list(score(target, predicted).values())).all()
    assert (losses(target, predicted) >= 0).all()


@given(chances, chances)
def test_a_row_loses_more_the_less_its_outcome_was_expected(one: float, other: float) -> None:
    low, high = sorted([one, other])
    less, more = losses(np.ones(2), np.array([high, low]))
    assert less <= more


@given(st.lists(chances, min_size=1, max_size=10))
def test_the_answer_says_yes_from_the_threshold_on(scores: list[float]) -> None:
    given_answer = answer(np.array(scores), RELEASE)
    assert given_answer.predictions == [chance >= THRESHOLD for chance in scores]
    assert given_answer.probabilities == scores
    assert given_answer.model.version == "3"
