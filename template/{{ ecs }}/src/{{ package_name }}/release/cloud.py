"""ECS, by aws: a live service, a candidate service, and a load balancer's weights between them.

A revision is a task definition, by its ARN. `live` takes it over last, by a rolling deployment that
ECS itself ends or takes back; until then the candidate's own tasks answer.
"""

import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .command import attempt, failure, run, run_json
from .interface import CloudError, Endpoint, Observation
from .manifest import Manifest
from .variables import of_environment, variable

LIVE, CANDIDATE = "live", "candidate"
HEADERS = {"X-Release": CANDIDATE}  # what the listener's rule sends to the candidate
ALL = 100
# All requests, then those that fail: by an answer, or because no task takes the connection.
COUNTED = ("RequestCount", "HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount")
PAUSE_SECONDS = 10.0
DEPLOYMENT_SECONDS = 1200.0
# What describes a registered task definition, and is no part of one to register.
DESCRIPTIVE = (
    "taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities",
    "registeredAt", "registeredBy", "deregisteredAt", "deleteRequestedAt",
)  # fmt: skip


@dataclass(frozen=True)
class Ecs:
    """One cluster with its two services; names come from `terraform output`."""

    environment: str
    region: str
    cluster: str
    listener: str
    url: str
    bucket: str

    def image_digest(self, repository: str, tag: str) -> str | None:
        """Ask for this tag alone; only an image that is not there is absence."""
        account, _, name = repository.partition("/")
        words = self._aws(
            "ecr", "describe-images", f"--registry-id={account.partition('.')[0]}",
            f"--repository-name={name}", f"--image-ids=imageTag={tag}",
        )  # fmt: skip
        done = attempt(words)
        if done.returncode and _failed_with(done.stderr, "ImageNotFoundException"):
            return None
        if done.returncode:
            raise failure(words, done)
        return str(json.loads(done.stdout)["imageDetails"][0]["imageDigest"])

    def live(self) -> str | None:
        """Return the task definition with the most traffic."""
        traffic = self.traffic()
        return max(traffic, key=lambda name: traffic[name], default=None)

    def traffic(self) -> dict[str, int]:
        """Return the listener's weights, by what the two services run."""
        weights = self._weights()
        found: dict[str, int] = {}
        for service in self._services().values():
            weight = weights.get(_target_group(service), 0)
            if weight:
                name = service["taskDefinition"]
                found[name] = found.get(name, 0) + weight
        return found

    def stage(self, manifest: Manifest) -> str:
        """Run the release in as many candidate tasks as are live: it may get half the traffic."""
        revision = self._register(manifest)
        if self.traffic() == {revision: ALL}:
            return revision  # a killed run came this far
        tasks = max(1, self._services()[LIVE]["desiredCount"])
        self._start(CANDIDATE, revision, f"--desired-count={tasks}")
        return revision

    def candidate(self, revision: str) -> Endpoint:
        """Return the public address, with the header that leads to the candidate."""
        services = self._services()
        if services[LIVE]["taskDefinition"] == revision:
            return self.public()
        running = services[CANDIDATE]
        if running["taskDefinition"] != revision or not running["desiredCount"]:
            raise CloudError(f"{revision} is not what the candidate service runs")
        return Endpoint(self.url, HEADERS)

    def public(self) -> Endpoint:
        """Return the load balancer's address."""
        return Endpoint(self.url)

    def shift(self, revision: str, percent: int, stable: str) -> None:
        """Weigh the two services; each must run what the split is between."""
        services = self._services()
        if services[LIVE]["taskDefinition"] == revision:
            return  # a killed run was past the canary
        found = (services[CANDIDATE]["taskDefinition"], services[LIVE]["taskDefinition"])
        if found != (revision, stable):
            raise CloudError(f"the services run {found}, not {(revision, stable)}")
        self._split(services, percent)

    def promote(self, revision: str) -> None:
        """Roll the live service over, then send it everything and stop the candidate."""
        self._start(LIVE, revision)
        self._split(self._services(), 0)
        self._update(CANDIDATE, "--desired-count=0")

    def withdraw(self, revision: str | None, stable: str | None) -> None:
        """Send everything to the live service, on `stable`, and stop the candidate."""
        del revision  # only one candidate exists
        self._split(self._services(), 0)
        self._update(CANDIDATE, "--desired-count=0")
        if stable is not None and self._services()[LIVE]["taskDefinition"] != stable:
            self._start(LIVE, stable)

    def observe(self, revision: str, since: datetime) -> Observation:
        """Add up the load balancer's minutes; the last one or two are not there yet.

        A candidate that takes a request and does not answer it is not counted: what the load
        balancer answers then is a count of both services.
        """
        del revision  # only one candidate exists
        group = _target_group(self._services()[CANDIDATE])
        requests, *errors = (self._sum(metric, group, since) for metric in COUNTED)
        return Observation(requests, sum(errors))

    def create(self, name: str, text: str) -> bool:
        """Write on the condition that there is no such object."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            words = self._aws(
                "s3api", "put-object", f"--bucket={self.bucket}", f"--key={self._key(name)}",
                f"--body={file.name}", "--if-none-match=*",
            )  # fmt: skip
            done = attempt(words)
        if done.returncode and not _failed_with(done.stderr, *TAKEN):
            raise failure(words, done)
        return done.returncode == 0

    def read(self, name: str) -> str | None:
        """Print the object."""
        words = self._aws("s3", "cp", self._object(name), "-")
        done = attempt(words)
        if done.returncode and not _failed_with(done.stderr, *ABSENT):
            raise failure(words, done)
        return None if done.returncode else done.stdout

    def write(self, name: str, text: str) -> None:
        """Replace the object; the bucket keeps what was there as an older version."""
        run(self._aws("s3", "cp", "-", self._object(name)), text)

    def delete(self, name: str) -> None:
        """Remove the object; S3 does not mind if there is none."""
        run(self._aws("s3", "rm", self._object(name)))

    def _key(self, name: str) -> str:
        return f"{self.environment}/{name}"

    def _object(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._key(name)}"

    def _register(self, manifest: Manifest) -> str:
        """Return the release's task definition: Terraform's newest template, with the image.

        Which one it is is kept in the bucket, so that a second call does not make a second one.
        """
        known = self.read(f"revisions/{manifest.release}")
        if known:
            return known
        template = run_json(
            self._aws(
                "ecs", "describe-task-definition", f"--task-definition={self.cluster}-template"
            )
        )["taskDefinition"]
        definition = {key: value for key, value in template.items() if key not in DESCRIPTIVE}
        definition["family"] = self.cluster
        definition["containerDefinitions"][0]["image"] = manifest.image
        words = self._aws("ecs", "register-task-definition", "--cli-input-json")
        made = run_json([*words, json.dumps(definition)])  # as `--cli-input-json=` it is not seen
        revision = str(made["taskDefinition"]["taskDefinitionArn"])
        self.write(f"revisions/{manifest.release}", revision)
        return revision

    def _start(self, name: str, revision: str, *options: str) -> None:
        """Deploy a revision, anew if the deployment before failed or was stopped.

        Of the same revision ECS would make no other deployment, and that one's state is old.
        """
        service = self._services()[name]
        ended = not service["desiredCount"] or _newest(service)["rolloutState"] == "FAILED"
        anew = ["--force-new-deployment"] if ended else []
        self._update(name, f"--task-definition={revision}", *options, *anew)
        self._settle(name, revision)

    def _settle(self, name: str, revision: str) -> None:
        """Wait until a service runs the revision, or ECS has decided otherwise."""
        deadline = time.monotonic() + DEPLOYMENT_SECONDS
        while time.monotonic() < deadline:
            newest = _newest(self._services()[name])
            state, why = newest["rolloutState"], newest.get("rolloutStateReason", "")
            if newest["taskDefinition"] != revision:
                raise CloudError(f"ECS went back to {newest['taskDefinition']}: {why}")
            if state == "FAILED":
                raise CloudError(f"{name}: the deployment of {revision} failed: {why}")
            if state == "COMPLETED":
                return
            time.sleep(PAUSE_SECONDS)
        raise CloudError(f"{name}: {revision} was not deployed in {DEPLOYMENT_SECONDS:.0f} s")

    def _update(self, name: str, *options: str) -> None:
        run(self._aws("ecs", "update-service", f"--cluster={self.cluster}", f"--service={name}",
                      *options))  # fmt: skip

    def _services(self) -> dict[str, Any]:
        found = run_json(
            [*self._aws("ecs", "describe-services", f"--cluster={self.cluster}", "--services"),
             LIVE, CANDIDATE]
        )  # fmt: skip
        services = {each["serviceName"]: each for each in found["services"]}
        if set(services) != {LIVE, CANDIDATE}:
            raise CloudError(f"the cluster {self.cluster} has no services {LIVE} and {CANDIDATE}")
        return services

    def _weights(self) -> dict[str, int]:
        found = run_json(
            self._aws("elbv2", "describe-listeners", f"--listener-arns={self.listener}")
        )
        groups = found["Listeners"][0]["DefaultActions"][0]["ForwardConfig"]["TargetGroups"]
        return {group["TargetGroupArn"]: group["Weight"] for group in groups}

    def _split(self, services: dict[str, Any], percent: int) -> None:
        groups = [
            {"TargetGroupArn": _target_group(services[name]), "Weight": weight}
            for name, weight in ((LIVE, ALL - percent), (CANDIDATE, percent))
        ]
        action = [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}]
        run(
            self._aws(
                "elbv2", "modify-listener", f"--listener-arn={self.listener}",
                f"--default-actions={json.dumps(action)}",
            )
        )  # fmt: skip

    def _sum(self, metric: str, group: str, since: datetime) -> int:
        balancer = self.listener.partition(":listener/")[2].rpartition("/")[0]
        found = run_json(
            [*self._aws(
                "cloudwatch", "get-metric-statistics", "--namespace=AWS/ApplicationELB",
                f"--metric-name={metric}", "--statistics=Sum", "--period=60",
                f"--start-time={since.isoformat()}", f"--end-time={datetime.now(UTC).isoformat()}",
                "--dimensions"),
             f"Name=LoadBalancer,Value={balancer}",
             f"Name=TargetGroup,Value={group.rpartition(':')[2]}"]
        )  # fmt: skip
        return sum(round(point["Sum"]) for point in found["Datapoints"])

    def _aws(self, *words: str) -> list[str]:
        service, operation, *rest = words
        return ["aws", service, operation, f"--region={self.region}", "--output=json", *rest]


ABSENT = ("404", "NoSuchKey")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")


def _failed_with(said: str, *codes: str) -> bool:
    """Look for aws's own sentence, whole: names may hold a code's word."""
    return any(f"An error occurred ({code})" in said for code in codes)


def _newest(service: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in service["deployments"] if each["status"] == "PRIMARY"
    )
    return found


def _target_group(service: dict[str, Any]) -> str:
    return str(service["loadBalancers"][0]["targetGroupArn"])


def open_cloud(environment: str) -> Ecs:
    """Return the environment's services, from the variables that Terraform prints."""
    return Ecs(
        environment,
        region=variable("AWS_REGION"),
        cluster=of_environment("ECS_CLUSTER", environment),
        listener=variable("ECS_LISTENER"),
        url=variable("SERVICE_URL"),
        bucket=variable("RELEASE_BUCKET"),
    )
