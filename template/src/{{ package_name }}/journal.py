"""The journal: one record per promotion, rollback or repair, kept as runs of an own experiment.

An event is written before anything moves (`intended`) and closed afterwards (`done`, `refused` or
`abandoned`). Tags on a version would be overwritten by the next move; runs are only added.
"""

import getpass
import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Run

from .creation import once

INTENDED, DONE, REFUSED, ABANDONED = "intended", "done", "refused", "abandoned"
NONE = "none"


@dataclass(frozen=True)
class Event:
    """One record; `before` and `after` are version numbers, or None for no version."""

    id: str
    kind: str
    stage: str
    outcome: str
    before: str | None
    after: str | None
    at_ms: int
    tags: dict[str, str]

    @property
    def when(self) -> str:
        """The time it was closed, or opened if it never was, in ISO 8601."""
        return moment(self.at_ms)


def moment(at_ms: int) -> str:
    """Write milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def actor() -> str:
    """Return who acts: the account that started the CI job, else this machine's user."""
    return os.environ.get("GITHUB_ACTOR") or f"{getpass.getuser()}@{platform.node()}"


def ci_url() -> str:
    """Return the page of the CI run this process belongs to, or nothing."""
    names = ("SERVER_URL", "REPOSITORY", "RUN_ID")
    parts = [os.environ.get(f"GITHUB_{name}", "") for name in names]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def begin(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> str:
    """Write that something is intended and return the record's id.

    `tags` must hold kind, stage, before and after, and may hold anything else worth keeping.
    """
    key = uuid.uuid4().hex
    everything = {"outcome": INTENDED, "actor": actor(), "ci": ci_url(), "key": key, **tags}
    name = f"{tags['kind']} {tags['after']}"
    run = once(
        lambda: client.create_run(experiment, tags=everything, run_name=name),
        lambda: next(iter(client.search_runs([experiment], f"tags.key = '{key}'")), None),
    )
    return str(run.info.run_id)


def close(client: MlflowClient, event: str, outcome: str, note: str = "") -> None:
    """Write how an intended event ended."""
    if note:
        client.set_tag(event, "note", note)
    client.set_tag(event, "outcome", outcome)
    client.set_terminated(event, "FINISHED" if outcome == DONE else "FAILED")


def events(client: MlflowClient, experiment: str) -> list[Event]:
    """Return all records, newest first."""
    found: list[Event] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], order_by=["attributes.start_time DESC"], max_results=500, page_token=token
        )
        found += [_event(run) for run in page if "outcome" in run.data.tags]  # not others'
        token = page.token
        if not token:
            return found


def _event(run: Run) -> Event:
    tags = dict(run.data.tags)
    return Event(
        str(run.info.run_id),
        tags["kind"],
        tags["stage"],
        tags["outcome"],
        _number(tags["before"]),
        _number(tags["after"]),
        int(run.info.end_time or run.info.start_time),
        {key: value for key, value in tags.items() if not key.startswith("mlflow.")},
    )


def _number(text: str) -> str | None:
    return None if text == NONE else text


def in_stage_at(history: Sequence[Event], stage: str, at_ms: int) -> str | None:
    """Return the version that was in a stage at a moment, from a history, newest first."""
    for event in history:
        if event.stage == stage and event.outcome == DONE and event.at_ms <= at_ms:
            return event.after
    return None
