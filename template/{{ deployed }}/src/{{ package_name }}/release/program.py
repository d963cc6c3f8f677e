"""The contract: what a release does, in which order, and what happens when a step fails.

    stage at 0 %  ->  smoke  ->  canary  ->  all traffic  ->  smoke  ->  done
                        |          |            |              |
                        +----------+------------+--------------+-> back to what served before

Staging and production run the same steps, staging without a canary. Nothing is built here.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import ProjectError
from . import journal, smoke
from .interface import Cloud, CloudError, RejectedError, StrandedError
from .manifest import Manifest
from .plan import CanaryStep, Plan

Report = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """One environment's cloud, the plan for it, and how time passes."""

    cloud: Cloud
    plan: Plan
    report: Report = lambda line: print(line, file=sys.stderr)
    wait: Callable[[float], None] = time.sleep

    def release(self, manifest: Manifest) -> str:
        """Take a manifest through all steps and return the revision that now serves alone.

        Running it again is harmless: what was killed half-way starts over from the revision that
        it had staged, and what is done is not done again.

        Raises
        ------
        RejectedError
            The candidate failed, and what served before serves again; or it was rolled back from.
        StrandedError
            The candidate failed, and traffic could not be put back.
        ConflictError
            Another release holds the environment.
        """
        with journal.held(self.cloud, manifest.release) as lock:
            self._refuse_what_was_left(manifest.release)
            self._remember(lock)
            revision = None
            try:
                self._say("stage", manifest.image)
                revision = self.cloud.stage(manifest)
                if revision == lock.before:
                    self.report(f"{revision} serves already")
                    return revision
                self._advance(manifest, revision, lock.before)
            except BaseException as error:
                self._go_back(manifest.release, revision, lock.before, error)
                raise
        return revision

    def _remember(self, lock: journal.Lock) -> str | None:
        """Write down what serves before anything changes, unless a killed run did so."""
        if lock.before is None:
            lock.before = self.cloud.live()
            journal.keep(self.cloud, lock)
        return lock.before

    def _refuse_what_was_left(self, release: str) -> None:
        for event in journal.events(self.cloud):
            if event.what == journal.ROLLED_BACK and event.release == release:
                raise RejectedError(
                    f"{release} was rolled back from at {event.at}: {event.note or 'no reason'}; "
                    "build a new release"
                )

    def _advance(self, manifest: Manifest, revision: str, before: str | None) -> None:
        journal.record(self.cloud, journal.STAGED, manifest.release, revision, manifest.image)
        self._say("smoke", f"{revision} at 0 %")
        smoke.check(self.cloud.candidate(revision), manifest.model, self.plan.ready_seconds)
        if before is not None:
            for step in self.plan.canary:
                note = f"{step.percent} % for {step.minutes:g} min"
                journal.record(self.cloud, journal.CANARY, manifest.release, revision, note)
                self._canary(revision, before, step)
        self._say("promote", f"{revision} to 100 %")
        self.cloud.promote(revision)
        self._say("smoke", "the public address")
        smoke.check(self.cloud.public(), manifest.model, self.plan.ready_seconds)
        journal.record(self.cloud, journal.PROMOTED, manifest.release, revision)

    def _canary(self, revision: str, before: str, step: CanaryStep) -> None:
        """Give a share of the traffic for a while; look often, so that a failure is short."""
        self._say("canary", f"{revision} at {step.percent} % for {step.minutes:g} min")
        since = datetime.now(UTC)
        self.cloud.shift(revision, step.percent, before)
        for _ in range(max(1, round(step.minutes * 60 / self.plan.look_seconds))):
            self.wait(self.plan.look_seconds)
            smoke.predict(self.cloud.candidate(revision))
            seen = self.cloud.observe(revision, since)
            if seen.error_share > self.plan.max_error_share:
                raise smoke.SmokeError(
                    f"{seen.errors} of {seen.requests} requests failed at {step.percent} %, "
                    f"more than {self.plan.max_error_share:.1%}"
                )

    def _go_back(
        self, release: str, revision: str | None, before: str | None, error: BaseException
    ) -> None:
        """Put traffic back, stop the candidate; turn what it did wrong into RejectedError."""
        why = str(error) or type(error).__name__
        self._say("back", f"to {before or 'nothing'}, because {why}")
        try:
            self.cloud.withdraw(revision, before)
            journal.record(self.cloud, journal.REJECTED, release, revision or "", why)
        except ProjectError as failed:
            raise StrandedError(
                f"{why}; and traffic could not be put back to {before}: {failed}. "
                f"Run `make unlock ENV={self.cloud.environment}`"
            ) from error
        if isinstance(error, smoke.SmokeError | CloudError):
            what = f"{revision} failed" if revision else f"{release} did not start"
            raise RejectedError(f"{what}: {why}. {before or 'nothing'} serves") from error

    def rollback(self, reason: str, to: str | None = None) -> str:
        """Give all traffic back to an earlier release and never offer the one left again.

        Raises
        ------
        RejectedError
            There is no such release; or it serves, but does not answer or cannot be asked.
        """
        with journal.held(self.cloud, journal.ROLLBACK) as lock:
            current = self._remember(lock)
            target = self._earlier(current, to)
            self._say("rollback", f"{current} to {target.revision}")
            self.cloud.promote(target.revision)
            if current is not None and current != target.revision:
                left = self._release_of(current)
                journal.record(self.cloud, journal.ROLLED_BACK, left, current, reason)
            journal.record(self.cloud, journal.PROMOTED, target.release, target.revision, reason)
            try:
                smoke.predict(self.cloud.public())
            except smoke.SmokeError as error:
                raise RejectedError(f"{target.revision} serves, but {error}") from None
            except CloudError as error:
                said = f"{target.revision} serves, but could not be asked: {error}"
                raise RejectedError(said) from None
        return target.revision

    def _earlier(self, current: str | None, to: str | None) -> journal.Event:
        known = journal.good(journal.events(self.cloud))
        others = [event for event in known if event.revision != current]
        for event in others:
            if to in {None, event.release, event.revision}:
                return event
        raise RejectedError(
            f"no earlier release {to or ''} of {self.cloud.environment} to go back to; "
            f"there are: {', '.join(event.release for event in others) or 'none'}"
        )

    def _release_of(self, revision: str) -> str:
        for event in journal.events(self.cloud):
            if event.revision == revision:
                return event.release
        return ""

    def unlock(self) -> str | None:
        """Put back what a killed release left, free its lock, and say what was done."""
        lock = journal.holder(self.cloud)
        if lock is None:
            return None
        if lock.before is not None and lock.release != journal.ROLLBACK:
            self.cloud.withdraw(lock.before, lock.before)  # a candidate may run without traffic too
        journal.record(self.cloud, journal.UNLOCKED, lock.release, "", journal.describe(lock))
        self.cloud.delete(journal.LOCK)
        return f"{journal.describe(lock)}; {self.cloud.live() or 'nothing'} serves"

    def _say(self, step: str, what: str) -> None:
        self.report(f"{step:<9} {what}")
