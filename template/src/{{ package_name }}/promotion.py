"""What can be done with model versions: look, measure, promote, roll back, repair."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import bundle, journal, lifecycle, lock, model_card, registry
from .config import CardConfig, GatesConfig
from .config import load as load_config
from .contract import example
from .errors import ConflictError, GateError, RegistryError
from .lifecycle import Move, Store
from .settings import ROOT

if TYPE_CHECKING:
    from .gates import Evidence, Gate

# Being better than production is asked of a version when production is asked for.
PRODUCTION_ONLY = frozenset({"improvement"})
Result = dict[str, Any]


def candidate(store: Store, number: str | None, stage: str = "staging") -> registry.Version:
    """Return the version named, else the one in staging for production, else the newest.

    A stage's name stands for the version that is in it.
    """
    if number in registry.STAGES:
        return registry.resolve(store.client, store.model, number)
    if number is not None:
        return registry.version(store.client, store.model, number)
    if stage == registry.PRODUCTION:
        return registry.resolve(store.client, store.model, "staging")
    found = registry.versions(store.client, store.model)
    if not found:
        raise RegistryError(f"model {store.model!r} has no version yet; run `make run` first")
    return found[0]


def examine(store: Store, version: registry.Version, *, new_holdout: bool) -> "Evidence":
    """Put a version through the configured gates."""
    from . import gates  # takes seconds, which whoever rolls back does not have

    config = load_config("gates", GatesConfig)
    return gates.examine(store.client, version, config, new_holdout=new_holdout)


def write_card(store: Store, version: registry.Version, evidence: Result) -> Path:
    """Write the model card and its evidence where people find them, and return the page's path."""
    with tempfile.TemporaryDirectory() as folder:
        listed = store.client.list_artifacts(version.run_id, "plots")
        paths = [store.client.download_artifacts(version.run_id, f.path, folder) for f in listed]
        plots = {Path(path).stem: Path(path).read_bytes() for path in paths}
    page = model_card.render(evidence, load_config("card", CardConfig), plots)
    target = ROOT / "artifacts" / "promotion" / version.number
    target.mkdir(parents=True, exist_ok=True)
    (target / "evidence.json").write_text(json.dumps(evidence, indent=2) + "\n", encoding="utf-8")
    (target / "model_card.html").write_text(page, encoding="utf-8")
    return target / "model_card.html"


def evaluate(store: Store, chosen: argparse.Namespace) -> Result:
    """Measure a version without moving anything; the result is what `promote` will need."""
    version = candidate(store, chosen.version)
    evidence = examine(store, version, new_holdout=chosen.new_holdout).as_dict()
    card = write_card(store, version, evidence)
    return {**evidence, "expect": evidence["champion"] or journal.NONE, "card": str(card)}


def promote(store: Store, chosen: argparse.Namespace) -> Result:
    """Move an alias to a version that passes the gates.

    Raises
    ------
    GateError
        A gate failed; the refusal is written in the journal.
    ConflictError
        The version or the alias is not the one that was expected.
    """
    stage = chosen.to
    version = candidate(store, chosen.version, stage)
    held = registry.aliases(store.client, store.model)
    before = held.get(stage)
    result = {"model": store.model, "stage": stage, "version": version.number, "previous": before}
    _as_expected(chosen, version, before)
    if before == version.number:
        return {**result, "moved": False, "why": "it is there already"}
    if stage == registry.PRODUCTION and held.get("staging") != version.number:
        raise GateError(f"version {version.number} is not in staging; promote it there first")
    found = examine(store, version, new_holdout=chosen.new_holdout)
    card = write_card(store, version, found.as_dict())
    move = _move(chosen, version, before, found)
    spared = PRODUCTION_ONLY if stage != registry.PRODUCTION else frozenset()
    failed = [gate for gate in found.failed if gate.name not in spared]
    if failed:
        if not chosen.dry_run:
            lifecycle.refuse(store, move)
        raise GateError(_refusal(version, stage, failed))
    if chosen.dry_run:
        return {**result, "moved": False, "why": "dry run: every gate passes", "card": str(card)}
    store.client.log_artifact(version.run_id, str(card), "model_card")
    event = lifecycle.carry_out(store, move)
    return {**result, "moved": True, "event": event, "card": str(card)}


def _as_expected(chosen: argparse.Namespace, version: registry.Version, before: str | None) -> None:
    if chosen.expect is not None and chosen.expect != (before or journal.NONE):
        raise ConflictError(
            f"{chosen.to} is at version {before or journal.NONE}, --expect said {chosen.expect}; "
            "somebody moved it, so evaluate again"
        )
    if chosen.sha256 is not None and chosen.sha256 != version.digest:
        raise ConflictError(
            f"version {version.number} has sha256 {version.digest}, --sha256 said {chosen.sha256}"
        )


def _move(
    chosen: argparse.Namespace, version: registry.Version, before: str | None, found: "Evidence"
) -> Move:
    details = {"sha256": str(version.digest), **found.provenance}
    if found.holdout:
        details["holdout"] = found.holdout["sha256"]
    return Move(
        "promote", chosen.to, before, version.number, chosen.reason, details, found.as_dict()
    )


def _refusal(version: registry.Version, stage: str, failed: Sequence["Gate"]) -> str:
    lines = [f"{g.name}: {g.measured}, needed: {g.bound}; {g.advice}" for g in failed]
    return f"version {version.number} stays out of {stage}. " + ". ".join(lines)


def rollback(store: Store, chosen: argparse.Namespace) -> Result:
    """Put an earlier good version back into production and quarantine the one it leaves."""
    target, current = lifecycle.rollback_target(store, chosen.to)
    with tempfile.TemporaryDirectory() as folder:
        bundle.load(registry.fetch_bundle(store.client, target, Path(folder)))([example()])
    stage, number = registry.PRODUCTION, target.number
    result = {"model": store.model, "stage": stage, "version": number, "previous": current}
    if chosen.dry_run:
        return {**result, "moved": False, "why": f"dry run: version {number} loads"}
    details = {"sha256": str(target.digest)}
    move = Move("rollback", stage, current, number, chosen.reason, details)
    return {**result, "moved": True, "event": lifecycle.carry_out(store, move)}


def status(store: Store, _chosen: argparse.Namespace) -> Result:
    """Return the versions, where each stands, and anything that needs repair."""
    held = registry.aliases(store.client, store.model)
    history = store.history()
    rows = [
        {
            "version": version.number,
            "stages": sorted(alias for alias, number in held.items() if number == version.number),
            "quarantined": version.tags.get(registry.QUARANTINE_TAG),
            "created": journal.moment(version.created_ms),
            "sha256": version.digest,
            "run_id": version.run_id,
        }
        for version in registry.versions(store.client, store.model)
    ]
    return {
        "model": store.model,
        "stages": {stage: held.get(stage) for stage in registry.STAGES},
        "versions": rows,
        "attention": _attention(store, held, history),
    }


def _attention(
    store: Store, held: Mapping[str, str], history: Sequence[journal.Event]
) -> list[str]:
    found = []
    holder = lock.holder(store.client, store.model)
    if holder is not None:
        found.append(f"{lock.describe(holder)} ({holder.get('what', 'unknown')})")
    unfinished = lifecycle.unfinished(history)
    found += [
        f"{event.kind} of version {event.after} to {event.stage} began {event.when} and did not "
        f"end; {event.stage} is at version {held.get(event.stage) or journal.NONE}"
        for event in unfinished
    ]
    if found:
        found.append("if that process is gone, `promote_model break-lock` completes or closes it")
    for stage in registry.STAGES:
        recorded = journal.in_stage_at(history, stage, sys.maxsize)
        if recorded != held.get(stage) and not unfinished:
            found.append(
                f"{stage} is at version {held.get(stage) or journal.NONE}, the journal says "
                f"{recorded or journal.NONE}: it was moved by other means"
            )
    return found


def history(store: Store, chosen: argparse.Namespace) -> Result:
    """Return the journal, or what was in each stage at a moment."""
    events = store.history()
    if chosen.at is None:
        return {"model": store.model, "events": [_as_row(event) for event in events]}
    at_ms = int(chosen.at.timestamp() * 1000)
    stages = {stage: journal.in_stage_at(events, stage, at_ms) for stage in registry.STAGES}
    return {"model": store.model, "at": journal.moment(at_ms), "stages": stages}


def _as_row(event: journal.Event) -> Result:
    return {
        "when": event.when,
        "kind": event.kind,
        "stage": event.stage,
        "before": event.before,
        "after": event.after,
        "outcome": event.outcome,
        **{key: event.tags.get(key, "") for key in ("actor", "reason", "note", "ci", "sha256")},
        "git_sha": event.tags.get("git.sha", ""),
        "data_sha256": event.tags.get("data.sha256", ""),
        "event": event.id,
    }


def break_lock(store: Store, chosen: argparse.Namespace) -> Result:
    """Finish or close what a killed process began, and free the lock."""
    if chosen.dry_run:
        found = status(store, chosen)["attention"]
        return {"model": store.model, "done": [], "attention": found}
    return {"model": store.model, "done": lifecycle.repair(store)}


COMMANDS: Mapping[str, Callable[[Store, argparse.Namespace], Result]] = {
    "status": status,
    "history": history,
    "evaluate": evaluate,
    "promote": promote,
    "rollback": rollback,
    "break-lock": break_lock,
}
