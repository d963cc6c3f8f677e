"""Typed configuration: configs/*.yaml, one file and one model each, unknown keys refused."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError
from .settings import ROOT

HUNDRED_YEARS = 36_525  # in days


class Section(BaseModel):
    """One configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _day_or_days_back(value: object) -> date | int:
    if type(value) is int and -HUNDRED_YEARS < value < 0:
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(
            "give a day, such as 2013-06-30, or a negative number: days before the data's last day"
        ) from None


def _day(until: date | int, last: date) -> date:
    return until if isinstance(until, date) else last + timedelta(days=until)


Until = Annotated[date | int, BeforeValidator(_day_or_days_back)]


class DataConfig(Section):
    """configs/data.yaml: the raw data and how time divides it."""

    path: Path = Field(description="the raw data, a file or a folder")
    train_until: Until = Field(description="last day of the training rows")
    validation_until: Until = Field(
        description="last day of the validation rows; the rest is holdout"
    )

    @model_validator(mode="after")
    def _splits_are_in_order(self) -> Self:
        train, validation = self.train_until, self.validation_until
        alike = isinstance(train, date) == isinstance(validation, date)
        if alike and _day(train, date.max) >= _day(validation, date.max):
            raise ValueError(
                f"train_until ({train}) must be before validation_until ({validation})"
            )
        return self

    def dated(self, last: date) -> "DataConfig":
        """Return it with days alone, where it counts back from the data's last day."""
        days = {k: _day(getattr(self, k), last) for k in ("train_until", "validation_until")}
        return _checked("data", DataConfig, {"path": self.path, **days})


class Bound(Section):
    """The least and the greatest value a metric may have."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _some_bound_is_set(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        return self


class Comparison(Section):
    """How much better than production a candidate must be, and how sure of it one must be."""

    min_improvement: float = Field(0.005, ge=0, description="share of the champion's mean loss")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided")
    resamples: int = Field(4000, ge=1000)
    min_days: int = Field(
        30, ge=2, description="fewer days of holdout cannot tell two models apart"
    )
    seed: int = 0


class Slices(Section):
    """Floors for groups of rows, so that a good average cannot hide a bad group."""

    columns: list[str] = Field(description="each value of each of these features is a slice")
    min_rows: int = Field(ge=1, description="smaller slices are listed, not judged")
    bounds: dict[str, Bound] = Field(min_length=1)


class Budgets(Section):
    """What serving a version may cost."""

    latency_ms: float = Field(
        gt=0, description="best time of several predictions of one row, which load does not blur"
    )
    size_mb: float = Field(gt=0, description="all files of the bundle that is served")


class GatesConfig(Section):
    """configs/gates.yaml: what a version must reach before an alias moves to it."""

    holdout: dict[str, Bound] = Field(min_length=1, description="bounds on the holdout's metrics")
    slices: Slices
    comparison: Comparison = Comparison()
    budgets: Budgets


class CardConfig(Section):
    """configs/card.yaml: what the model card says that no measurement can."""

    intended_use: str = Field(min_length=1)
    limits: list[str] = Field(min_length=1)


class Floors(Section):
    """The least change that matters, however certain it is."""

    distribution: float = Field(
        0.05, ge=0, lt=1, description="share of rows that moved to other values"
    )
    prediction: float = Field(0.05, ge=0, lt=1, description="the same, of the model's scores")
    tail: float = Field(0.005, ge=0, lt=1, description="added or lost share of extreme values")
    missingness: float = Field(0.02, ge=0, lt=1, description="added or vanished missing values")
    new_category: float = Field(0.005, ge=0, lt=1, description="share of values not seen before")
    range: float = Field(0.001, ge=0, lt=1, description="share of values out of range")
    day: float = Field(0.2, ge=0, lt=1, description="share of one day's rows unlike other days'")
    dependence: float = Field(0.1, ge=0, lt=2, description="change of a rank correlation")


class Watched(Section):
    """A metric that alarms once labels show it worse than on the holdout by more than noise."""

    better: Literal["higher", "lower"]
    tolerance: float = Field(ge=0, description="the least worsening that matters")


class Retraining(Section):
    """What stands between an alarm and a request for a retraining."""

    min_new_labels: int = Field(500, ge=0, description="labels that the window must have brought")
    cooldown_days: float = Field(3, ge=0, description="days between two requests")
    open_days: float = Field(
        7, ge=0, description="days that a request stays open, unless a version is registered"
    )


class DriftConfig(Section):
    """configs/drift.yaml: when monitoring raises an alarm."""

    false_alarms: float = Field(
        0.05, gt=0, lt=1, description="share of reports with an alarm when nothing has changed"
    )
    min_rows: int = Field(200, ge=50, description="fewer rows are not judged")
    compare_with: Literal["all", "weekdays"] = Field(
        "all", description="days of the reference: every one, or weekdays the window has"
    )
    consecutive: int = Field(2, ge=1, description="windows in a row that confirm an alarm")
    dependence: bool = Field(True, description="whether features moving together is checked")
    floors: Floors = Floors()
    min_labels: int = Field(200, ge=50, description="fewer labelled rows are not judged")
    metrics: dict[str, Watched] = Field(min_length=1)
    max_faults: float = Field(
        0.01, ge=0, lt=1, description="share of the log's lines that may be unusable"
    )
    retraining: Retraining = Retraining()


SectionT = TypeVar("SectionT", bound=Section)


def load(name: str, section: type[SectionT], overrides: Iterable[str] = ()) -> SectionT:
    """Read configs/<name>.yaml into its model.

    Parameters
    ----------
    name
        The file's name without its suffix.
    section
        The model that the file must fit.
    overrides
        Words such as ``data.train_until=2013-07-31``; those of other sections are passed over.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or has an unknown key or a wrong value.
    """
    path = ROOT / "configs" / f"{name}.yaml"
    values = _read(path)
    for override in overrides:
        target, key, value = split_override(override)
        if target == name:
            _assign(values, key, value)
    return _checked(name, section, values)


def _checked(name: str, section: type[SectionT], values: Mapping[str, Any]) -> SectionT:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"configs/{name}.yaml: {_first_problem(error, section)}") from None


def split_override(override: str) -> tuple[str, list[str], Any]:
    """Split ``section.key=value`` into its section, the path of its key, and its value."""
    left, separator, right = override.partition("=")
    section, *key = left.split(".")
    if not separator or not key or not all(key):
        raise ConfigError(f"--set {override}: write it as section.key=value")
    try:
        return section, key, yaml.safe_load(right)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {right!r} is not a YAML value") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; restore it from version control") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path.name} is not valid YAML: {problem}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name} must be a mapping of keys to values")
    return values


def _assign(values: dict[str, Any], key: list[str], value: object) -> None:
    for part in key[:-1]:
        nested = values.setdefault(part, {})
        if not isinstance(nested, dict):
            raise ConfigError(f"--set: {part!r} is a value, not a group of keys")
        values = nested
    values[key[-1]] = value


def _first_problem(error: ValidationError, section: type[Section]) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; the keys are {', '.join(section.model_fields)}"
    if problem["type"] == "missing":
        return f"{key} is missing"
    return f"{key}={problem['input']!r}: {problem['msg']}" if key else problem["msg"]
