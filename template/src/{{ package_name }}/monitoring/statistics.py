"""How surprising a difference between two windows is, when rows of one day resemble each other.

Every p-value here allows for that: the variance of a difference is estimated from how much days
differ within each window, not from the number of rows alone. Counts need not be equally large.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

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


@dataclass(frozen=True)
class Outcome:
    """A statistic and how often chance alone gives one as large."""

    statistic: float
    p: float


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
    chance = 2 / freedom / mean_size**2
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


def mean_test(days: Days, scores: Values) -> Outcome:
    """Test whether the mean score of the rows differs: linear scores ask for a move of location.

    The variance without days is the permutation one, right for ties and unequal windows (Lehmann
    1975, Nonparametrics, section 1.5); by days as in `design_effects`.
    """
    reference, current = days.windows
    pooled = reference + current
    n, m, total = reference.sum(), current.sum(), pooled.sum()
    centred = scores - pooled @ scores / total
    variance = (pooled @ centred**2) / (total - 1) * (1 / n + 1 / m)
    if variance <= 0:
        return Outcome(0.0, 1.0)
    factor, degrees = design_effects(days, scores[:, None])
    z = (current @ scores / m - reference @ scores / n) / np.sqrt(variance * factor[0])
    return Outcome(float(z), float(2 * special.stdtr(degrees[0], -abs(z))))


def shape_test(days: Days) -> Outcome:
    """Test whether the shares of the bins differ in any way.

    Pearson's two-sample chi-square with the second-order correction for design effects, and an F
    reference for how well those are known (Rao and Scott 1981, Thomas and Rao 1987). All that days
    add is taken to lie in one direction, as a day that shifts everything would have it: the most
    cautious reading of the mean effect.
    """
    reference, current = days.windows
    bins = len(reference)
    if bins < 2:  # noqa: PLR2004 - one bin holds every row
        return Outcome(0.0, 1.0)
    n, m = reference.sum(), current.sum()
    pooled = (reference + current) / (n + m)
    squared = ((current / m - reference / n) ** 2 / pooled).sum() / (1 / n + 1 / m)
    factors, degrees = design_effects(days, np.eye(bins))
    weights = (1 - pooled) / (bins - 1)
    excess = (bins - 1) * max(float(weights @ factors) - 1, 0.0)
    total, squares = bins - 1 + excess, bins - 2 + (1 + excess) ** 2
    freedom = total**2 / squares
    statistic = float(squared / (squares / total))
    p = special.fdtrc(freedom, float(degrees.min()), statistic / freedom)
    return Outcome(statistic, float(p))


def rate_test(
    current: float, m: float, reference: float, n: float, effect: tuple[float, float]
) -> float:
    """Return how often a rate no higher than the reference's gives as many rows in the current.

    Given all such rows, those of the current window are binomial, which is exact for rare events
    (Przyborowski and Wilenski 1940). One row in the reference that stands for its two ends makes
    it the law of values beyond a sample's range, the negative binomial NB(2, n / (n + m)) (Gumbel
    and von Schelling 1950). Days count by their factor, and as in a t-test by how well it is known.
    """
    if current <= 0:
        return 1.0
    factor, degrees = effect
    p = special.betainc(current / factor, reference / factor + 1, m / (n + m))
    return float(special.stdtr(degrees, special.ndtri(p)))


def share_test(
    days: Days, scores: Values, *, ordered: bool = False
) -> tuple[Outcome, float, float]:
    """Test whether the share of the rows that score differs; return it in both windows as well.

    `rate_test` both ways, of the rows that are less than half: the normal law is symmetric and the
    law of few rows is not, so that where the reference is much larger it took three times too many
    for certain. Rows that score unlike count as so many of one score as vary as much (Fay and Feuer
    1997). Counts are scaled to a share's variance, which is less than a rate's.
    """
    (old, n), (new, m) = ((rows[scores > 0].sum(), rows.sum()) for rows in days.windows)
    if old + new > (n + m) / 2:
        scores = np.where(scores > 0, 0.0, 1.0)
    a, b = (float(rows @ scores) for rows in days.windows)
    factor, degrees = share_effect(days, scores, ordered=ordered)
    each = sum(rows @ scores**2 for rows in days.windows) / max(a + b, TINY)
    effect = factor * float(each - (a + b) / (n + m)), degrees
    p = 2 * min(rate_test(b, m, a, n, effect), rate_test(a, n, b, m, effect))
    return Outcome(float(new / m - old / n), min(1.0, p)), float(old / n), float(new / m)


def tail_scores(days: Days, share: float, least: float) -> Values:
    """Score the bins that hold the reference's first rows, the more the fewer lie further out.

    One and the expected excess of an exponential tail, in units of its mean (Savage 1956), in the
    bins that hold no more than a share of the rows, or in as many as hold the least; 0 in others.
    """
    held = days.windows[0].cumsum()
    most, fewest = share * held[-1] + 1, least * held[-1] - 0.5
    last = max(np.searchsorted(held, most, "right") - 1, np.searchsorted(held, fewest))
    ends = np.minimum(held / held[last], 1)
    widths = np.diff(ends, prepend=0)
    areas = np.diff(special.entr(ends) + ends, prepend=0)  # under 1 - log(x)
    scores: Values = np.divide(widths + areas, widths, out=np.zeros(len(ends)), where=widths > 0)
    return scores


def pool(days: Days, least: float, share: float, *, ordered: bool) -> NDArray[np.int64]:
    """Return the group of each bin, so that every group expects enough rows in both windows.

    Neighbours join where bins have an order, by the reference's shares: what piles up in a bin must
    not draw its neighbours in, and hide that they are empty. The rarest join where there is none
    (Cochran 1954).
    """
    reference, current = days.windows
    n, m = reference.sum(), current.sum()
    pooled = reference / n if ordered else (reference + current) / (n + m)
    wanted = max(share, least / min(n, m))
    groups = np.zeros(len(pooled), np.int64)
    if not ordered:
        rare = pooled < wanted
        if pooled[rare].sum() < wanted and not rare.all():
            rare |= pooled == pooled[~rare].min()
        groups[~rare] = np.arange(1, (~rare).sum() + 1)
        return np.unique(groups, return_inverse=True)[1].astype(np.int64)
    group, filled = 0, 0.0
    for place, part in enumerate(pooled):
        if filled >= wanted and pooled[place:].sum() >= wanted:
            group, filled = group + 1, 0.0
        groups[place] = group
        filled += part
    return groups


def adjust(p_values: Values) -> Values:
    """Return q-values: alarms at q keep the share of false ones at q (Benjamini, Hochberg 1995).

    When nothing has drifted, every alarm is false, so q is also the share of reports with any.
    """
    order = np.argsort(p_values)
    scaled = p_values[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return adjusted


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
    """Return how many independent rows in each window would tell as much (Kish 1965)."""
    factors, _ = design_effects(days, days.ranks[:, None])
    return float(2 / (factors[0] * sum(1 / rows.sum() for rows in days.windows)))


def correlation_tests(
    r: Values, n: int, s: Values, m: int, factor: Values
) -> tuple[Values, Values]:
    """Test whether rank correlations differ, on Fisher's scale (variance: Bonett and Wright 2000).

    Returns
    -------
    tuple
        z and p of each pair; NaN and 1 where a column of the pair is constant.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (1 + r**2 / 2) / (n - 3) + (1 + s**2 / 2) / (m - 3)
        z = (np.arctanh(s) - np.arctanh(r)) / np.sqrt(variance * factor)
    return z, np.where(np.isfinite(z), 2 * special.ndtr(-np.abs(z)), 1.0)
