"""How surprising a difference between two windows is, when rows of one day resemble each other.

Every p-value here allows for that: the variance of a difference is estimated from how much days
differ within each window, not from the number of rows alone. Counts need not be equally large.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .days import TINY, Days, Values, design_effects, share_effect

MORE = 0.8  # of a share's false alarms are of more rows: fewer values missing or extreme break less


@dataclass(frozen=True)
class Outcome:
    """A statistic and how often chance alone gives one as large."""

    statistic: float
    p: float


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


def odd_day_test(counts: Values, scores: Values) -> tuple[Outcome, int]:
    """Test whether the mean score of one day differs from that of the other days.

    Each day by a t-test against the others, which leaves it out of their variance, as often as
    there are days (outliers: Cook and Weisberg 1982; Bonferroni). Days vary at least as their rows
    do, and one with many rows no less than the average. Scores have to be such that means of days
    are about normal, as those of ranks.

    Parameters
    ----------
    counts
        Rows by day and bin, of at least three days.
    scores
        What each bin scores.

    Returns
    -------
    tuple
        The most surprising outcome, and the place of its day.
    """
    size = counts.sum(axis=1)
    rest, mean = size.sum() - size, counts @ scores / size
    others = (size @ mean - size * mean) / rest
    squares = size @ mean**2 - size * mean**2 - rest * others**2
    shares = counts.sum(axis=0) / size.sum()
    variance = np.maximum(squares / (len(counts) - 2), shares @ scores**2 - (shares @ scores) ** 2)
    error = np.sqrt(np.maximum(variance * (1 / np.minimum(size, size.mean()) + 1 / rest), TINY))
    t = (mean - others) / error
    day = int(np.argmax(np.abs(t)))
    p = len(t) * 2 * special.stdtr(len(counts) - 2, -abs(t[day]))
    return Outcome(float(t[day]), min(1.0, float(p))), day


def shape_test(days: Days) -> Outcome:
    """Test whether the shares of the bins differ in any way.

    Pearson's two-sample chi-square with the second-order correction for design effects, and an F
    reference for how well those are known (Rao and Scott 1981, Thomas and Rao 1987). All that days
    add is taken to lie in one direction, as a day that shifts everything would have it: the most
    cautious reading of the mean effect. How well it is known lies between the bin that tells least
    and the average of all, geometrically: one odd bin of twenty is no reason to doubt the rest.
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
    known = np.sqrt(degrees.min() / (weights @ (1 / degrees)))
    p = special.fdtrc(freedom, float(known), statistic / freedom)
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
    rest = old + new > (n + m) / 2
    scores = np.where(scores > 0, 0.0, 1.0) if rest else scores
    a, b = (float(rows @ scores) for rows in days.windows)
    factor, degrees = share_effect(days, scores, ordered=ordered)
    each = sum(rows @ scores**2 for rows in days.windows) / max(a + b, TINY)
    effect = factor * float(each - (a + b) / (n + m)), degrees
    ways = rate_test(b, m, a, n, effect), rate_test(a, n, b, m, effect)
    more, fewer = reversed(ways) if rest else ways
    p = min(more / MORE, fewer / (1 - MORE))
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
