"""Tables: raw rows held against schema.py, and the frame and signature that every model has."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .contract import CATEGORIES, FEATURE_NAMES, FEATURES, NUMBERS, TARGET, Column
from .errors import DataError
from .schema import TIME

if TYPE_CHECKING:
    import pandera.pandas as pa
    from mlflow.models import ModelSignature

Values = NDArray[np.float64]
ROWS_AT_ONCE = 10_000  # of instances, which take ten times the memory of a table
TIMES = {"date", "datetime", "datetime64", "string", "mixed", "categorical", "empty"}


def to_frame(instances: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Turn instances into the frame every model is given.

    Returns
    -------
    pandas.DataFrame
        One row per instance and one column per feature, in the schema's order: categories as
        ``object`` with None where missing, everything else as ``float64`` with NaN.
    """
    return model_frame(
        pd.DataFrame.from_records([dict(i) for i in instances], columns=FEATURE_NAMES)
    )


def model_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """Pick the features out of a table, with the types described in `to_frame`."""
    frame = rows[FEATURE_NAMES].copy()
    for name in NUMBERS:
        frame[name] = frame[name].astype("float64")
    for name in CATEGORIES:
        values = frame[name].astype("object")
        frame[name] = values.where(values.notna(), None)
    return frame


def answers(rows: pd.DataFrame) -> tuple[Values, Values]:
    """Pick the target and what was predicted out of a table that has both, shape (rows,) each."""
    return rows[TARGET.name].to_numpy(np.float64), rows["predicted"].to_numpy(np.float64)


def to_instances(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn a frame of features into instances, with None where a value is missing."""
    values = frame.astype("object").where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in values.to_dict("records")]


def scored(score: Callable[[list[dict[str, Any]]], Values], frame: pd.DataFrame) -> Values:
    """Score a frame of features by what takes instances, a part of the rows at a time."""
    starts = range(0, len(frame) or 1, ROWS_AT_ONCE)
    parts = (frame.iloc[start : start + ROWS_AT_ONCE] for start in starts)
    return np.concatenate([score(to_instances(part)) for part in parts])


def validate(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Check a raw table against the schema.

    Parameters
    ----------
    rows
        The table that data.py loaded.
    source
        What to call it in an error.

    Returns
    -------
    pandas.DataFrame
        The time column, in UTC where it names a zone, the features and the target; other columns
        are dropped.

    Raises
    ------
    DataError
        A column is missing or of the wrong type, a value breaks its bounds, or there are no rows.
    """
    import pandera.pandas as pa
    from pandera.errors import SchemaErrors

    missing = [name for name in (TIME, *FEATURE_NAMES, TARGET.name) if name not in rows.columns]
    if missing:
        raise DataError(
            f"{source} has no column {missing[0]!r}; "
            "schema.py asks for it and data.py must return it"
        )
    if rows.empty:
        raise DataError(f"{source} has no rows")
    kept = rows[[TIME, *FEATURE_NAMES, TARGET.name]].copy()
    kept[TIME] = _times(kept[TIME], source)
    for name in (*FEATURE_NAMES, TARGET.name):
        values = kept[name]
        if isinstance(values.dtype, (pd.CategoricalDtype, pd.ArrowDtype)):
            kept[name] = values = values.astype("object")
        if name not in CATEGORIES:
            values = values.convert_dtypes() if values.dtype == object else values
            if pd.api.types.is_numeric_dtype(values) or values.isna().all():
                kept[name] = values.astype("float64")
    columns = {column.name: _pandera_column(column) for column in (*FEATURES, TARGET)}
    schema = pa.DataFrameSchema({TIME: pa.Column("datetime64[us]", coerce=True), **columns})
    try:
        return schema.validate(kept, lazy=True)
    except SchemaErrors as error:
        raise DataError(f"{source}: {_first_failure(error.failure_cases)}") from None


def _times(values: "pd.Series[Any]", source: str) -> "pd.Series[Any]":
    """Read times; what a number, or a day before or after its month, would mean is not guessed."""
    kind, unknown = pd.api.types.infer_dtype(values), pd.Series(pd.NaT, values.index)
    iso: dict[str, Any] = {"format": "ISO8601", "utc": True, "errors": "coerce"}
    times = pd.to_datetime(values, **iso).dt.tz_localize(None) if kind in TIMES else unknown
    wrong = values[times.isna() & values.notna()]
    if len(wrong):
        raise DataError(
            f"{source}: column {TIME!r} holds {wrong.iloc[0]}, which is neither a date nor text "
            "such as 2013-06-30; make dates of it in data.py"
        )
    return times


def _first_failure(failures: pd.DataFrame) -> str:
    first = failures.iloc[0]
    check = str(first["check"])
    same = ["column", "check"]
    alike = (failures[same] == first[same]).all(axis=1).sum()
    if check.startswith("dtype"):
        wanted = "text" if first["column"] in CATEGORIES else "numbers"
        held = f"column {first['column']!r} holds {first['failure_case']}, not {wanted}"
        return f"{held}, which schema.py asks for; convert it in data.py"
    told = f"column {first['column']!r}: {alike:,} value(s) break the rule {check}"
    row = f" (first: {first['failure_case']!r} in row {first['index']})"
    return told if pd.isna(first["index"]) else told + row


def _pandera_column(column: Column) -> "pa.Column":
    import pandera.pandas as pa

    bounds = {"ge": column.at_least, "le": column.at_most, "gt": column.above, "lt": column.below}
    checks = [getattr(pa.Check, name)(value) for name, value in bounds.items() if value is not None]
    if column.longest is not None:
        checks.append(pa.Check.str_length(max_value=column.longest))
    if column.kind in {"integer", "number"}:
        checks.append(pa.Check(lambda values: values.abs() < np.inf, error="finite number"))
    if column.kind == "integer":
        checks.append(pa.Check(lambda values: values % 1 == 0, error="whole number"))
    if column.kind == "boolean":
        checks.append(pa.Check.isin([0.0, 1.0]))
    dtype = str if column.kind == "category" else float
    return pa.Column(dtype, checks, nullable=column.nullable)


def signature() -> "ModelSignature":
    """Return the MLflow signature: the features in, one score a row out.

    Numbers are doubles there whatever they are here, because a double can be missing.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    texts = {"category": DataType.string}
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(texts.get(c.kind, DataType.double), c.name, required=not c.nullable)
        for c in FEATURES
    ]
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, TARGET.name)]))
