"""Rows of two windows by day, and how much the rows of one day resemble each other.

A difference between windows is as sure as rows are independent, and rows of one day often are not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Counts = NDArray[np.int64]
ENOUGH_DAYS = 10
ENDLESS = 1e9  # degrees of freedom of a variance that is known
TINY = 1e-12
SURE = 2.5  # standard errors
FEWEST = 3  # degrees of freedom of one that a single day shows


@dataclass(frozen=True)
class Days:
    """Rows of two windows by day and bin: shape (days, bins), the current window's days last."""

    counts: Values
    current: NDArray[np.bool_]

    @classmethod
    def of(cls, reference: Counts, current: Counts) -> "Days":
        """Put the days of two windows together, without those that have no rows."""
        counts = np.concatenate([reference, current]).astype(np.float64)
        second = np.arange(len(counts)) >= len(reference)
        kept = counts.sum(axis=1) > 0
        return cls(counts[kept], second[kept])

    def grouped(self, groups: NDArray[np.int64]) -> "Days":
        """Return the same days with bins joined: the group of each bin."""
        joined = self.counts @ np.eye(int(groups.max()) + 1)[groups]
        return Days(joined, self.current)

    @property
    def basis(self) -> "Days":
        """The days that show how much days differ when nothing is wrong: those of the reference.

        Where it has few, or no dates, the window's days help; a burst on one of them then counts
        less.
        """
        if (~self.current).sum() < ENOUGH_DAYS:
            return self
        return Days(self.counts[~self.current], self.current[~self.current])

    @property
    def windows(self) -> tuple[Values, Values]:
        """Rows of each bin in the reference and in the current window."""
        return self.counts[~self.current].sum(axis=0), self.counts[self.current].sum(axis=0)

    @property
    def shares(self) -> tuple[Values, Values]:
        """Share of each bin in the reference and in the current window."""
        reference, current = self.windows
        return reference / reference.sum(), current / current.sum()

    @property
    def ranks(self) -> Values:
        """Mean rank of each bin's rows, from -0.5 to 0.5 (ridits: Bross 1958)."""
        rows = self.counts.sum(axis=0)
        ranks: Values = (rows.cumsum() - rows / 2) / rows.sum() - 0.5
        return ranks

    @property
    def both(self) -> bool:
        """Whether both windows have rows."""
        return bool(self.current.any() and not self.current.all())


def design_effects(days: Days, scores: Values) -> tuple[Values, Values]:
    """Estimate by what factor days raise the variance of a difference of mean scores.

    The correlation of rows within a day is estimated by analysis of variance (Donner and Koval
    1980) from the reference's days, and for the window from its own as far as the reference leaves
    open: a burst on one day is no likeness, and few days that are alike may be luck, so it is
    believed further upwards than down. By the sizes of the days it becomes the variance of a mean
    (Kish 1965), with as many days counting as one as resemble each other. The degrees of freedom
    come from Satterthwaite (1946), with no more of them than the window with fewer days has, less
    one: the mean of few days is not normal (Donald and Lang 2007).

    Parameters
    ----------
    days
        Rows by day and bin.
    scores
        What each bin scores under each question, shape (bins, questions).

    Returns
    -------
    tuple
        The factor, at least 1, and its degrees of freedom, each of shape (questions,).
    """
    correlation, freedom, error = _correlation_within_days(days.basis, scores)
    window = Days(days.counts[days.current], days.current[days.current])
    own = _correlation_within_days(window, scores)[0]
    now = np.maximum(np.clip(own, correlation - error, correlation + SURE * error), 0)
    spell = _days_alike(days.basis, scores)
    sizes = [days.counts[mine].sum(axis=1) for mine in (~days.current, days.current)]
    alike = [np.minimum(spell * (size**2).sum() / size.sum() ** 2, 1) for size in sizes]
    clustered = correlation * alike[0] + now * alike[1]
    plain = sum(1 / size.sum() for size in sizes)
    variance = (1 - correlation) / sizes[0].sum() + (1 - now) / sizes[1].sum() + clustered
    fewest = min(size.sum() ** 2 / (size**2).sum() for size in sizes) - 1
    freedom = np.maximum(np.minimum(freedom, fewest) / spell, FEWEST)
    with np.errstate(divide="ignore"):
        degrees = np.minimum(freedom * (variance / clustered) ** 2, ENDLESS)
    return variance / plain, degrees


def _correlation_within_days(days: Days, scores: Values) -> tuple[Values, int, Values]:
    """Return each question's intraclass correlation, its degrees of freedom and standard error.

    The error is that of days of one size (Donner 1986). An estimate that chance would give where
    rows are independent is shrunken, and one well above is not (nonnegative garrote: Breiman 1995).
    Of rare values it counts how many happen to share a day, as a few do: the more skewed the
    scores, and the fewer pairs of rows there are within days, the more it is shrunken.
    """
    size = days.counts.sum(axis=1)
    sums = days.counts @ scores
    between, spent, evenness = np.zeros(scores.shape[1]), 0, 0.0
    for mine in (~days.current, days.current):
        rows = size[mine].sum()
        if rows:
            means = sums[mine].sum(axis=0) / rows
            gaps = sums[mine] / size[mine, None] - means
            between += size[mine] @ gaps**2
            evenness += float((size[mine] ** 2).sum() / rows)
            spent += 1
    freedom, rest = len(size) - spent, size.sum() - len(size)
    if freedom < 1 or rest <= 0:
        return np.zeros(scores.shape[1]), 1, np.zeros(scores.shape[1])
    mean_size = (size.sum() - evenness) / freedom
    within = days.counts.sum(axis=0) @ scores**2 - (sums**2 / size[:, None]).sum(axis=0)
    within, between = np.maximum(within, 1e-9) / rest, between / freedom
    correlation = (between - within) / (between + (mean_size - 1) * within)
    correlation = np.clip(correlation, 0, 1)
    total, pairs = days.counts.sum(axis=0), size @ (size - 1) / 2
    centred = scores - total @ scores / size.sum()
    second, third = (total @ centred**power for power in (2, 3))
    skewness = third * np.sqrt(size.sum()) / np.maximum(second, TINY) ** 1.5
    chance = 2 / freedom / mean_size**2 * (1 + skewness**4 / pairs)
    correlation = np.maximum(correlation - chance / np.maximum(correlation, TINY), 0)
    error = (1 - correlation) * (1 / mean_size + correlation) * np.sqrt(2 / freedom)
    return correlation, freedom, error


def _days_alike(days: Days, scores: Values) -> Values:
    """Return how many days count as one, per question, as days resemble the day before.

    The ratio by which a first-order autocorrelation raises the variance of a mean (Bayley and
    Hammersley 1946), estimated from neighbouring days.
    """
    size = days.counts.sum(axis=1)
    means = days.counts @ scores / size[:, None]
    products, squares = np.zeros(scores.shape[1]), np.full(scores.shape[1], TINY)
    for mine in (~days.current, days.current):
        if mine.any():
            weight = size[mine, None]
            centre = np.average(means[mine], axis=0, weights=size[mine])
            gaps = np.sqrt(weight) * (means[mine] - centre)
            products += (gaps[1:] * gaps[:-1]).sum(axis=0)
            squares += (gaps**2).sum(axis=0)
    alike = np.clip(products / squares, 0, 0.9)
    ratio: Values = (1 + alike) / (1 - alike)
    return ratio


def share_effect(days: Days, scores: Values, *, ordered: bool = False) -> tuple[float, float]:
    """Return the design effect of the share of rows that score, and its degrees of freedom.

    The few rows at an end show little of how days differ, so where bins have an order it is at
    least half as far from 1 as that of the ranks. That is cautious: where days shift normal rows,
    ranks are alike four times as much as being in the last twentieth, and more than in less.
    """
    found = [design_effects(days, scores[:, None])]
    if ordered:
        by_ranks, freedom = design_effects(days, days.ranks[:, None])
        found.append(((1 + by_ranks) / 2, freedom))
    factor, degrees = max(found, key=lambda effect: float(effect[0][0]))
    return float(factor[0]), float(degrees[0])


def independent_rows(days: Days) -> float:
    """Return how many independent rows in each window would tell as much (Kish 1965).

    Not more than either window has by its own days: where rows are alike in a window and less so in
    the reference, what days add to a difference is not known.
    """
    scores = days.ranks[:, None]
    factors, _ = design_effects(days, scores)
    found = [2 / (factors[0] * sum(1 / rows.sum() for rows in days.windows))]
    for mine in (~days.current, days.current):
        window = Days(days.counts[mine], days.current[mine])
        size = window.counts.sum(axis=1)
        correlation = _correlation_within_days(window, scores)[0][0]
        found.append(size.sum() / (1 + correlation * ((size**2).sum() / size.sum() - 1)))
    return float(min(found))
