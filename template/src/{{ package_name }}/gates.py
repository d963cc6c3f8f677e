"""The gates: what a version is measured against before an alias moves to it. All fail closed."""

import math
import tempfile
import timeit
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model as ModelFile
from mlflow.models import ModelSignature

from . import bundle, comparison, evaluate, holdout, registry
from .config import Bound, GatesConfig
from .contract import FEATURE_NAMES, TARGET, example
from .errors import ConfigError, GateError, first_line
from .frames import Values, answers, model_frame, scored, signature
from .model import predict
from .model_format import load
from .schema import TIME

TIMED_PREDICTIONS = 25
PROVENANCE = ("git.", "lock.", "data.", "version.")
# What to do about a gate that fails, where that is the same whatever was measured.
ADVICE = {
    "status": "wait until the registry has taken the version in, or register it again",
    "quarantine": "it was rolled back from; train and register a new version instead",
    "bundle": "the model cannot predict the schema's example; look at model.py",
    "export": "register the model again: its bundle is not the model that was trained",
    "contract": "callers of the API would break: "
    "register it under another MODEL_NAME, or retrain it",
    "holdout": "train on the data and dates it was frozen with, or promote with --new-holdout",
}
OUTSIDE = "improve the model, or change the bound in configs/gates.yaml and say why in the commit"
ABSENT = "evaluate.py does not give it for these rows; if they are few, raise slices.min_rows"


@dataclass(frozen=True)
class Gate:
    """One gate's verdict: what was measured, the bound, and what to do if it failed."""

    name: str
    passed: bool
    measured: str
    bound: str
    advice: str = ""


@dataclass
class Evidence:
    """Everything that a promotion is decided on; the model card is made from it alone."""

    model: str
    version: str
    sha256: str | None
    champion: str | None
    bundle: dict[str, str] = field(default_factory=dict)
    frozen_holdout: str | None = None
    gates: list[Gate] = field(default_factory=list)
    holdout: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, comparison.Interval] = field(default_factory=dict)
    champion_metrics: dict[str, float] = field(default_factory=dict)
    improvement: comparison.Interval | None = None
    slices: list[dict[str, Any]] = field(default_factory=list)
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[Gate]:
        """The gates that block."""
        return [gate for gate in self.gates if not gate.passed]

    def as_dict(self) -> dict[str, Any]:
        """Return the evidence as plain data, for JSON."""
        return {**asdict(self), "passed": not self.failed}


def examine(
    client: MlflowClient,
    version: registry.Version,
    config: GatesConfig,
    *,
    new_holdout: bool = False,
) -> Evidence:
    """Put a version through every gate, beside the version in production if there is one.

    Whatever is wrong with the version fails a gate; it never raises and never passes.

    Raises
    ------
    ConfigError
        The configuration names a slice that the schema does not have.
    RegistryError
        The registry itself does not answer.
    """
    _known_slices(config)
    champion = registry.aliases(client, version.name).get(registry.PRODUCTION)
    evidence = Evidence(version.name, version.number, version.digest, champion)
    evidence.frozen_holdout = holdout.frozen(client, version.name)
    evidence.provenance = _provenance(client, version)
    evidence.gates += _standing(version)
    step = "artifact"
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = registry.fetch(version, Path(folder))
            model = load(path)
            evidence.gates.append(_artifact(version))
            step = "contract"
            evidence.gates.append(_contract(path))
            step = "bundle"
            served = registry.fetch_bundle(client, version, Path(folder))
            scorer = bundle.load(served)
            evidence.bundle = _bundle(version, scorer)
            evidence.gates += _served(version, served, scorer, config)
        step = "holdout"
        rows = holdout.fetch(client, version)
        evidence.gates.append(_holdout(evidence, rows, new=new_holdout))
        step = "scores"
        predicted = predict(model, model_frame(rows))
        evidence.gates.append(_export(scored(scorer, model_frame(rows)), predicted))
        evidence.gates += _scores(evidence, rows, predicted, config)
        step = "improvement"
        evidence.gates.append(_improvement(client, evidence, rows, predicted, config))
    except Exception as error:  # noqa: BLE001 - what cannot be measured must not pass
        evidence.gates.append(_not_measured(step, error))
    return evidence


def _known_slices(config: GatesConfig) -> None:
    for column in config.slices.columns:
        if column not in FEATURE_NAMES:
            raise ConfigError(
                f"configs/gates.yaml: slices.columns names {column!r}, which is no feature in "
                f"schema.py; the features are {', '.join(FEATURE_NAMES)}"
            )


def _not_measured(name: str, error: Exception) -> Gate:
    advice = "mend what is said here, then register the model again"
    return Gate(name, passed=False, measured=first_line(error), bound="measurable", advice=advice)


def _gate(name: str, passed: bool, measured: str, bound: str) -> Gate:
    return Gate(name, passed, measured, bound, ADVICE[name])


def _standing(version: registry.Version) -> list[Gate]:
    reason = version.tags.get(registry.QUARANTINE_TAG)
    return [
        _gate("status", version.status == "READY", version.status, "READY"),
        _gate("quarantine", reason is None, reason or "not quarantined", "not quarantined"),
    ]


def _bundle(version: registry.Version, scorer: bundle.Scorer) -> dict[str, str]:
    description = scorer.description
    told = {"sha256": str(version.bundle_digest), "runtime": description.runtime}
    return {**told, **({"note": description.note} if description.note else {})}


def _served(
    version: registry.Version, path: Path, scorer: bundle.Scorer, config: GatesConfig
) -> list[Gate]:
    """Predict once with what a service would load, then time it; its digest was checked before."""
    row = [example()]
    value = float(scorer(row)[0])
    seconds = timeit.repeat(lambda: scorer(row), number=1, repeat=TIMED_PREDICTIONS)
    latency, size = min(seconds) * 1e3, registry.size(path) / 1e6
    budgets, digest = config.budgets, str(version.bundle_digest)[:12]
    told = f"{scorer.description.runtime}, sha256 {digest}, predicts {value:.4g}"
    return [
        _gate("bundle", math.isfinite(value), told, "recorded sha256, a finite number"),
        _within("latency", latency, Bound(max=budgets.latency_ms), "ms for one row, at best"),
        _within("size", size, Bound(max=budgets.size_mb), "MB"),
    ]


def _export(served: Values, predicted: Values) -> Gate:
    """Compare, on the holdout, what a service would answer with the model that is judged."""
    worst = bundle.differ(served, predicted)
    told = f"served answers differ from the model's by {worst:.2g} at most"
    return _gate("export", worst <= bundle.TOLERANCE, told, f"at most {bundle.TOLERANCE:g}")


def _artifact(version: registry.Version) -> Gate:
    """Say what `fetch` and `load` have made sure of."""
    measured = f"sha256 {str(version.digest)[:12]}, loads"
    return Gate("artifact", passed=True, measured=measured, bound="recorded sha256, holds no code")


def _contract(path: Path) -> Gate:
    """Compare what the version takes and gives with what this code sends and answers."""
    found = ModelFile.load(str(path)).signature
    wanted = signature()
    same = found is not None and found.to_dict() == wanted.to_dict()
    differing = "no signature" if found is None else _difference(found, wanted)
    told = "the schema's" if same else differing
    return _gate("contract", same, told, "the signature that schema.py makes")


def _difference(found: ModelSignature, wanted: ModelSignature) -> str:
    have = {column.name: str(column) for column in found.inputs.inputs}
    want = {column.name: str(column) for column in wanted.inputs.inputs}
    names = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
    return f"differs in {', '.join(names) or 'its output'}"


def _holdout(evidence: Evidence, rows: pd.DataFrame, *, new: bool) -> Gate:
    own, frozen = holdout.digest(rows), evidence.frozen_holdout
    days = rows[TIME]
    evidence.holdout = {
        "sha256": own,
        "rows": len(rows),
        "first_day": f"{days.min():%Y-%m-%d}",
        "last_day": f"{days.max():%Y-%m-%d}",
    }
    bound = "any, it will be frozen" if new or frozen is None else f"frozen {frozen[:12]}"
    return _gate("holdout", new or frozen in {None, own}, f"sha256 {own[:12]}", bound)


def _scores(
    evidence: Evidence, rows: pd.DataFrame, predicted: Values, config: GatesConfig
) -> list[Gate]:
    """Hold the holdout's metrics, overall and by slice, against their bounds."""
    target = rows[TARGET.name].to_numpy(np.float64)
    if not np.isfinite(predicted).all():
        raise GateError(f"{int((~np.isfinite(predicted)).sum()):,} predictions are not numbers")
    days = rows[TIME].dt.normalize().to_numpy()
    evidence.metrics = comparison.intervals(
        evaluate.score, target, predicted, days, config.comparison.seed
    )
    values = evaluate.score(target, predicted)
    gates = [_within(name, values.get(name), bound) for name, bound in config.holdout.items()]
    for column in config.slices.columns:
        for value, part in rows.assign(predicted=predicted).groupby(column, dropna=False):
            label = f"{column}={'missing' if pd.isna(value) else value!s}"
            gates += _slice(evidence, label, part, config)
    return gates


def _slice(evidence: Evidence, label: str, part: pd.DataFrame, config: GatesConfig) -> list[Gate]:
    judged = len(part) >= config.slices.min_rows
    found = evaluate.score(*answers(part)) if judged else {}
    metrics = {name: found.get(name) for name in config.slices.bounds}
    evidence.slices.append({"slice": label, "rows": len(part), "judged": judged, **metrics})
    if not judged:
        return []
    return [
        _within(f"{name} of {label}", metrics[name], bound)
        for name, bound in config.slices.bounds.items()
    ]


def _improvement(
    client: MlflowClient,
    evidence: Evidence,
    rows: pd.DataFrame,
    predicted: Values,
    config: GatesConfig,
) -> Gate:
    """Score the champion on the same rows; a tie, and any doubt, keeps it in production."""
    settings = config.comparison
    bound = f"more than {settings.min_improvement:.2%} less loss, {settings.confidence:.0%} sure"
    if evidence.champion is None:
        return Gate("improvement", passed=True, measured="no version is in production", bound=bound)
    if evidence.champion == evidence.version:
        return Gate("improvement", passed=True, measured="it is in production", bound=bound)
    champion = registry.version(client, evidence.model, evidence.champion)
    against = _served_scores(client, champion, rows)
    target, days = rows[TARGET.name].to_numpy(np.float64), rows[TIME].dt.normalize().to_numpy()
    evidence.champion_metrics = evaluate.score(target, against)
    count = int(np.unique(days).size)
    if count < settings.min_days:
        raise GateError(f"the holdout has {count} days, {settings.min_days} are needed to compare")
    shares = comparison.improvement(
        evaluate.losses(target, predicted), evaluate.losses(target, against), days, settings
    )
    evidence.improvement = shares
    return Gate(
        "improvement",
        shares.low > settings.min_improvement,
        f"{shares.value:+.2%} less loss than version {champion.number}, at least {shares.low:+.2%}",
        bound,
        f"keep version {champion.number}: the difference may be noise",
    )


def _served_scores(client: MlflowClient, champion: registry.Version, rows: pd.DataFrame) -> Values:
    """Score by what is served, which is read whatever model.py and schema.py have become."""
    frame = model_frame(rows)
    with tempfile.TemporaryDirectory() as folder:
        if champion.bundle_digest is None:  # the template's 0.1.0 wrote none
            return predict(load(registry.fetch(champion, Path(folder))), frame)
        served = registry.fetch_bundle(client, champion, Path(folder))
        scorer = bundle.load(served, own_features=True)
    gone = {*scorer.description.categories, *scorer.description.numbers} - {*frame}
    if gone:
        raise GateError(
            f"version {champion.number} needs {', '.join(sorted(gone))}, which schema.py has no "
            "more: start anew under another MODEL_NAME"
        )
    return scored(scorer, frame)


def _within(name: str, value: float | None, bound: Bound, unit: str = "") -> Gate:
    """Hold one number against a bound; None and NaN are outside every bound."""
    low = -math.inf if bound.min is None else bound.min
    high = math.inf if bound.max is None else bound.max
    limits = [f"at least {bound.min:g}"] if bound.min is not None else []
    limits += [f"at most {bound.max:g}"] if bound.max is not None else []
    return Gate(
        name,
        value is not None and low <= value <= high,
        "not measured" if value is None else f"{value:.4g} {unit}".strip(),
        " and ".join(limits),
        ABSENT if value is None else OUTSIDE,
    )


def _provenance(client: MlflowClient, version: registry.Version) -> dict[str, str]:
    """Return what the version's run says of its code, data and environment."""
    tags = client.get_run(version.run_id).data.tags
    return {k: str(v) for k, v in sorted(tags.items()) if k.startswith(PROVENANCE)}
