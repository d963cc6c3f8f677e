"""The report: one document, versioned, from which the page is drawn and requests are decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..config import DriftConfig
from ..contract import Kind
from . import drift, performance
from .checks import Finding
from .performance import Performance
from .profile import ColumnProfile, Metric, Profile
from .records import FAULTS, Reading

Verdict = Literal["none", "alarm", "insufficient"]
EXIT_CODES: Mapping[Verdict, int] = {"none": 0, "alarm": 10, "insufficient": 11}
Shares = NDArray[np.float64]
UNLISTED = "values not listed"
NAMED_BINS = 12  # values of a category that get a bar each


class Part(BaseModel):
    """A part of the report; keys that this version does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Bin(Part):
    """A bar of a histogram: the share of rows with a value, in the reference and in the window."""

    label: str
    reference: float
    current: float


class ColumnReport(Part):
    """A feature, or the predictions: both distributions, and what the checks found."""

    name: str
    kind: Kind
    alarm: bool
    moved: float | None = Field(description="total variation distance, 0 to 1; null: not judged")
    missing: tuple[float, float] = Field(description="share of rows: reference, window")
    infinite: int
    new: dict[str, int] = Field(description="rows of values that the reference does not list")
    bins: list[Bin]
    findings: list[Finding]


class Day(Part):
    """One day (UTC) of the window; means are null where nothing was to average."""

    day: str
    rows: int
    score: float | None
    labelled: int
    observed: float | None = Field(description="mean target of the labelled rows")
    predicted: float | None = Field(description="mean score of the same rows")


class Log(Part):
    """What was read, and what was not used for which reason."""

    place: str
    files: int
    files_of_other_days: int
    unreadable_files: list[str]
    rows: int
    excluded: dict[str, int]
    versions: dict[str, int]
    truncated_values: int
    not_finite_values: int
    samples: list[float] = Field(description="fractions of the requests that were logged")


class Labels(Part):
    """The labels' file."""

    place: str
    usable: int
    unusable: int
    replaced: int = Field(description="rows whose label a later one in the file replaced")


class Request(Part):
    """What was asked for outside: nothing, a retraining, or that somebody looks at the data."""

    event: Literal["none", "retrain", "data-quality"]
    sent: bool
    blocked: list[str] = Field(description="why it was not, or would not be, sent")


class Report(Part):
    """One window of one version's predictions, compared with the version's reference."""

    schema_version: Literal[1] = 1
    created: datetime
    model: str
    version: str
    since: datetime
    until: datetime
    verdict: Verdict
    exit_code: int
    reasons: list[str] = Field(description="in words, the most serious first")
    quality: bool = Field(description="whether an alarm says that data is broken")
    reference_rows: int
    reference_first: datetime | None
    reference_last: datetime | None
    log: Log
    labels: Labels | None
    performance: Performance | None
    holdout: dict[str, Metric] = Field(description="the metrics to compare with")
    prediction: ColumnReport | None
    features: list[ColumnReport]
    together: list[Finding] = Field(description="checks of features taken together")
    days: list[Day]
    request: Request | None = None

    @property
    def findings(self) -> list[Finding]:
        """Every check."""
        columns = [*([self.prediction] if self.prediction else []), *self.features]
        return [*self.together, *(finding for column in columns for finding in column.findings)]


@dataclass(frozen=True)
class Evidence:
    """What was read of a window, and what it is compared with."""

    reading: Reading
    place: str
    reference: Profile
    current: Profile
    days: Sequence[Day]
    labels: Labels | None
    performance: Performance | None


def make(seen: Evidence, config: DriftConfig) -> Report:
    """Compare the window with the reference and put everything down.

    A drop in performance or a broken log alarms however few rows there are.
    """
    reference, current, reading = seen.reference, seen.current, seen.reading
    too_few = drift.insufficient(reference, current, config)
    found = drift.compare(reference, current, config) if too_few is None else []
    # JSON has no infinity and no NaN.
    findings = [f.model_copy(update={"statistic": np.nan_to_num(f.statistic)}) for f in found]
    broken = _broken(reading, config)
    reasons = [*broken, *performance.reasons(seen.performance, findings)]
    verdict: Verdict = "alarm" if reasons else "insufficient" if too_few else "none"
    window = reading.window
    columns = {
        name: _column(name, column, current.columns[name], findings)
        for name, column in reference.columns.items()
    }
    prediction = None
    if reference.prediction is not None and current.prediction is not None:
        prediction = _column("prediction", reference.prediction, current.prediction, findings)
    return Report(
        created=datetime.now(UTC),
        model=window.model,
        version=window.version,
        since=window.since,
        until=window.until,
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        reasons=reasons or ([too_few] if too_few else []),
        quality=bool(broken) or any(f.alarm and f.quality for f in findings),
        reference_rows=reference.rows,
        reference_first=reference.first,
        reference_last=reference.last,
        log=_log(reading, seen.place),
        labels=seen.labels,
        performance=seen.performance,
        holdout=reference.metrics,
        prediction=prediction,
        features=sorted(columns.values(), key=lambda each: (not each.alarm, -(each.moved or 0))),
        together=[f for f in findings if f.column not in {*columns, "prediction"}],
        days=list(seen.days),
    )


def _broken(reading: Reading, config: DriftConfig) -> list[str]:
    """Say whether more of the log than is tolerable could not be read."""
    faults = {reason: reading.excluded[reason] for reason in FAULTS if reading.excluded[reason]}
    lost, all_rows = sum(faults.values()), sum(reading.excluded.values()) + reading.rows
    found = []
    if lost > config.max_faults * all_rows:
        listed = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in faults.items())
        found.append(f"{lost / all_rows:.1%} of the log's lines are not usable: {listed}")
    return found + [f"the log's file {problem}" for problem in reading.unreadable]


def _log(reading: Reading, place: str) -> Log:
    return Log(
        place=place,
        files=reading.files,
        files_of_other_days=reading.other_days,
        unreadable_files=reading.unreadable,
        rows=reading.rows,
        excluded=dict(+reading.excluded),
        versions=dict(reading.versions),
        truncated_values=reading.values["truncated"],
        not_finite_values=reading.values["not_finite"],
        samples=sorted(reading.samples),
    )


def _column(
    name: str, reference: ColumnProfile, current: ColumnProfile, findings: Sequence[Finding]
) -> ColumnReport:
    before, now = (_shares(profile) for profile in (reference, current))
    found = [finding for finding in findings if finding.column == name]
    judged = [f.effect for f in found if f.check in {"distribution", "prediction"}]
    return ColumnReport(
        name=name,
        kind=reference.kind,
        alarm=any(finding.alarm for finding in found),
        moved=judged[0] if judged else None,
        missing=(_missing(reference), _missing(current)),
        infinite=current.infinite,
        new=current.new,
        bins=_bins(reference, before, now),
        findings=found,
    )


def _shares(profile: ColumnProfile) -> Shares:
    counts = profile.counts
    shares: Shares = counts / max(int(counts.sum()), 1)
    return shares


def _missing(profile: ColumnProfile) -> float:
    return profile.missing / max(int(profile.totals.sum()), 1)


def _bins(reference: ColumnProfile, before: Shares, now: Shares) -> list[Bin]:
    if reference.kind != "category":
        edges = [f"{edge:.6g}" for edge in reference.edges]
        labels = [f"up to {edge}" for edge in edges]
        labels += [f"above {edges[-1]}" if edges else "any"]
        return [_bin(*row) for row in zip(labels, before, now, strict=True)]
    order = np.argsort(-np.maximum(before[:-1], now[:-1]), kind="stable")
    shown, rest = order[:NAMED_BINS], order[NAMED_BINS:]
    bins = [_bin(reference.categories[place], before[place], now[place]) for place in shown]
    if len(rest):
        bins.append(_bin(f"{len(rest)} other values", before[rest].sum(), now[rest].sum()))
    return [*bins, _bin(UNLISTED, before[-1], now[-1])]


def _bin(label: str, reference: float, current: float) -> Bin:
    return Bin(label=label, reference=round(float(reference), 6), current=round(float(current), 6))
