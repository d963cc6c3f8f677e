"""Tests run inside a rendered project: what has changed is named, and noise is not."""

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ..config import DriftConfig, Watched
from ..contract import Kind
from ..monitoring.checks import Finding
from ..monitoring.days import Days, share_effect
from ..monitoring.drift import compare, confirmed, insufficient, like_with_like
from ..monitoring.performance import Labelled, judge, reasons
from ..monitoring.profile import Metric, Profile, build, empty_like
from ..monitoring.statistics import share_test, tail_scores

Values = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
KINDS = dict[str, Kind](size="number", weight="number", flag="boolean", place="category")
CONFIG = DriftConfig(metrics={"error": Watched(better="lower", tolerance=0.1)})
PLACES = np.array(["here", "there", "far"], object)


def columns(seed: int, rows: int) -> Columns:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=rows)
    return {
        "size": np.where(rng.random(rows) < 0.05, np.nan, size),
        "weight": size + rng.normal(size=rows),
        "flag": (rng.random(rows) < 0.3).astype(float),
        "place": rng.choice(PLACES, rows, p=[0.6, 0.3, 0.1]),
    }


def days(rows: int, count: int, first: str = "2026-03-02") -> NDArray[np.datetime64]:
    return np.datetime64(first) + np.arange(rows) * count // max(rows, 1)


REFERENCE = build(columns(0, 6000), columns(0, 6000)["weight"], days(6000, 60), kinds=KINDS)


def window(change: Callable[[Columns], Any] = lambda _: None, rows: int = 3000) -> Profile:
    data = columns(1, rows)
    change(data)
    return empty_like(REFERENCE).add(data, np.asarray(data["weight"]), days(rows, 14, "2026-06-01"))


def alarms(current: Profile) -> set[tuple[str, str]]:
    return {(f.column, f.check) for f in compare(REFERENCE, current, CONFIG) if f.alarm}


def test_the_same_distribution_raises_no_alarm() -> None:
    assert alarms(window()) == set()
    assert alarms(window(rows=400)) == set()


@pytest.mark.parametrize(
    ("column", "check", "change"),
    [
        ("size", "distribution", lambda d: d.update(size=d["size"] + 0.25)),
        ("size", "distribution", lambda d: d.update(size=d["size"] * 1.3)),
        ("size", "distribution", lambda d: d.update(size=np.sign(d["size"]))),
        ("size", "distribution", lambda d: d.update(size=np.minimum(d["size"], 1))),
        ("size", "tail", lambda d: d["size"].__setitem__(slice(90), 2.9)),
        ("size", "tail", lambda d: d.update(size=np.maximum(d["size"], -2))),
        ("size", "range", lambda d: d["size"].__setitem__(slice(30), 9999)),
        ("size", "missingness", lambda d: d["size"].__setitem__(slice(150), np.nan)),
        ("size", "missingness", lambda d: d["size"].__setitem__(slice(150), np.inf)),
        ("size", "day", lambda d: d["size"].__iadd__(2 * (np.arange(3000) < 214))),
        ("weight", "missingness", lambda d: d.update(weight=np.full(3000, np.nan))),
        ("flag", "distribution", lambda d: d.update(flag=np.zeros(3000))),
        ("place", "distribution", lambda d: d["place"].__setitem__(slice(600), "far")),
        ("place", "new_category", lambda d: d["place"].__setitem__(slice(30), "moon")),
        ("prediction", "prediction", lambda d: d.update(weight=d["weight"] + 0.5)),
        ("*", "dependence", lambda d: d.update(weight=np.roll(d["weight"], 1))),
    ],
)  # fmt: skip
def test_a_change_that_matters_is_named(
    column: str, check: str, change: Callable[[Columns], Any]
) -> None:
    assert (column, check) in alarms(window(change))


def sizes(before: Values, now: Values) -> tuple[Profile, Profile]:
    """Profile one number: over sixty days in the reference, and fourteen in the window."""
    reference = build({"size": before}, times=days(len(before), 60), kinds={"size": "number"})
    return reference, empty_like(reference).add({"size": now}, times=days(len(now), 14))


def test_five_hundred_rows_show_a_number_that_is_cut_off_or_in_two_halves() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=500)
    plain, noise = rng.normal(size=(2, 500))
    halves = 0.6 * plain + 0.8 * np.sign(noise)  # of the same mean and variance

    def certainty(values: Values) -> float:
        found = compare(*sizes(before, values), CONFIG)
        return next(f.p for f in found if f.check == "distribution")

    assert certainty(plain) > 0.1
    assert certainty(np.minimum(plain, 1)) < 1e-4
    assert certainty(halves) < 0.01


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.97])
def test_shares_of_few_rows_are_not_taken_for_certain_too_often(rate: float) -> None:
    new = np.arange(501)
    law = stats.binom.pmf(new, 500, rate)
    past = np.array([[50_000 * (1 - rate), 50_000 * rate]], np.int64)
    windows = (Days.of(past, np.array([[500 - k, k]])) for k in new)
    p = np.array([share_test(days, np.array([0.0, 1.0]))[0].p for days in windows])
    for level in (0.05, 0.001, 0.0003):
        assert law[p <= level].sum() <= 1.1 * level


@pytest.mark.parametrize(("reference", "current"), [(5000, 5000), (50_000, 500), (500, 50_000)])
def test_scored_tails_are_not_taken_for_certain_too_often(reference: int, current: int) -> None:
    rng = np.random.default_rng(0)
    inner = np.array([5, 20, 75, 400]) * reference // 500
    chances = rng.dirichlet([*inner, reference + 1 - inner.sum()], 4000)
    past = np.array([[*inner, reference - inner.sum()]], np.int64)
    windows = [Days.of(past, rng.multinomial(current, chance)[None]) for chance in chances]
    scores = tail_scores(windows[0], 0.05, 0)
    p = np.array([share_test(days, scores)[0].p for days in windows])
    for level in (0.05, 0.01):
        assert (p <= level).mean() <= 1.2 * level


def test_a_rare_value_that_a_day_has_twice_makes_no_rows_alike() -> None:
    rare = np.zeros(60, np.int64)
    rare[[3, 17, 40]] = 2, 1, 1
    now = np.tile([35, 1], (14, 1))
    factor, _ = share_effect(Days.of(np.stack([8 - rare, rare], axis=1), now), np.array([0.0, 1.0]))
    assert factor < 1.1


def test_a_few_rows_ten_times_too_large_are_seen() -> None:
    rng = np.random.default_rng(0)
    before, now = np.exp(rng.normal(size=(2, 5000)))
    now *= np.where(rng.random(5000) < 0.02, 10, 1)
    found = compare(*sizes(before, now), CONFIG)
    assert min(f.p for f in found if f.check == "tail") < 1e-5


def test_the_window_does_not_choose_how_many_checks_there_are() -> None:
    def odd(data: Columns) -> None:
        data["place"][:30], data["size"][:30] = "moon", 9999

    assert len(compare(REFERENCE, window(), CONFIG)) == len(compare(REFERENCE, window(odd), CONFIG))


def test_a_change_too_small_to_matter_is_certain_and_raises_no_alarm() -> None:
    reference = build({"size": columns(2, 200_000)["weight"]}, kinds={"size": "number"})
    current = empty_like(reference).add({"size": columns(3, 200_000)["weight"] + 0.05})
    found = [f for f in compare(reference, current, CONFIG) if f.check == "distribution"]
    assert found[0].q < 1e-3
    assert not found[0].alarm


def test_days_that_differ_among_themselves_are_no_drift() -> None:
    rng = np.random.default_rng(0)

    def season(count: int) -> Columns:
        return {"size": np.repeat(rng.normal(size=count), 100) + rng.normal(size=count * 100)}

    wrong = right = 0
    for _ in range(20):
        past, now = season(60), season(10)
        kinds: dict[str, Kind] = {"size": "number"}
        dated = build(past, times=days(6000, 60), kinds=kinds)
        found = compare(dated, empty_like(dated).add(now, times=days(1000, 10)), CONFIG)
        right += any(f.alarm for f in found)
        blind = build(past, kinds=kinds)
        wrong += any(f.alarm for f in compare(blind, empty_like(blind).add(now), CONFIG))
    assert right <= 2
    assert wrong >= 10


def test_rows_too_much_like_the_last_are_not_judged() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 500))
    for row in range(1, 500):
        noise[:, row] += 0.9 * noise[:, row - 1]
    assert "independent rows; 100 are needed" in str(insufficient(*sizes(*noise), CONFIG))


def test_a_day_unlike_the_others_is_named_and_a_step_between_weeks_is_no_such_day() -> None:
    def found(shift: NDArray[np.bool_]) -> Finding:
        checks = compare(REFERENCE, window(lambda d: d["size"].__iadd__(2 * shift)), CONFIG)
        return next(f for f in checks if f.check == "day")

    day = np.arange(3000) * 14 // 3000
    assert "of the rows of 2026-06-10 lie elsewhere" in found(day == 9).sentence
    assert not found(day >= 7).alarm


def test_a_new_category_is_named_in_words() -> None:
    current = window(lambda d: d["place"].__setitem__(slice(30), "moon"))
    (found,) = [f for f in compare(REFERENCE, current, CONFIG) if f.check == "new_category"]
    assert "1.00% of rows" in found.sentence
    assert "moon (30)" in found.sentence


def test_new_values_of_a_column_of_identifiers_are_no_alarm() -> None:
    def ids(start: int, rows: int) -> Columns:
        return {"place": np.array([f"id{i}" for i in range(start, start + rows)], object)}

    reference = build(ids(0, 5000), kinds={"place": "category"})
    current = empty_like(reference).add(ids(5000, 5000))
    assert not [f for f in compare(reference, current, CONFIG) if f.alarm]


def test_windows_without_rows_or_with_few_are_not_judged() -> None:
    nothing = empty_like(REFERENCE)
    assert compare(REFERENCE, nothing, CONFIG) == []
    assert "0 rows; 200 are needed" in str(insufficient(REFERENCE, nothing, CONFIG))
    assert insufficient(REFERENCE, window(rows=200), CONFIG) is None


def test_a_weekend_is_compared_with_weekends() -> None:
    weekend = empty_like(REFERENCE).add(columns(1, 50), None, days(50, 2, "2026-06-06"))
    alike = like_with_like(REFERENCE, weekend)
    assert {date.fromisoformat(day).weekday() for day in alike.columns["size"].days} == {5, 6}
    assert alike.rows == 1600


def test_an_alarm_is_confirmed_by_the_windows_before_it() -> None:
    quiet = compare(REFERENCE, window(), CONFIG)
    loud = compare(REFERENCE, window(lambda d: d.update(size=d["size"] + 1)), CONFIG)
    assert confirmed([loud], 2) == []
    assert confirmed([quiet, loud], 2) == []
    assert ("size", "distribution") in {(f.column, f.check) for f in confirmed([loud, loud], 2)}


def error(target: Values, predicted: Values) -> dict[str, float]:
    return {"error": float(np.abs(target - predicted).mean())}


@pytest.mark.parametrize(("scale", "state"), [(1.0, "holds"), (1.05, "holds"), (1.5, "worse")])
def test_labels_tell_whether_the_model_got_worse(scale: float, state: str) -> None:
    target = scale * np.random.default_rng(0).normal(size=3000)
    holdout = {"error": Metric(value=0.8, low=0.77, high=0.83)}
    times = days(3000, 30)
    found = judge(error, Labelled(target, np.zeros(3000), times, 6000), holdout, CONFIG)
    assert (found.state, found.coverage) == (state, 0.5)


def test_few_labels_or_none_say_nothing() -> None:
    few = np.ones(30)
    found = judge(error, Labelled(few, few, days(30, 30), 3000), {}, CONFIG)
    assert found.state == "unknown"
    assert "30 of 3,000 predictions have a label (1%); 200 are needed" in found.sentences[0]


def test_a_metric_that_one_class_does_not_define_is_unknown() -> None:
    ones = np.ones(500)
    found = judge(lambda *_: {}, Labelled(ones, ones, days(500, 5), 500), {}, CONFIG)
    assert found.state == "unknown"


def test_a_drop_in_performance_outranks_drift_and_broken_data_comes_next() -> None:
    def finding(check: Any) -> Finding:
        about: dict[str, Any] = {"column": "size", "check": check, "sentence": check, "alarm": True}
        return Finding(**about, statistic=1, p=0, effect=1, floor=0)

    holdout = {"error": Metric(value=0.1, low=0.09, high=0.11)}
    rows = Labelled(np.ones(500), np.zeros(500), days(500, 5), 500)
    dropped = judge(error, rows, holdout, CONFIG)
    told = reasons(dropped, [finding("distribution"), finding("prediction"), finding("range")])
    assert told[0].startswith("error 1.000")
    assert told[-3:] == ["range", "prediction", "distribution"]
