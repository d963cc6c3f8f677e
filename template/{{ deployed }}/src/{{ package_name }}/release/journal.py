"""The lock and the journal of an environment, kept in its bucket.

The journal is one line of JSON per event and is written only by who holds the lock. The lock holds
what a release must know to be taken up again after a kill: who, which release, what served before.
"""

import contextlib
import getpass
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ..errors import ConflictError
from .interface import Cloud, StrandedError

LOCK = "lock.json"
JOURNAL = "journal.jsonl"
STAGED, CANARY, PROMOTED = "staged", "canary", "promoted"
REJECTED, ROLLED_BACK, UNLOCKED = "rejected", "rolled back", "unlocked"
ROLLBACK = "rollback"  # what the lock says instead of a release


@dataclass
class Lock:
    """Who is changing the environment; `before` is the revision to go back to."""

    owner: str
    release: str
    since: str
    before: str | None = None


@dataclass(frozen=True)
class Event:
    """One line of the journal."""

    at: str
    what: str
    release: str
    revision: str
    note: str
    actor: str
    ci: str


def now() -> str:
    """Return the time in UTC, in ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def actor() -> str:
    """Return who acts: the account that started the CI job, else this machine's user."""
    return os.environ.get("GITHUB_ACTOR") or f"{getpass.getuser()}@{platform.node()}"


def owner() -> str:
    """Return what tells one process that releases from another: the CI run, or the process.

    A CI run keeps its number when it is attempted again, and never has two attempts at once: the
    second takes up what the first left, and nobody else does.
    """
    run = os.environ.get("GITHUB_RUN_ID")
    return f"CI run {run}" if run else f"{actor()} (process {os.getpid()})"


def ci_url() -> str:
    """Return the page of the CI run this process belongs to, or nothing."""
    parts = [
        os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    ]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def record(cloud: Cloud, what: str, release: str, revision: str, note: str = "") -> None:
    """Add a line to the journal."""
    event = Event(now(), what, release, revision, note, actor(), ci_url())
    line = json.dumps(asdict(event), separators=(",", ":"))
    cloud.write(JOURNAL, f"{cloud.read(JOURNAL) or ''}{line}\n")


def events(cloud: Cloud) -> list[Event]:
    """Return the journal, newest first."""
    lines = (cloud.read(JOURNAL) or "").splitlines()
    return [Event(**json.loads(line)) for line in reversed(lines)]


def good(history: list[Event]) -> list[Event]:
    """Return each revision's last promotion, newest first, of those never rolled back from."""
    left = {event.revision for event in history if event.what == ROLLED_BACK}
    kept: dict[str, Event] = {}
    for event in history:
        if event.what == PROMOTED and event.revision not in left:
            kept.setdefault(event.revision, event)
    return list(kept.values())


def holder(cloud: Cloud) -> Lock | None:
    """Return who holds the lock, or None if nobody does."""
    text = cloud.read(LOCK)
    return Lock(**json.loads(text)) if text else None


@contextlib.contextmanager
def held(cloud: Cloud, release: str) -> Iterator[Lock]:
    """Hold the environment's lock, or take up the one that a killed run of ours left.

    It is freed however the work ends, unless the process is killed or traffic is not where it
    should be.

    Raises
    ------
    ConflictError
        Somebody else holds it.
    """
    lock = Lock(owner(), release, now())
    if not cloud.create(LOCK, json.dumps(asdict(lock))):
        found = holder(cloud)
        if found is None or (found.owner, found.release) != (lock.owner, release):
            raise ConflictError(f"{describe(found)}; {HOW_TO_UNLOCK.format(cloud.environment)}")
        lock = found
    try:
        yield lock
    except StrandedError:
        raise  # nobody else should start from here
    except BaseException:
        cloud.delete(LOCK)
        raise
    cloud.delete(LOCK)


HOW_TO_UNLOCK = (
    "wait for it, or, if that process is gone, put traffic back and free the lock with "
    "`make unlock ENV={}`"
)


def describe(lock: Lock | None) -> str:
    """Say who holds the lock."""
    if lock is None:
        return "another release has just ended"
    return f"{lock.owner} has been releasing {lock.release} since {lock.since}"


def keep(cloud: Cloud, lock: Lock) -> None:
    """Write what the lock knows now."""
    cloud.write(LOCK, json.dumps(asdict(lock)))
