"""Tests run inside a rendered project: a candidate is better only beyond doubt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ..comparison import Interval, improvement, intervals
from ..config import Comparison

Values = NDArray[np.float64]
CONFIG = Comparison(resamples=1000)
DAYS = np.repeat(np.arange(40.0), 25)


def losses(seed: int, mean: float = 1.0) -> Values:
    return np.random.default_rng(seed).exponential(mean, DAYS.size)


def test_equal_models_improve_by_nothing_for_certain() -> None:
    mine = losses(0)
    assert improvement(mine, mine, DAYS, CONFIG) == Interval(0.0, 0.0, 0.0)


def test_a_model_better_on_every_row_is_seen_to_be_better() -> None:
    champion = losses(0)
    found = improvement(0.9 * champion, champion, DAYS, CONFIG)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_better_model_among_noise_has_a_bound_above_zero() -> None:
    found = improvement(losses(1, mean=0.7), losses(2), DAYS, CONFIG)
    assert 0 < found.low < found.value < found.high


def test_a_lucky_draw_of_an_equal_model_has_a_bound_below_zero() -> None:
    found = improvement(losses(3), losses(4), DAYS, CONFIG)
    assert found.low < 0 < found.high


@given(seed=st.integers(0, 10**6), share=st.floats(0.5, 2))
@settings(max_examples=30, deadline=None)
def test_when_models_trade_places_their_loss_ratio_inverts(seed: int, share: float) -> None:
    first, second = losses(seed), losses(seed + 1, share)
    there = improvement(first, second, DAYS, CONFIG)
    back = improvement(second, first, DAYS, CONFIG)
    assert (1 - there.value) * (1 - back.value) == pytest.approx(1)
    # A quantile interpolates between two resamples, which inverting does not keep exactly.
    assert (1 - there.low) * (1 - back.high) == pytest.approx(1, rel=1e-3)


@given(scale=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_the_loss_does_not_matter(scale: float) -> None:
    found = improvement(scale * losses(5), scale * losses(6), DAYS, CONFIG)
    expected = improvement(losses(5), losses(6), DAYS, CONFIG)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(times=st.integers(2, 5))
@settings(max_examples=4, deadline=None)
def test_repeating_the_rows_of_a_day_adds_no_certainty(times: int) -> None:
    candidate, champion = losses(7), losses(8)
    once = improvement(candidate, champion, DAYS, CONFIG)
    repeated = [np.repeat(values, times) for values in (candidate, champion, DAYS)]
    again = improvement(repeated[0], repeated[1], repeated[2], CONFIG)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))


def test_days_and_not_rows_are_what_is_resampled() -> None:
    bad_day = (DAYS == 0).astype(float)
    found = improvement(1 + 20 * bad_day, np.ones(DAYS.size), DAYS, CONFIG)
    by_row = improvement(1 + 20 * bad_day, np.ones(DAYS.size), np.arange(DAYS.size * 1.0), CONFIG)
    assert found.high - found.low > 2 * (by_row.high - by_row.low)


def test_the_order_of_the_rows_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(DAYS.size)
    candidate, champion = losses(9), losses(10)
    shuffled = improvement(candidate[order], champion[order], DAYS[order], CONFIG)
    expected = improvement(candidate, champion, DAYS, CONFIG)
    assert (shuffled.low, shuffled.high) == pytest.approx((expected.low, expected.high))


def test_a_champion_without_loss_cannot_be_improved_on() -> None:
    perfect = np.zeros(DAYS.size)
    for candidate in (perfect, losses(0)):
        found = improvement(candidate, perfect, DAYS, CONFIG)
        assert not found.low > CONFIG.min_improvement


def test_a_loss_that_is_not_a_number_does_not_promote() -> None:
    broken = losses(0)
    broken[0] = np.nan
    assert not improvement(broken, losses(1, mean=9), DAYS, CONFIG).low > 0


def test_metrics_that_some_resamples_lack_are_still_bounded() -> None:
    def score(target: Values, predicted: Values) -> dict[str, float]:
        found = {"error": float(np.abs(target - predicted).mean())}
        undefined = {"never": np.nan, "rare": np.nan} if target.min() else {"never": np.nan}
        return found | ({"rare": 1.0} if target.max() == 39 else {}) | undefined

    found = intervals(score, DAYS, np.zeros(DAYS.size), DAYS, seed=0)
    assert found.keys() == {"error", "rare"}
    assert found["error"].low < found["error"].value < found["error"].high
    assert found["rare"] == Interval(1.0, 1.0, 1.0)
