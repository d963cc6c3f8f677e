"""What a cloud must be able to do for a release, and how a release fails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ..errors import GateError, ProjectError
from .manifest import Manifest


class CloudError(ProjectError):
    """The cloud, its command line tool or the service did not do as asked."""


class RejectedError(GateError):
    """A candidate failed; traffic is on the revision that served before. Exit code 3."""


class StrandedError(ProjectError):
    """A candidate failed and traffic could not be put back; a person must. Exit code 5."""

    exit_code = 5


@dataclass(frozen=True)
class Endpoint:
    """Where a revision answers, and what a request must carry to reach it."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """What a revision has answered: all requests, and those that ended in a 5xx."""

    requests: int
    errors: int

    @property
    def error_share(self) -> float:
        """The share of requests that failed; 0 where there were none."""
        return self.errors / self.requests if self.requests else 0.0


class Cloud(Protocol):
    """One service in one environment of one cloud.

    Each cloud has one module, `cloud.py`, with a function ``open_cloud(environment: str) -> Cloud``
    that reads the names it needs from environment variables and raises ConfigError, naming the
    variable, where one is missing. It drives the cloud's own command line tool through
    ``command.run``. All decisions are made in program.py: an adapter does one thing per call,
    waits until the cloud says that it is done, and raises CloudError when it is not.

    Every call may come twice, because a killed release is run again: doing again what is done
    already is no error. A *revision* is whatever the cloud can send traffic to and keeps after it
    is replaced. Names of revisions are opaque to the program, and what it gives as `stable` it has
    got from `live` or `stage`.

    The bucket of the environment holds the lock and the journal, as small text objects. `create` is
    the only primitive that must be atomic.
    """

    @property
    def environment(self) -> str:
        """`staging` or `production`."""

    def image_digest(self, repository: str, tag: str) -> str | None:
        """Return the ``sha256:…`` that a tag names in a registry, or None if it does not exist."""

    def live(self) -> str | None:
        """Return the revision with the most traffic, or None where nothing is deployed yet.

        A placeholder that Terraform created, so that a first apply works, counts as a revision.
        """

    def traffic(self) -> dict[str, int]:
        """Return the percentage of each revision that has any."""

    def stage(self, manifest: Manifest) -> str:
        """Start the manifest's image as a new revision without traffic, and return its name.

        The name follows from ``manifest.release``, so that a second call finds the first one's
        revision. Returns once the revision is ready to be asked at `candidate`.
        """

    def candidate(self, revision: str) -> Endpoint:
        """Return where a staged revision answers although it has no traffic."""

    def public(self) -> Endpoint:
        """Return where everybody asks."""

    def shift(self, revision: str, percent: int, stable: str) -> None:
        """Give a staged revision a percentage of the traffic, and `stable` all of the rest."""

    def promote(self, revision: str) -> None:
        """Give a revision, staged or of an earlier release, all traffic for good.

        Returns once it serves alone. Raises CloudError if the cloud went back by itself, as a
        circuit breaker or an alarm makes it.
        """

    def withdraw(self, revision: str | None, stable: str | None) -> None:
        """Give `stable` all traffic, and stop a staged revision from answering at `candidate`.

        Also undoes a promotion that did not complete, and a staging that did not: that one's
        revision has no name yet. With no `stable` there is nothing to go back to: the revision is
        only stopped.
        """

    def observe(self, revision: str, since: datetime) -> Observation:
        """Return what a revision has answered since a moment, as the cloud counted it."""

    def create(self, name: str, text: str) -> bool:
        """Write an object only if there is none of that name; say whether this call wrote it."""

    def read(self, name: str) -> str | None:
        """Return an object's text, or None if there is none of that name."""

    def write(self, name: str, text: str) -> None:
        """Write an object, over an earlier one if there is any."""

    def delete(self, name: str) -> None:
        """Remove an object; that it is not there is no error."""
