"""What has changed between the reference and a window, and how sure one can be.

Every check gives one p-value, all p-values of a report are adjusted together, and an alarm takes
both: an adjusted p-value under the false-alarm rate, and an effect over its floor. So at any
number of rows a report of unchanged data rarely alarms, and many rows do not make trifles matter.
"""

from collections.abc import Sequence
from datetime import date

import numpy as np

from ..config import DriftConfig
from . import checks
from .checks import Finding, Pair
from .days import independent_rows
from .profile import UNDATED, ColumnProfile, Profile
from .statistics import adjust

ENOUGH = 100  # rows as good as independent; below, no estimate of how alike days are holds


def insufficient(reference: Profile, current: Profile, config: DriftConfig) -> str | None:
    """Say why the windows are too small to be judged, or return None."""
    for label, profile in (("reference", reference), ("window", current)):
        if profile.rows < config.min_rows:
            return (
                f"the {label} has {profile.rows:,} rows; {config.min_rows:,} are needed to judge "
                "it (min_rows in configs/drift.yaml)"
            )
    pairs = (Pair(name, c, current.columns[name]) for name, c in reference.columns.items())
    known = [independent_rows(days) for days in (pair.days() for pair in pairs) if days.both]
    alike = float(np.median(known)) if known else np.inf
    if alike < ENOUGH:
        return (
            f"rows of one day are so alike that they tell as much as {alike:.0f} independent rows; "
            f"{ENOUGH} are needed to judge them: look at more days (--last)"
        )
    return None


def compare(reference: Profile, current: Profile, config: DriftConfig) -> list[Finding]:
    """Compare a window with the reference.

    Parameters
    ----------
    reference
        The profile that was logged with the model.
    current
        The window, counted into ``profile.empty_like(reference)``.
    config
        The false-alarm rate, the floors, and which days to compare with.

    Returns
    -------
    list
        Every check that the data allows, alarms first, then the most surprising. Empty where a
        window is; whether it is too small to be judged, `insufficient` says.
    """
    if config.compare_with == "weekdays":
        reference = like_with_like(reference, current)
    if not reference.rows or not current.rows:
        return []
    pairs = [Pair(name, c, current.columns[name]) for name, c in reference.columns.items()]
    found = [finding for pair in pairs for finding in checks.of_feature(pair, config.floors)]
    found += checks.of_days(pairs, config.floors.day)
    if reference.prediction is not None and current.prediction is not None:
        pair = Pair("prediction", reference.prediction, current.prediction)
        found += checks.of_prediction(pair, config.floors)
    if config.dependence:
        found += checks.of_dependence(reference, current, config.floors.dependence)
    return _judge(found, config.false_alarms)


def _judge(found: Sequence[Finding], rate: float) -> list[Finding]:
    q_values = adjust(np.array([finding.p for finding in found]))
    judged = [
        finding.model_copy(
            update={"q": float(q), "alarm": bool(q <= rate and finding.effect >= finding.floor)}
        )
        for finding, q in zip(found, q_values, strict=True)
    ]
    return sorted(judged, key=lambda finding: (not finding.alarm, finding.q))


def confirmed(windows: Sequence[Sequence[Finding]], consecutive: int) -> list[Finding]:
    """Return the last window's alarms that every one of the last few windows raised.

    Parameters
    ----------
    windows
        The findings of windows that follow each other, the latest last.
    consecutive
        How many in a row it takes; with fewer windows than that nothing is confirmed.
    """
    if len(windows) < consecutive:
        return []
    raised = [{(f.column, f.check) for f in window if f.alarm} for window in windows]
    lasting = set.intersection(*raised[-consecutive:])
    return [f for f in windows[-1] if f.alarm and (f.column, f.check) in lasting]


def like_with_like(reference: Profile, current: Profile) -> Profile:
    """Keep the days of the reference whose weekday occurs in the window.

    A window of a weekend is then compared with weekends. How features move together is not kept by
    day and stays that of the whole reference. Without dated rows the reference comes back whole.
    """
    wanted = {_weekday(day) for day in _days(current)}
    kept = {day for day in _days(reference) if _weekday(day) in wanted}
    if not wanted or not kept:
        return reference
    columns = {name: _on(column, kept) for name, column in reference.columns.items()}
    prediction = None if reference.prediction is None else _on(reference.prediction, kept)
    rows = max((int(column.totals.sum()) for column in columns.values()), default=0)
    return reference.model_copy(update={"columns": columns, "prediction": prediction, "rows": rows})


def _days(profile: Profile) -> set[str]:
    return {day for column in profile.columns.values() for day in column.days} - {UNDATED}


def _weekday(day: str) -> int:
    return date.fromisoformat(day).weekday()


def _on(column: ColumnProfile, days: set[str]) -> ColumnProfile:
    kept = {day: counts for day, counts in column.days.items() if day in days}
    return column.model_copy(update={"days": kept})
