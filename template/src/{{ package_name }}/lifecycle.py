"""Moving aliases: promote, roll back, and repair what a killed process left."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient

from . import holdout, journal, lock, registry, tracking
from .errors import ConflictError, GateError, RegistryError
from .journal import NONE, Event
from .settings import Settings


@dataclass(frozen=True)
class Move:
    """A change of one alias: from the version it is expected at to another."""

    kind: str
    stage: str
    before: str | None
    after: str
    reason: str
    details: Mapping[str, str]
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class Store:
    """The registry of one model and the experiment that holds its journal, or none yet."""

    client: MlflowClient
    model: str
    experiment: str

    def history(self) -> list[Event]:
        """Return the journal, newest first."""
        return journal.events(self.client, self.experiment) if self.experiment else []


def open_store(settings: Settings, what: str = "journal", *, writes: bool = True) -> Store:
    """Connect to the registry and find the model's journal, or monitoring's; writers make it."""
    client = tracking.connect(settings)
    name = tracking.beside_runs(settings, what)
    if writes:
        experiment = tracking.ensure_experiment(client, settings, name)
    else:
        experiment = tracking.find_experiment(client, name)
    return Store(client, settings.model_name, experiment)


def carry_out(store: Store, move: Move) -> str:
    """Move the alias under the lock, between two journal records, and return the event's id.

    Raises
    ------
    ConflictError
        The lock is held, or the alias is not where it was expected.
    GateError
        The version was quarantined, or its files replaced, since it was judged.
    RegistryError
        The registry failed half-way; the lock stays and `repair` resolves it.
    """
    since = journal.moment(int(time.time() * 1000))
    owner = {"actor": journal.actor(), "since": since, "what": f"{move.kind} {move.after}"}
    with lock.held(store.client, store.model, owner) as guard:
        _still_as_judged(store, move)
        guard.begun = True
        event = _write_down(store, move)
        lock.confirm(store.client, store.model, guard)
        store.client.set_registered_model_alias(store.model, move.stage, move.after)
        _complete(store, _record(move))
        journal.close(store.client, event, journal.DONE)
    return event


def _still_as_judged(store: Store, move: Move) -> None:
    current = registry.aliases(store.client, store.model).get(move.stage)
    if current != move.before:
        raise ConflictError(
            f"{move.stage} is at version {current or NONE}, expected {move.before or NONE}: "
            "somebody moved it; evaluate again"
        )
    version = registry.version(store.client, store.model, move.after)
    if registry.QUARANTINE_TAG in version.tags:
        raise GateError(f"version {move.after} was quarantined meanwhile")
    if version.digest != move.details.get("sha256"):
        raise GateError(f"version {move.after} has another sha256 than the one that was judged")


def _record(move: Move) -> dict[str, str]:
    return {
        "kind": move.kind,
        "stage": move.stage,
        "before": move.before or NONE,
        "after": move.after,
        "reason": move.reason,
        **move.details,
    }


def _complete(store: Store, record: Mapping[str, str]) -> None:
    """Do what follows a moved alias. Doing it twice does no harm, so `repair` calls it too."""
    if record["kind"] == "rollback":
        reason = f"rolled back from {record['stage']}: {record['reason'] or 'no reason given'}"
        client = store.client
        client.set_model_version_tag(store.model, record["before"], registry.QUARANTINE_TAG, reason)
    if "holdout" in record:
        store.client.set_registered_model_tag(store.model, holdout.TAG, record["holdout"])


def refuse(store: Store, move: Move) -> None:
    """Write down that the gates refused a move; nothing moves, so no lock is needed."""
    journal.close(store.client, _write_down(store, move), journal.REFUSED)


def _write_down(store: Store, move: Move) -> str:
    event = journal.begin(store.client, store.experiment, _record(move))
    if move.evidence is not None:
        store.client.log_dict(event, move.evidence, "evidence.json")
    return event


def rollback_target(store: Store, wanted: str | None) -> tuple[registry.Version, str]:
    """Return the version to roll back to and the one in production now.

    Raises
    ------
    GateError
        The version wanted was never in production, or was itself rolled back from.
    RegistryError
        Nothing is in production, or no earlier good version is left.
    """
    current = registry.aliases(store.client, store.model).get(registry.PRODUCTION)
    if current is None:
        raise RegistryError(f"model {store.model!r} has nothing in production to roll back from")
    fit = {
        version.number: version
        for version in registry.versions(store.client, store.model)
        if version.number != current and registry.QUARANTINE_TAG not in version.tags
    }
    served = dict.fromkeys(
        event.after
        for event in store.history()
        if event.stage == registry.PRODUCTION and event.outcome == journal.DONE
    )
    good = [fit[number] for number in served if number in fit]
    if wanted is None and not good:
        raise RegistryError(
            f"no earlier version of {store.model!r} that was in production and is not quarantined; "
            "train and promote a new one"
        )
    for version in good:
        if wanted in {None, version.number}:
            return version, current
    raise GateError(
        f"version {wanted} is not one to roll back to: it must have been in production before, "
        f"not be there now and not be quarantined (such versions: "
        f"{', '.join(version.number for version in good) or NONE})"
    )


def unfinished(history: Sequence[Event]) -> list[Event]:
    """Return the events that were begun and never closed."""
    return [event for event in history if event.outcome == journal.INTENDED]


def repair(store: Store) -> list[str]:
    """Finish or close what a killed process began, free the lock, and say what was done.

    An event whose alias has moved is completed; one whose alias has not is abandoned.
    """
    done: list[str] = []
    held = lock.holder(store.client, store.model)
    for event in unfinished(store.history()):
        current = registry.aliases(store.client, store.model).get(event.stage)
        label = f"{event.kind} of version {event.after} to {event.stage}"
        if current == event.after:
            _complete(store, event.tags)
            journal.close(store.client, event.id, journal.DONE, "completed by break-lock")
            done.append(f"completed the {label}, whose alias had moved")
        else:
            note = f"{event.stage} is at version {current or NONE}"
            journal.close(store.client, event.id, journal.ABANDONED, note)
            done.append(f"abandoned the {label}: {note}")
    if held is not None:
        lock.release(store.client, store.model)
        done.append(f"freed the lock: {lock.describe(held)}")
    return done
