"""What derives from schema.py agrees: the API's instances, the raw data's rules, the signature."""

import json
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from .. import contract, frames
from ..contract import CATEGORIES, FEATURE_NAMES, FEATURES, NUMBERS, TARGET, Column
from ..errors import ConfigError, DataError
from ..schema import TIME
from ..serving.request import Instance
from .conftest import values

# What any schema allows in the target.
TARGETED = find(values(TARGET), lambda value: value is not None)
few = settings(max_examples=25, deadline=None)  # pandera takes 50 ms for a table
instances = st.fixed_dictionaries({column.name: values(column) for column in FEATURES})


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    """Raw rows as data.py would load them."""
    known = {TIME: pd.Timestamp("2013-01-01"), TARGET.name: TARGETED}
    return pd.DataFrame([{**known, **row} for row in rows])


def ask(instance: dict[str, Any]) -> Instance:
    """Send an instance the way a client does."""
    return Instance.model_validate_json(json.dumps(instance))


@few
@given(instances)
def test_what_the_api_accepts_is_valid_raw_data(instance: dict[str, Any]) -> None:
    accepted = ask(instance).model_dump()
    checked = frames.validate(table(accepted), "rows")
    assert list(checked.columns) == [TIME, *FEATURE_NAMES, TARGET.name]


def outside(column: Column) -> list[Any]:
    """Return a value beyond each bound of a column; of bounds near 2^63, a double sees no 1."""
    low, high, longest = column.at_least, column.at_most, column.longest
    beyond: list[Any] = [each for each in (column.above, column.below) if each is not None]
    beyond += [low - max(1, -low // 10**9)] if low is not None else []
    beyond += [high + max(1, high // 10**9)] if high is not None else []
    return [*beyond, *(["x" * (longest + 1)] if longest is not None else [])]


@pytest.mark.parametrize(("name", "bad"), [(c.name, bad) for c in FEATURES for bad in outside(c)])
def test_what_breaks_a_bound_is_refused_by_both(name: str, bad: object) -> None:
    instance = {**contract.example(), name: bad}
    with pytest.raises(ValidationError, match=name):
        ask(instance)
    with pytest.raises(DataError, match=name):
        frames.validate(table(instance), "rows")


@few
@given(st.lists(instances, min_size=1, max_size=5))
def test_every_model_is_given_the_same_columns_and_types(rows: list[dict[str, Any]]) -> None:
    frame = frames.to_frame(rows)
    assert list(frame.columns) == FEATURE_NAMES
    assert all(frame[name].dtype == np.float64 for name in NUMBERS)
    pd.testing.assert_frame_equal(frame, frames.model_frame(frames.validate(table(*rows), "")))


def test_the_signature_has_the_schemas_columns() -> None:
    inputs = frames.signature().inputs
    assert inputs.input_names() == FEATURE_NAMES
    assert [spec.required for spec in inputs.inputs] == [not c.nullable for c in FEATURES]


def test_every_feature_has_an_example_that_fits() -> None:
    assert ask(contract.example()).model_dump() == contract.example()


@pytest.mark.parametrize("name", [TIME, *FEATURE_NAMES, TARGET.name])
def test_a_column_that_raw_data_lacks_is_named(name: str) -> None:
    with pytest.raises(DataError, match=f"rows has no column '{name}'"):
        frames.validate(table(contract.example()).drop(columns=name), "rows")


@pytest.mark.parametrize(
    ("name", "wrong"), [(TIME, "unknown"), *product((*NUMBERS, TARGET.name), ("unknown", np.inf))]
)
def test_a_column_of_the_wrong_type_or_without_end_is_named(name: str, wrong: Any) -> None:
    with pytest.raises(DataError, match=f"column '{name}'"):
        frames.validate(table(contract.example()).assign(**{name: wrong}), "rows")


@pytest.mark.parametrize("name", [c.name for c in (*FEATURES, TARGET) if not c.nullable])
def test_a_missing_value_where_none_may_be_is_named(name: str) -> None:
    rows = table(contract.example(), contract.example())
    rows[name] = pd.Series([rows[name].iloc[0], None], dtype="object")
    with pytest.raises(DataError, match=f"column '{name}'"):
        frames.validate(rows, "rows")


def test_whole_numbers_may_be_written_as_decimals_but_not_as_text() -> None:
    integers = [column.name for column in FEATURES if column.kind == "integer"]
    decimals = {name: float(contract.example()[name]) for name in integers}
    assert ask({**contract.example(), **decimals}).model_dump() == contract.example()
    for name in integers:
        for wrong in (contract.example()[name] + 0.5, str(contract.example()[name]), True):
            with pytest.raises(ValidationError, match=name):
                ask({**contract.example(), name: wrong})


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="rows has no rows"):
        frames.validate(table(contract.example()).head(0), "rows")


def test_a_schema_that_cannot_be_derived_from_says_what_to_write() -> None:
    class Odd(BaseModel):
        when: pd.Timestamp | int = Field()
        model_config = {"arbitrary_types_allowed": True}

    class Stepped(BaseModel):
        step: int = Field(multiple_of=5)

    with pytest.raises(ConfigError, match=r"when is .* use str, int, float or bool"):
        contract.columns(Odd)
    with pytest.raises(ConfigError, match=r"step has the constraint .* use ge, gt, le, lt"):
        contract.columns(Stepped)


@pytest.mark.parametrize("name", ["model_frame", "to_frame", "validate"])
def test_stage_files_of_the_first_release_find_what_they_import(name: str) -> None:
    assert getattr(contract, name) is getattr(frames, name)
    with pytest.raises(AttributeError, match="no attribute 'frame'"):
        _ = contract.frame


@pytest.mark.parametrize("value", [20130101, 1.7e9, True, "05/03/2013"])
def test_a_time_that_could_mean_another_is_refused(value: Any) -> None:
    rows = table(contract.example(), contract.example()).assign(**{TIME: value})
    with pytest.raises(DataError, match=f"'{TIME}' holds {value}, .* make dates of it in data.py"):
        frames.validate(rows, "rows")


def test_times_of_a_zone_become_those_of_utc() -> None:
    rows = table(contract.example()).assign(**{TIME: "2013-06-30T23:00:00-05:00"})
    assert frames.validate(rows, "rows")[TIME].tolist() == [pd.Timestamp("2013-07-01 04:00")]


@pytest.mark.parametrize("kind", ["object", "category", "arrow"])
def test_it_does_not_matter_how_pandas_holds_a_column(kind: Any) -> None:
    rows = table(contract.example(), contract.example())
    gaps = {c.name: [rows[c.name][0], None] for c in FEATURES if c.nullable}
    rows = rows.assign(**{name: pd.Series(held, dtype="object") for name, held in gaps.items()})
    held = rows.convert_dtypes(dtype_backend="pyarrow") if kind == "arrow" else rows.astype(kind)
    found, wanted = frames.validate(held, "rows"), frames.validate(rows, "rows")
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)
    for name in CATEGORIES:
        with pytest.raises(DataError, match=f"'{name}' holds 1, not text, .* in data.py"):
            frames.validate(rows.assign(**{name: 1}), "rows")
