"""Tests run inside a rendered project: a profile counts each row once, however the rows come."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ..contract import FEATURE_NAMES, Kind
from ..monitoring import profile
from ..monitoring.profile import Profile, build, empty_like

KINDS: dict[str, Kind] = {"size": "number", "place": "category"}
DAYS = np.datetime64("2026-03-01") + np.arange(400) // 40
Columns = dict[str, NDArray[Any]]


def columns(seed: int, rows: int = 400) -> Columns:
    rng = np.random.default_rng(seed)
    return {
        "size": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        "place": rng.choice(np.array(["here", "there", "far", None], object), rows),
    }


@pytest.fixture
def reference() -> Profile:
    return build(columns(0), np.linspace(0, 1, 400), DAYS, kinds=KINDS)


def test_a_profile_survives_json(reference: Profile) -> None:
    assert Profile.model_validate_json(reference.model_dump_json()) == reference


@given(cut=st.integers(0, 400))
@settings(max_examples=25, deadline=None)
def test_batches_and_shards_add_up_to_the_whole(cut: int) -> None:
    data, scores = columns(1), np.linspace(0, 1, 400)
    start = empty_like(build(columns(0), scores, DAYS, kinds=KINDS))
    parts = [({n: v[s] for n, v in data.items()}, scores[s], DAYS[s])
             for s in (slice(cut), slice(cut, None))]  # fmt: skip
    whole = start.add(data, scores, DAYS)
    batches = start.add(*parts[0]).add(*parts[1])
    shards = start.add(*parts[1]).merge(start.add(*parts[0]))
    for each in (batches, shards):
        np.testing.assert_allclose(each.moments, whole.moments)
        assert each.model_dump(exclude={"moments"}) == whole.model_dump(exclude={"moments"})
    assert start.rows == 0


def test_every_row_is_in_one_place(reference: Profile) -> None:
    data = columns(2)
    data["size"][:3] = np.inf, -np.inf, 99.0
    data["place"][:2] = "moon", float("nan")
    current = empty_like(reference).add(data, np.full(400, 0.5), DAYS)
    size, place = current.columns["size"], current.columns["place"]
    assert size.infinite == 2
    assert size.missing == int(np.isnan(data["size"]).sum())
    assert size.counts[-1] >= 1
    assert size.largest == 99.0
    assert place.new == {"moon": 1}
    assert all(int(column.totals.sum()) == 400 for column in (size, place))
    assert len(size.days) == 10


def test_only_the_columns_of_the_schema_enter_a_profile(reference: Profile) -> None:
    extra = {**columns(3), "passenger": np.array(["secret"] * 400, object)}
    assert "secret" not in empty_like(reference).add(extra).model_dump_json()
    assert list(profile.KINDS) == FEATURE_NAMES


def test_values_of_a_category_stay_bounded_and_the_frequent_ones_stay_named() -> None:
    rng = np.random.default_rng(0)
    many = np.array([f"id{i}" for i in range(3000)], object)
    reference = build({"place": many}, kinds={"place": "category"})
    assert len(reference.columns["place"].categories) == profile.LISTED
    current = empty_like(reference)
    for _ in range(5):
        fresh = np.array([f"x{i}" for i in rng.integers(0, 10**9, 900)] + ["moon"] * 100, object)
        current = current.add({"place": fresh})
    assert len(current.columns["place"].new) <= profile.NAMED
    assert max(current.columns["place"].new, key=current.columns["place"].new.__getitem__) == "moon"
    assert len(current.model_dump_json()) < 20_000


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_a_column_of_one_value_has_bins(value: float) -> None:
    reference = build({"size": np.full(50, value)}, kinds={"size": "number"})
    assert int(reference.columns["size"].totals.sum()) == 50


def test_an_empty_batch_changes_nothing(reference: Profile) -> None:
    nothing = {name: values[:0] for name, values in columns(0).items()}
    assert reference.add(nothing, np.array([]), DAYS[:0]) == reference
