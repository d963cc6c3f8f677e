"""Asking somebody else to retrain, or to look at broken data. Nothing here trains or promotes.

Windows and requests are journaled in an own experiment of the tracking store, so that what was
asked for is known wherever the next window is looked at. A request is written down before it is
sent, and whoever then sees another open one beside his own stands back: of two monitors at once
at most one asks.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import requests
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from .. import journal, registry
from ..config import DriftConfig
from ..errors import ConfigError, DeliveryError
from ..journal import DONE, INTENDED, Event
from ..lifecycle import Store
from ..settings import Settings
from . import drift
from .report import Report, Request

WINDOW, RETRAIN, QUALITY = "window", "retrain", "data-quality"
SLACK = 0.1  # of a window's length: scheduled jobs start late
SECONDS = 15
LOCAL = ("http://127.0.0.1", "http://localhost")


@dataclass(frozen=True)
class Past:
    """What is known of earlier windows and requests of a model."""

    events: Sequence[Event]
    before: Sequence[Report]
    newest_version_ms: int

    def asked(self, kind: str) -> list[Event]:
        """Return the requests of a kind that were sent, or are about to be, newest first."""
        return [e for e in self.events if e.kind == kind and e.outcome in {DONE, INTENDED}]


def look_back(store: Store, report: Report, consecutive: int) -> Past:
    """Read the journal, and the reports of the windows right before this one, newest first."""
    events = store.history()
    before: list[Report] = []
    start, length = report.since, report.until - report.since
    for event in (each for each in events if each.kind == WINDOW):
        if len(before) == consecutive - 1:
            break
        until = datetime.fromisoformat(str(event.after))
        fits = event.tags.get("version") == report.version
        if fits and start - length * SLACK <= until <= start + length * SLACK:
            found = _stored(store, event)
            if found is not None:
                before.append(found)
                start = found.since
    versions = registry.versions(store.client, store.model)
    return Past(events, before, max((v.created_ms for v in versions), default=0))


def _stored(store: Store, event: Event) -> Report | None:
    try:
        path = store.client.download_artifacts(event.id, "report.json")
        return Report.model_validate_json(Path(path).read_bytes())
    except (MlflowException, OSError, ValidationError):  # deleted, or of another schema version
        return None


def decide(report: Report, past: Past, config: DriftConfig, now: datetime) -> Request:
    """Say what should be asked for, and what stands against asking it now."""
    if report.verdict != "alarm":
        return Request(event="none", sent=False, blocked=[])
    event: Literal["retrain", "data-quality"] = "data-quality" if report.quality else "retrain"
    blocked = _asked_already(event, past, config, now)
    if event == RETRAIN:
        labelled = report.performance.labelled if report.performance else 0
        if labelled < config.retraining.min_new_labels:
            blocked.append(
                f"{labelled:,} labels have arrived; a model learns something new from "
                f"{config.retraining.min_new_labels:,} (min_new_labels in configs/drift.yaml)"
            )
        if not _lasting([*reversed(past.before), report], config.consecutive):
            blocked.append(
                f"{config.consecutive} windows in a row must raise the same alarm, and only this "
                "one is known to"
            )
    return Request(event=event, sent=False, blocked=blocked)


def _asked_already(event: str, past: Past, config: DriftConfig, now: datetime) -> list[str]:
    """Return why it is too early to ask again."""
    for asked in past.asked(event)[:1]:
        age = now - datetime.fromtimestamp(asked.at_ms / 1000, UTC)
        answered = past.newest_version_ms > asked.at_ms
        if not answered and age < timedelta(days=config.retraining.open_days):
            return [f"the request of {asked.when} is still open"]
        if age < timedelta(days=config.retraining.cooldown_days):
            return [f"the last request was {asked.when}; cooldown_days have not passed"]
    return []


def _lasting(windows: Sequence[Report], consecutive: int) -> bool:
    worse = [w.performance is not None and w.performance.state == "worse" for w in windows]
    if len(windows) >= consecutive and all(worse[-consecutive:]):
        return True
    return bool(drift.confirmed([window.findings for window in windows], consecutive))


def record(store: Store, report: Report, folder: Path) -> str:
    """Write a window into the journal, with its report and page, and return the event's id."""
    event = journal.begin(store.client, store.experiment, _tags(WINDOW, report))
    for name in ("report.json", "report.html"):
        store.client.log_artifact(event, str(folder / name))
    journal.close(store.client, event, DONE)
    return event


def ask(store: Store, report: Report, past: Past, location: str, settings: Settings) -> str:
    """Send a request between two journal records; return why it was not, or nothing.

    Raises
    ------
    ConfigError
        There is nowhere to send it.
    DeliveryError
        It was not accepted; the journal says so, and the next window may ask again.
    """
    kind = report.request.event if report.request else "none"
    target = destination(settings, kind)
    event = journal.begin(store.client, store.experiment, _tags(kind, report))
    now = Past(store.history(), [], 0)
    known = {each.id for each in past.events} | {event}
    if any(other.id not in known for other in now.asked(kind)):
        note = "another monitor is asking at this moment"
        journal.close(store.client, event, journal.ABANDONED, note)
        return note
    try:
        deliver(target, payload(report, kind, location), settings)
    except DeliveryError as error:
        journal.close(store.client, event, journal.REFUSED, str(error))
        raise
    journal.close(store.client, event, DONE, location)
    return ""


def _tags(kind: str, report: Report) -> dict[str, str]:
    return {
        "kind": kind,
        "stage": "monitoring",
        "before": report.since.isoformat(),
        "after": report.until.isoformat(),
        "version": report.version,
        "verdict": report.verdict,
    }


def payload(report: Report, kind: str, location: str) -> dict[str, Any]:
    """Return what a receiver is told."""
    return {
        "event": kind,
        "model": report.model,
        "version": report.version,
        "since": report.since.isoformat(),
        "until": report.until.isoformat(),
        "report": location,
        "reasons": report.reasons[:20],
    }


def destination(settings: Settings, event: str) -> str:
    """Return where a request goes: the webhook, else GitHub.

    Raises
    ------
    ConfigError
        Neither is set up, or the webhook is not one to trust with a report.
    """
    if settings.retrain_webhook:
        if not settings.retrain_webhook.startswith(("https://", *LOCAL)):
            raise ConfigError("RETRAIN_WEBHOOK must be an https:// address")
        if settings.retrain_secret is None:
            raise ConfigError("RETRAIN_WEBHOOK needs RETRAIN_SECRET, which signs what is sent")
        return settings.retrain_webhook
    if settings.github_repository and settings.github_token is not None:
        path = "issues" if event == QUALITY else "dispatches"
        return f"{settings.github_api_url}/repos/{settings.github_repository}/{path}"
    raise ConfigError(
        "there is nowhere to send a request: set RETRAIN_WEBHOOK and RETRAIN_SECRET, or "
        "GITHUB_REPOSITORY and GITHUB_TOKEN"
    )


def deliver(address: str, told: Mapping[str, Any], settings: Settings) -> None:
    """Post a request.

    Raises
    ------
    DeliveryError
        The receiver could not be reached or did not accept it.
    """
    headers = {"Content-Type": "application/json"}
    if address == settings.retrain_webhook:
        stamped = {**told, "sent": datetime.now(UTC).isoformat(timespec="seconds")}
        body = json.dumps(stamped).encode()
        headers["X-Signature-256"] = signature(body, settings)
    else:
        body = json.dumps(_for_github(told)).encode()
        token = settings.github_token.get_secret_value() if settings.github_token else ""
        headers |= {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
    where = address.partition("?")[0]
    try:
        answer = requests.post(
            address, body, headers=headers, timeout=SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        reason = type(error).__name__
        raise DeliveryError(f"{where} could not be reached ({reason}); nothing was asked") from None
    if not answer.ok or answer.is_redirect:
        raise DeliveryError(f"{where} answered {answer.status_code}; the request was not accepted")


def signature(body: bytes, settings: Settings) -> str:
    """Sign a body as GitHub signs its webhooks: `sha256=` and the HMAC of the bytes in hex."""
    secret = settings.retrain_secret.get_secret_value() if settings.retrain_secret else ""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def _for_github(told: Mapping[str, Any]) -> dict[str, Any]:
    if told["event"] == RETRAIN:
        return {"event_type": RETRAIN, "client_payload": told}
    lines = [f"- {reason}" for reason in told["reasons"]]
    title = f"Broken data: {told['model']} version {told['version']}, until {told['until'][:10]}"
    about = "Monitoring does not ask for a retraining while the data looks broken."
    return {"title": title, "body": "\n".join([about, "", *lines, "", f"Report: {told['report']}"])}
