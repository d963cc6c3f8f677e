"""The checks of one column, and of columns together: what changed, in numbers and in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..config import Floors
from . import statistics
from .days import Days, design_effects, share_effect
from .profile import DEAD, ColumnProfile, Profile
from .statistics import Outcome

Check = Literal[
    "missingness", "range", "day", "new_category", "prediction", "distribution", "tail",
    "dependence",
]  # fmt: skip
QUALITY: tuple[Check, ...] = ("missingness", "range", "day")  # a retraining would learn broken data
ALL = "*"  # the column of a check of all columns together
EXPECTED = 5  # rows that a bin must expect in each window to be told apart
LEAST_SHARE = 0.08  # of the rows in a bin of numbers
LEAST_CATEGORY = 0.01  # of the rows of a category's value
ORDER = 4  # of the polynomials that a distribution is asked about
LAST = 0.01  # of the rows at an end of the range: its tail, where that is enough to tell
TAIL = 0.08  # where more rows than this are at an end of the range, it is no tail
FEWEST_DAYS = 5  # in which one can be told to be odd
NEW_ROWS = 5
TOLD = 5
NOTHING = 1e-6
CERTAIN = 0.05  # pairs less certain than this are not named


class Finding(BaseModel):
    """One check of one column: what was measured, how surprising it is, and whether it alarms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    check: Check
    statistic: float
    p: float
    q: float = 1.0
    effect: float
    floor: float
    alarm: bool = False
    sentence: str

    @property
    def quality(self) -> bool:
        """Whether it says that the data is broken rather than different."""
        return self.check in QUALITY


@dataclass(frozen=True)
class Pair:
    """A column in both windows."""

    name: str
    reference: ColumnProfile
    current: ColumnProfile

    def days(self, *, dead: bool = False) -> Days:
        """Return its rows by day and bin, with the missing and infinite ones or without."""
        end = None if dead else -DEAD
        return Days.of(self.reference.by_day()[:, :end], self.current.by_day()[:, :end])

    @property
    def ordered(self) -> bool:
        """Whether its bins have an order."""
        return self.reference.kind != "category"

    def finding(
        self, check: Check, outcome: Outcome, size: tuple[float, float], sentence: str
    ) -> Finding:
        """Put a check of this column down; its size is the effect and the floor."""
        told = {"column": self.name, "sentence": f"{self.name}: {sentence}"}
        measured = {"statistic": outcome.statistic, "p": outcome.p, "effect": size[0]}
        return Finding.model_validate({**told, **measured, "check": check, "floor": size[1]})


def of_feature(pair: Pair, floors: Floors) -> Iterator[Finding]:
    """Make every check of a feature that its values allow."""
    yield from _missingness(pair, floors.missingness)
    days = pair.days()
    if days.both:
        yield _distribution(pair, days, "distribution", floors.distribution)
        # Made even where no row is out of range or unlisted: how many checks there are, among which
        # p-values are adjusted, is not for the window to choose.
        if pair.ordered:
            yield _range(pair, days, floors.range)
            yield from _tail(pair, days, floors.tail)
        else:
            yield _new_category(pair, days, floors.new_category)


def of_prediction(pair: Pair, floors: Floors) -> Iterator[Finding]:
    """Make the checks of the model's scores."""
    yield from _missingness(pair, floors.missingness)
    days = pair.days()
    if days.both:
        yield _distribution(pair, days, "prediction", floors.prediction)


def _missingness(pair: Pair, floor: float) -> Iterator[Finding]:
    days = pair.days(dead=True)
    unusable = np.arange(days.counts.shape[1]) >= pair.reference.bins
    if not days.both or not days.counts[:, unusable].any():
        return
    outcome, old, new = statistics.share_test(days, unusable.astype(float))
    infinite = f", {pair.current.infinite:,} of them infinite" if pair.current.infinite else ""
    sentence = f"{old:.1%} → {new:.1%} of rows have no value{infinite}"
    yield pair.finding("missingness", outcome, (abs(new - old), floor), sentence)


def _distribution(pair: Pair, days: Days, check: Check, floor: float) -> Finding:
    """Ask at once whether it moved, spread, leant over, split in two, or changed otherwise.

    Legendre polynomials of the ranks for the first four (Neyman 1937), of which the first is
    Wilcoxon's test (1945) and the second Mood's (1954); bins for the rest. The smallest p-value
    counts as often as there are questions (Bonferroni). The effect is the total variation distance:
    the share of rows that would have to change to look like the reference.
    """
    least = LEAST_SHARE if pair.ordered else LEAST_CATEGORY
    joined = days.grouped(statistics.pool(days, EXPECTED, least, ordered=pair.ordered))
    outcomes = [statistics.shape_test(joined)]
    if pair.ordered:
        scores = np.polynomial.legendre.legvander(2 * days.ranks, ORDER)
        outcomes += [statistics.mean_test(days, score) for score in scores.T[1:]]
    best = min(outcomes, key=lambda outcome: outcome.p)
    before, now = joined.shares
    effect = float(np.abs(now - before).sum() / 2)
    outcome = Outcome(best.statistic, min(1.0, len(outcomes) * best.p))
    sentence = f"{effect:.1%} of rows lie elsewhere than in the reference; "
    return pair.finding(check, outcome, (effect, floor), sentence + _most_changed(pair, days))


def _most_changed(pair: Pair, days: Days) -> str:
    before, now = days.shares
    if pair.ordered:
        old, new = (_median(pair.reference.edges, shares) for shares in (before, now))
        return f"median {old:.4g} → {new:.4g}"
    names = [*pair.reference.categories, "values not listed"]
    most = int(np.argmax(np.abs(now - before)))
    return f"most of all {names[most]}, {before[most]:.1%} → {now[most]:.1%}"


def _median(edges: list[float], shares: NDArray[np.float64]) -> float:
    """Return the upper end of the bin that holds the middle row."""
    place = int(np.searchsorted(shares.cumsum(), 0.5))
    return edges[min(place, len(edges) - 1)]


def _range(pair: Pair, days: Days, floor: float) -> Finding:
    """Ask whether more rows lie beyond the reference's ends than a sample leaves beyond its own."""
    before, now = days.windows
    rows = float(now[0] + now[-1])
    # The reference has no row beyond its ends: how its days share the extremes must do.
    held = before.cumsum() / before.sum()
    extremes = (held <= 2 * LAST) | (held - before / before.sum() >= 1 - 2 * LAST)
    by_days = share_effect(days, extremes.astype(float), ordered=True)
    old, new = pair.reference, pair.current
    p = statistics.rate_test(rows, now.sum(), 1, before.sum(), by_days)
    share = rows / float(now.sum())
    ends = f"{old.smallest:.6g} to {old.largest:.6g} → {new.smallest:.6g} to {new.largest:.6g}"
    sentence = f"{share:.2%} of rows are outside the reference's range; {ends}"
    return pair.finding("range", Outcome(rows, p), (share, floor), sentence)


def _tail(pair: Pair, days: Days, floor: float) -> Iterator[Finding]:
    """Ask of each end whether more rows, or fewer, lie among the reference's last, or beyond.

    They are the last hundredth, or twentieth where a hundredth is too few rows to tell, and those
    further out count more.
    """
    least = 2 * EXPECTED / min(rows.sum() for rows in days.windows)
    for end, turned in (("smallest", 1), ("largest", -1)):
        inward = Days(days.counts[:, ::turned], days.current)
        inward = inward.grouped(statistics.pool(inward, EXPECTED, 0, ordered=True))
        scores = statistics.tail_scores(inward, LAST, least)
        outcome, old, new = statistics.share_test(inward, scores, ordered=True)
        if old <= TAIL:
            sentence = f"{old:.1%} → {new:.1%} of rows are among the {end} values"
            yield pair.finding("tail", outcome, (abs(new - old), floor), sentence)


def _new_category(pair: Pair, days: Days, floor: float) -> Finding:
    """Ask whether more rows have unlisted values than the rare values of the reference announce.

    What a second sample adds is as frequent as what the first has seen once (Good 1953).
    """
    before, now = days.windows
    n, m, unlisted = before.sum(), now.sum(), float(now[-1])
    last = np.arange(len(now)) == len(now) - 1
    rare = float(before[-1]) + pair.reference.once
    by_days = share_effect(days, last.astype(float))
    effect = unlisted / m - rare / n if unlisted >= NEW_ROWS else 0.0
    new = sorted(pair.current.new.items(), key=lambda item: (-item[1], item[0]))
    names = "".join(f", {value} ({rows:,})" for value, rows in new[:TOLD])
    more = f" and {len(new) - TOLD:,} more" if len(new) > TOLD else ""
    outcome = Outcome(unlisted, statistics.rate_test(unlisted, m, rare, n, by_days))
    told = f"{unlisted / m:.2%} of rows have values that the reference does not list"
    size = (max(float(effect), 0.0), floor)
    return pair.finding("new_category", outcome, size, told + names.replace(",", ":", 1) + more)


def of_days(pairs: Sequence[Pair], floor: float) -> Iterator[Finding]:
    """Ask whether a feature's rows of one day lie higher or lower than on the window's other days.

    One check for all features: the smallest p-value counts as often as there are features. The
    effect is the share of that day's rows that would have to change to look like the others.
    """
    found = [finding for pair in pairs if pair.ordered for finding in _day(pair, floor)]
    if found:
        q_values = [min(1.0, finding.p * len(found)) for finding in found]
        told = [q <= CERTAIN and f.effect >= floor for f, q in zip(found, q_values, strict=True)]
        first = min(range(len(found)), key=lambda place: (not told[place], found[place].p))
        yield found[first].model_copy(update={"p": q_values[first]})


def _day(pair: Pair, floor: float) -> Iterator[Finding]:
    days = pair.days()
    dates = [day for day in sorted(pair.current.days) if sum(pair.current.days[day][:-DEAD])]
    if days.both and len(dates) >= FEWEST_DAYS:
        counts = days.counts[days.current]
        outcome, day = statistics.odd_day_test(counts, days.ranks)
        alone = Days(counts, np.arange(len(dates)) == day)
        old, new = (_median(pair.reference.edges, shares) for shares in alone.shares)
        joined = alone.grouped(statistics.pool(days, EXPECTED, LEAST_SHARE, ordered=True))
        effect = float(np.abs(np.diff(joined.shares, axis=0)).sum() / 2)
        told = f"{effect:.1%} of the rows of {dates[day]} lie elsewhere than on other days; "
        sentence = f"{told}median {old:.4g} → {new:.4g}"
        yield pair.finding("day", outcome, (effect, floor), sentence)


def of_dependence(reference: Profile, current: Profile, floor: float) -> Iterator[Finding]:
    """Ask whether any two features move together otherwise than before.

    One check for all pairs: the smallest p-value counts as often as there are pairs. Only what a
    rank correlation shows is seen, which is what sums over batches can carry.
    """
    names = list(reference.columns)
    one, other = np.triu_indices(len(names), 1)
    if not len(one) or not reference.moments or not current.moments:
        return
    r, s = (_correlations(profile)[one, other] for profile in (reference, current))
    pairs = (Pair(name, reference.columns[name], current.columns[name]) for name in names)
    factors = np.array([_rank_factor(pair) for pair in pairs])
    factor = np.minimum(factors[one], factors[other])
    z, p = statistics.correlation_tests(r, reference.rows, s, current.rows, factor)
    known = np.isfinite(z)
    if known.any():
        change = np.where(known, np.abs(s - r), 0.0)
        order = np.lexsort((-change, p))
        certain = p[order] * known.sum() <= CERTAIN
        told = order[certain & (change[order] >= floor)][:TOLD]
        first = told[0] if len(told) else order[0]
        yield Finding(
            column=ALL,
            check="dependence",
            statistic=float(z[first]),
            p=min(1.0, float(p[first]) * int(known.sum())),
            effect=float(change[first]),
            floor=floor,
            sentence="features that move together otherwise than in the reference: "
            + ", ".join(
                f"{names[one[k]]} with {names[other[k]]} (correlation {r[k]:.2f} → {s[k]:.2f})"
                for k in (told if len(told) else [first])
            ),
        )


def _correlations(profile: Profile) -> NDArray[np.float64]:
    """Return the features' rank correlations; NaN where a feature is constant."""
    sums = np.array(profile.moments)
    means = sums[0] / sums[0, 0]
    covariance = (sums / sums[0, 0] - np.outer(means, means))[1:, 1:]
    spread = np.sqrt(np.maximum(covariance.diagonal(), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = covariance / np.outer(spread, spread)
    constant = spread < NOTHING
    correlations[constant] = correlations[:, constant] = np.nan
    clipped: NDArray[np.float64] = np.clip(correlations, -0.9999, 0.9999)
    return clipped


def _rank_factor(pair: Pair) -> float:
    days = pair.days()
    return float(design_effects(days, days.ranks[:, None])[0][0]) if days.both else 1.0
