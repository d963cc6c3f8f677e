"""Cloud Run, by gcloud: revisions, traffic by percentage, and a bucket for lock and journal."""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .command import attempt, failure, run, run_json
from .interface import CloudError, Endpoint, Observation
from .manifest import Manifest
from .variables import of_environment, variable

TAG = "candidate"
LABEL = "release"
SERVER_ERROR = 500
MOST_ENTRIES = 20_000  # of the request log in one look; more of a canary need not be read
# What gcloud says of an object, whole: a bucket is called after its project, as in acme-404123, and
# one that is not there itself is an error.
ABSENT = re.compile(r"matched no objects|gs://[^/\s]+/\S+ not found: 404\b")
TAKEN = re.compile(r"\bHTTPError 412\b")


@dataclass(frozen=True)
class CloudRun:
    """One service; names come from the environment, as `terraform output` prints them."""

    environment: str
    project: str
    region: str
    service: str
    bucket: str
    caller: str = ""

    def image_digest(self, repository: str, tag: str) -> str | None:
        """Look the tag up in the list of images, so that an error is never taken for absence."""
        images = run_json(
            ["gcloud", "artifacts", "docker", "images", "list", repository, "--include-tags",
             f"--project={self.project}", "--format=json"]
        )  # fmt: skip
        for image in images or []:
            tags = image.get("tags") or []
            if tag in (tags if isinstance(tags, list) else tags.split(", ")):
                return str(image["version"])
        return None

    def live(self) -> str | None:
        """Return the revision with the most traffic."""
        traffic = self.traffic()
        return max(traffic, key=lambda name: traffic[name], default=None)

    def traffic(self) -> dict[str, int]:
        """Return the percentages that Cloud Run has put into effect."""
        found: dict[str, int] = {}
        for target in self._describe()["status"].get("traffic", []):
            if target.get("percent"):
                name = target["revisionName"]
                found[name] = found.get(name, 0) + target["percent"]
        return found

    def stage(self, manifest: Manifest) -> str:
        """Deploy without traffic; `candidate` is the tag that gives the revision an address.

        The tag comes after: with `--tag`, `gcloud run deploy` names the revision (see `_revision`).
        """
        revision = self._revision(manifest.release)
        if revision is None:
            self._run(
                "deploy", self.service, f"--image={manifest.image}", "--no-traffic",
                f"--update-labels={LABEL}={manifest.release}",
            )  # fmt: skip
            revision = self._revision(manifest.release)
        if revision is None:
            raise CloudError(f"{manifest.release} was deployed, but no revision has its label")
        self._traffic(f"--update-tags={TAG}={revision}")
        return revision

    def candidate(self, revision: str) -> Endpoint:
        """Return the tag's own address."""
        status = self._describe()["status"]
        for target in status.get("traffic", []):
            if (target.get("tag"), target.get("revisionName")) == (TAG, revision):
                return Endpoint(target["url"], self._authorization(status["url"]))
        raise CloudError(f"{revision} has no address: it does not have the tag {TAG}")

    def public(self) -> Endpoint:
        """Return the service's address."""
        url = self._describe()["status"]["url"]
        return Endpoint(url, self._authorization(url))

    def shift(self, revision: str, percent: int, stable: str) -> None:
        """Split the traffic between two named revisions; `LATEST` would move by itself."""
        self._traffic(f"--to-revisions={revision}={percent},{stable}={100 - percent}")

    def promote(self, revision: str) -> None:
        """Send everything to the revision, and see that Cloud Run did."""
        self._traffic(f"--to-revisions={revision}=100")
        if self.traffic() != {revision: 100}:
            raise CloudError(f"{revision} was given all traffic, but it is {self.traffic()}")

    def withdraw(self, revision: str | None, stable: str | None) -> None:
        """Send everything to `stable` and take the candidate's address away."""
        serves = stable or revision
        split = [f"--to-revisions={serves}=100"] if serves else []
        self._traffic(*split, f"--remove-tags={TAG}")

    def observe(self, revision: str, since: datetime) -> Observation:
        """Count the revision's entries in the request log."""
        query = (
            'resource.type="cloud_run_revision" '
            f'resource.labels.revision_name="{revision}" '
            f'logName="projects/{self.project}/logs/run.googleapis.com%2Frequests" '
            f'timestamp>="{since.isoformat()}"'
        )
        printed = run(
            ["gcloud", "logging", "read", query, f"--project={self.project}",
             f"--limit={MOST_ENTRIES}", "--format=value(httpRequest.status)"]
        )  # fmt: skip
        statuses = [int(line) for line in printed.split()]
        return Observation(len(statuses), sum(status >= SERVER_ERROR for status in statuses))

    def create(self, name: str, text: str) -> bool:
        """Write on the condition that the object has no generation yet."""
        words = ["gcloud", "storage", "cp", "-", self._object(name), "--if-generation-match=0"]
        done = attempt(words, text)
        if done.returncode and not TAKEN.search(done.stderr):
            raise failure(words, done)
        return done.returncode == 0

    def read(self, name: str) -> str | None:
        """Print the object."""
        words = ["gcloud", "storage", "cat", self._object(name)]
        done = attempt(words)
        if done.returncode and not ABSENT.search(done.stderr):
            raise failure(words, done)
        return None if done.returncode else done.stdout

    def write(self, name: str, text: str) -> None:
        """Replace the object; the bucket keeps what was there as an older version."""
        run(["gcloud", "storage", "cp", "-", self._object(name)], text)

    def delete(self, name: str) -> None:
        """Remove the object."""
        words = ["gcloud", "storage", "rm", self._object(name)]
        done = attempt(words)
        if done.returncode and not ABSENT.search(done.stderr):
            raise failure(words, done)

    def _object(self, name: str) -> str:
        return f"gs://{self.bucket}/{self.environment}/{name}"

    def _authorization(self, audience: str) -> dict[str, str]:
        """Return the header of a caller; the audience is the service even for a tag's address.

        A job has no identity of its own and asks as the account that releases; a person has one.
        """
        words = ["gcloud", "auth", "print-identity-token"]
        if self.caller:
            words += [f"--impersonate-service-account={self.caller}", f"--audiences={audience}"]
        return {"Authorization": f"Bearer {run(words).strip()}"}

    def _describe(self) -> Any:
        return run_json(
            ["gcloud", "run", "services", "describe", self.service, *self._where(), "--format=json"]
        )

    def _revision(self, release: str) -> str | None:
        """Find the newest revision of a release: newer settings may have been applied to it.

        Revisions keep the names that Cloud Run gives them: a name of ours would stay in the
        service's template, and Terraform's next change of that would be refused as a duplicate.
        """
        found = run_json(
            ["gcloud", "run", "revisions", "list", f"--service={self.service}", *self._where(),
             "--format=json"]
        )  # fmt: skip
        known = [
            (each["metadata"]["creationTimestamp"], str(each["metadata"]["name"]))
            for each in found or []
            if each["metadata"].get("labels", {}).get(LABEL) == release
        ]
        return max(known)[1] if known else None

    def _traffic(self, *options: str) -> None:
        self._run("services", "update-traffic", self.service, *options)

    def _run(self, *words: str) -> None:
        run(["gcloud", "run", *words, *self._where(), "--quiet"])

    def _where(self) -> list[str]:
        return [f"--project={self.project}", f"--region={self.region}"]


def open_cloud(environment: str) -> CloudRun:
    """Return the environment's service, from the variables that Terraform prints."""
    return CloudRun(
        environment,
        project=variable("GCP_PROJECT"),
        region=variable("GCP_REGION"),
        service=of_environment("CLOUD_RUN_SERVICE", environment),
        bucket=variable("RELEASE_BUCKET"),
        caller=variable("GCP_SERVICE_ACCOUNT", "") if os.environ.get("GITHUB_ACTIONS") else "",
    )
