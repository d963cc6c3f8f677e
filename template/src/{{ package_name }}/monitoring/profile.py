"""What a window of data looked like: counts in fixed bins, by day, which add up across batches.

The reference profile is made once, from the training rows, and logged with the model. Current data
is counted into the same bins, batch by batch, so a window may be larger than memory, and shards
counted apart may be merged. No row is kept.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..contract import FEATURES, Kind
from .days import Counts, Values

Columns = Mapping[str, NDArray[Any]]
"""Each feature's values: numbers as float64 with NaN, categories as objects with None."""

KINDS: Mapping[str, Kind] = {column.name: column.kind for column in FEATURES}
QUANTILES = (0.001, 0.005, 0.01, *np.arange(0.05, 0.96, 0.05).round(2), 0.99, 0.995, 0.999)
FREQUENT = 0.05  # a value that this share of the rows has gets a bin to itself
LISTED = 200  # values of a category that are told apart; the rarest others are counted together
NAMED = 100  # values the reference has not seen that are remembered by name
LONGEST = 64  # characters kept of a category's value
UNDATED = ""
DEAD = 2  # places after the bins: missing, infinite


class Metric(BaseModel):
    """A metric on the holdout, and the bounds of its resamples."""

    value: float
    low: float
    high: float


class ColumnProfile(BaseModel):
    """One column: its bins, and how many rows of each day fell into them.

    A number has a bin below the reference's smallest value, bins between its quantiles, and one
    above its largest; `edges` are their upper ends, inclusive. A category has one bin a listed
    value and one for every other. Each day's counts end with the missing and the infinite rows.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    edges: list[float] = []
    categories: list[str] = []
    once: int = Field(0, description="category values that the reference has seen exactly once")
    days: dict[str, list[int]] = {}
    smallest: float | None = None
    largest: float | None = None
    new: dict[str, int] = Field({}, description="rows of values that the reference has not seen")

    @property
    def bins(self) -> int:
        """How many bins there are, out-of-range or unlisted ones included."""
        return len(self.categories if self.kind == "category" else self.edges) + 1

    @property
    def totals(self) -> Counts:
        """Rows in each bin, then missing rows and infinite ones."""
        totals: Counts = self.by_day().sum(axis=0)
        return totals

    @property
    def counts(self) -> Counts:
        """Rows in each bin."""
        return self.totals[:-DEAD]

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return int(self.totals[-DEAD])

    @property
    def infinite(self) -> int:
        """Rows whose value is infinite."""
        return int(self.totals[-1])

    def by_day(self) -> Counts:
        """Rows in each bin, then missing and infinite, one line per day in order."""
        table = [self.days[day] for day in sorted(self.days)]
        return np.array(table, np.int64).reshape(-1, self.bins + DEAD)

    def empty(self) -> Self:
        """Return the same bins with nothing in them."""
        return self.model_copy(
            update={"days": {}, "smallest": None, "largest": None, "new": {}, "once": 0}
        )

    def merge(self, other: Self) -> Self:
        """Return the counts of both; they must have the same bins."""
        days = {day: list(counts) for day, counts in self.days.items()}
        for day, counts in other.days.items():
            known = days.get(day)
            days[day] = [a + b for a, b in zip(known, counts, strict=True)] if known else counts
        new = _heaviest(Counter(self.new) + Counter(other.new))
        ends = {
            "smallest": _outermost(min, self.smallest, other.smallest),
            "largest": _outermost(max, self.largest, other.largest),
        }
        return self.model_copy(update={"days": days, "new": new, **ends})

    def place(self, values: NDArray[Any]) -> tuple[Counts, Mapping[str, int]]:
        """Return each row's place among the bins, missing and infinite, and the unlisted values."""
        if self.kind != "category":
            numbers = np.asarray(values, np.float64)
            places = np.searchsorted(self.edges, numbers).astype(np.int64)
            places[np.isnan(numbers)] = self.bins
            places[np.isinf(numbers)] = self.bins + 1
            return places, {}
        known: dict[Any, int] = {value: place for place, value in enumerate(self.categories)}
        known[None] = self.bins
        other = self.bins - 1
        places = np.fromiter(map(known.get, values, repeat(other)), np.int64, len(values))
        labels: Counter[str] = Counter()
        for row in np.flatnonzero(places == other):
            label = _label(values[row])
            places[row] = known.get(label, other)
            if label is not None and places[row] == other:
                labels[label] += 1
        return places, labels


class Profile(BaseModel):
    """A window of rows: every feature, the predictions, how features move together, the days."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    columns: dict[str, ColumnProfile]
    prediction: ColumnProfile | None = None
    scores: dict[str, list[float]] = Field(
        {}, description="of each feature's bins: its mean rank in the reference, 0 is the middle"
    )
    moments: list[list[float]] = Field(
        [], description="sums of products of 1 and the features' scores, missing rows scoring 0"
    )
    metrics: dict[str, Metric] = Field({}, description="on the holdout, in the reference only")

    def add(
        self, columns: Columns, scores: Values | None = None, times: NDArray[Any] | None = None
    ) -> Self:
        """Count a batch of rows in.

        Parameters
        ----------
        columns
            The features' values, arrays of one length; other columns are passed over.
        scores
            The predictions for the rows, if there are any.
        times
            When each row was, as ``datetime64``; rows without a time belong to no day.

        Returns
        -------
        Profile
            A new profile; this one is as it was.
        """
        rows = len(next(iter(columns.values()), ()))
        if not rows:
            return self
        names, day = _days(times, rows)
        features = [np.ones(rows)]
        found = {}
        for name, column in self.columns.items():
            found[name], places = _count(column, columns[name], names, day)
            features.append(np.asarray([*self.scores[name], 0.0, 0.0])[places])
        matrix = np.stack(features)
        first, last = _span(times)
        part: dict[str, Any] = {"rows": rows, "first": first, "last": last, "columns": found}
        part |= {"moments": (matrix @ matrix.T).tolist(), "prediction": None}
        if self.prediction is not None and scores is not None:
            part["prediction"] = _count(self.prediction, scores, names, day)[0]
        return self.merge(self.model_copy(update=part))

    def merge(self, other: Self) -> Self:
        """Return both windows as one; they must come from the same reference."""
        prediction = self.prediction
        if prediction is not None and other.prediction is not None:
            prediction = prediction.merge(other.prediction)
        both = [part for part in (self.moments, other.moments) if part]
        return self.model_copy(
            update={
                "rows": self.rows + other.rows,
                "first": _outermost(min, self.first, other.first),
                "last": _outermost(max, self.last, other.last),
                "columns": {n: c.merge(other.columns[n]) for n, c in self.columns.items()},
                "prediction": prediction,
                "moments": np.sum(both, axis=0).tolist() if both else [],
            }
        )


def empty_like(reference: Profile) -> Profile:
    """Return a profile with the reference's bins and no rows."""
    prediction = reference.prediction
    return Profile(
        columns={name: column.empty() for name, column in reference.columns.items()},
        prediction=prediction.empty() if prediction else None,
        scores=reference.scores,
    )


def build(
    columns: Columns,
    scores: Values | None = None,
    times: NDArray[Any] | None = None,
    kinds: Mapping[str, Kind] = KINDS,
) -> Profile:
    """Make the reference profile: choose the bins from these rows, and count the rows into them.

    Parameters
    ----------
    columns, scores, times
        As in `Profile.add`.
    kinds
        The columns that may enter a profile, the schema's features, and their kinds.
    """
    binned = {name: _bins(columns[name], kind) for name, kind in kinds.items()}
    profile = Profile(
        columns={name: column for name, (column, _) in binned.items()},
        prediction=None if scores is None else _bins(scores, "number")[0],
        scores={name: _ranks(counts) for name, (_, counts) in binned.items()},
    ).add(columns, scores, times)
    for column in profile.columns.values():
        column.new = {}  # what is not listed here is rare, not new
    return profile


def _bins(values: NDArray[Any], kind: Kind) -> tuple[ColumnProfile, Counts]:
    """Choose a column's bins; return it empty, and the rows that will be in each."""
    if kind == "category":
        seen = Counter(label for label in map(_label, values) if label is not None)
        order = sorted(seen, key=lambda value: (-seen[value], value))
        listed, rest = order[:LISTED], order[LISTED:]
        counts = [*(seen[value] for value in listed), sum(seen[value] for value in rest)]
        once = sum(count == 1 for count in seen.values())
        return ColumnProfile(kind=kind, categories=listed, once=once), np.array(counts, np.int64)
    numbers = np.asarray(values, np.float64)
    numbers = np.sort(numbers[np.isfinite(numbers)])
    edges = set()
    for edge in np.quantile(numbers, QUANTILES, method="lower") if numbers.size else ():
        first, end = np.searchsorted(numbers, edge), np.searchsorted(numbers, edge, "right")
        edges.add(float(edge))
        if first and end - first >= FREQUENT * numbers.size:
            edges.add(float(numbers[first - 1]))
    if numbers.size:
        edges |= {float(np.nextafter(numbers[0], -np.inf)), float(numbers[-1])}
    column = ColumnProfile(kind=kind, edges=sorted(edges))
    ends = np.searchsorted(numbers, column.edges, "right")
    return column, np.diff(ends, prepend=0, append=numbers.size)


def _ranks(counts: Counts) -> list[float]:
    """Return the mean rank of each bin's rows, from -0.5 to 0.5 (ridits: Bross 1958)."""
    total = max(int(counts.sum()), 1)
    ranks: list[float] = ((counts.cumsum() - counts / 2) / total - 0.5).tolist()
    return ranks


def _count(
    column: ColumnProfile, values: NDArray[Any], names: list[str], day: Counts
) -> tuple[ColumnProfile, Counts]:
    """Count rows into a profile of their own; return it and each row's place."""
    places, labels = column.place(values)
    width = column.bins + DEAD
    table = np.bincount(day * width + places, minlength=len(names) * width).reshape(-1, width)
    part = column.empty()
    part.days = dict(zip(names, table.tolist(), strict=True))
    part.new = _heaviest(labels)
    if column.kind != "category":
        finite = np.asarray(values, np.float64)[places < column.bins]
        if finite.size:
            part.smallest, part.largest = float(finite.min()), float(finite.max())
    return part, places


def _days(times: NDArray[Any] | None, rows: int) -> tuple[list[str], Counts]:
    """Return the days' names, and each row's day as a place among them."""
    if times is None:
        return [UNDATED], np.zeros(rows, np.int64)
    names, day = np.unique(times.astype("datetime64[D]"), return_inverse=True)
    return [UNDATED if np.isnat(name) else str(name) for name in names], day.astype(np.int64)


def _span(times: NDArray[Any] | None) -> tuple[datetime | None, datetime | None]:
    known = times[~np.isnat(times)] if times is not None else np.array([])
    if not known.size:
        return None, None
    ends = (known.min(), known.max())
    first, last = (int(end.astype("datetime64[us]").astype(np.int64)) / 1e6 for end in ends)
    return datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)


def _outermost(pick: Callable[..., Any], *ends: float | datetime | None) -> Any:
    return pick((end for end in ends if end is not None), default=None)


def _label(value: object) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - NaN, which some readers use for missing
        return None
    return str(value)[:LONGEST]


def _heaviest(counts: Mapping[str, int]) -> dict[str, int]:
    """Keep the most frequent values in bounded memory, however many there are.

    Their counts become lower bounds, too low by at most the rows over `NAMED` (Misra and Gries
    1982; that it survives merging: Agarwal et al. 2012, Mergeable summaries).
    """
    cut = sorted(counts.values(), reverse=True)[NAMED] if len(counts) > NAMED else 0
    return {value: count - cut for value, count in counts.items() if count > cut}
