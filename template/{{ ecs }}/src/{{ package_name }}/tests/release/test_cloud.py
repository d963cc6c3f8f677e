"""The same contract on ECS: aws's words, and what they leave behind."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from ...errors import ConfigError, ConflictError
from ...release import cloud as adapter
from ...release import command
from ...release.cloud import CANDIDATE, HEADERS, LIVE, Ecs, open_cloud
from ...release.interface import CloudError, RejectedError
from ...release.program import Program
from .conftest import PLAN, Killed, answering, expect_errors, release

ARN = "arn:aws:ecs:eu-west-1:1:task-definition"
PLACEHOLDER = f"{ARN}/app-placeholder:1"
LISTENER = "arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/app/0a/0b"
GROUPS = {name: f"arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/app-{name}/1"
          for name in (LIVE, CANDIDATE)}  # fmt: skip
REPOSITORY = "1.dkr.ecr.eu-west-1.amazonaws.com/app"
TEMPLATE = {
    "taskDefinitionArn": f"{ARN}/app-template:3",
    "family": "app-template",
    "revision": 3,
    "status": "ACTIVE",
    "cpu": "512",
    "containerDefinitions": [{"name": "app", "image": "placeholder"}],
}


@dataclass
class Aws:
    """Answers aws's command lines as AWS would, and requests as the service behind them would."""

    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=lambda: {GROUPS[LIVE]: 100})
    definitions: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # images that answer 500
    dying: set[str] = field(default_factory=set)  # images that no live task starts from
    unfit: set[str] = field(default_factory=set)  # images that no candidate task starts from
    errors: float = 0
    unreachable: float = 0
    lines: list[str] = field(default_factory=list)
    spoil: dict[str, Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.deploy(LIVE, PLACEHOLDER, 2)
        self.deploy(CANDIDATE, PLACEHOLDER, 0)

    def __call__(
        self, words: Sequence[str], text: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        line = " ".join(words)
        self.lines.append(line)
        for start, action in list(self.spoil.items()):
            if start in line:
                action()
        options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
        rest = [word for word in words[3:] if not word.startswith("--")]
        answer = self.answer(f"{words[1]} {words[2]}", options, rest, text)
        if isinstance(answer, CloudError):
            return subprocess.CompletedProcess(list(words), 254, "", str(answer))
        said = answer if isinstance(answer, str) else json.dumps(answer)
        return subprocess.CompletedProcess(list(words), 0, said, "")

    def answer(
        self, operation: str, options: dict[str, str], rest: list[str], text: str | None
    ) -> Any:
        groups = [{"TargetGroupArn": arn, "Weight": n} for arn, n in self.weights.items()]
        forward = [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}]
        answers: dict[str, Callable[[], Any]] = {
            "ecr describe-images": lambda: self.image(options["image-ids"].partition("=")[2]),
            "ecs describe-services": lambda: {"services": [self.services[name] for name in rest]},
            "ecs update-service": lambda: self.update(options),
            "ecs describe-task-definition": lambda: {"taskDefinition": TEMPLATE},
            "ecs register-task-definition": lambda: self.register(rest[0]),
            "elbv2 describe-listeners": lambda: {"Listeners": [{"DefaultActions": forward}]},
            "elbv2 modify-listener": lambda: self.weigh(options["default-actions"]),
            "cloudwatch get-metric-statistics": lambda: self.count(options["metric-name"]),
            "s3api put-object": lambda: self.create(options),
            "s3 cp": lambda: self.copy(rest, text),
            "s3 rm": lambda: self.objects.pop(rest[0], None) and "",
        }
        return answers[operation]()

    def image(self, tag: str) -> Any:
        if tag not in self.images:
            return CloudError("An error occurred (ImageNotFoundException) when calling it")
        return {"imageDetails": [{"imageDigest": self.images[tag]}]}

    def register(self, text: str) -> Any:
        given = json.loads(text)
        assert set(given) == {"family", "cpu", "containerDefinitions"}
        arn = f"{ARN}/{given['family']}:{len(self.definitions) + 1}"
        self.definitions[arn] = given["containerDefinitions"][0]["image"]
        return {"taskDefinition": {"taskDefinitionArn": arn}}

    def deploy(self, name: str, definition: str, tasks: int, why: str = "done") -> None:
        primary = {"status": "PRIMARY", "taskDefinition": definition,
                   "rolloutState": "COMPLETED", "rolloutStateReason": why}  # fmt: skip
        self.services[name] = {
            "serviceName": name, "taskDefinition": definition, "desiredCount": tasks,
            "deployments": [primary], "loadBalancers": [{"targetGroupArn": GROUPS[name]}],
        }  # fmt: skip

    def update(self, options: dict[str, str]) -> str:
        name, service = options["service"], self.services[options["service"]]
        before = service["taskDefinition"]
        wanted = options.get("task-definition", before)
        tasks = int(options.get("desired-count", service["desiredCount"]))
        if wanted == before and "force-new-deployment" not in options:
            service["desiredCount"] = tasks  # the deployment stays as it is
            return "{}"
        dies = name == LIVE and self.definitions.get(wanted) in self.dying
        self.deploy(name, before if dies else wanted, tasks, "circuit breaker" if dies else "done")
        if name == CANDIDATE and self.definitions.get(wanted) in self.unfit:
            self.services[name]["deployments"][0]["rolloutState"] = "FAILED"
        return "{}"

    def weigh(self, text: str) -> str:
        groups = json.loads(text)[0]["ForwardConfig"]["TargetGroups"]
        self.weights = {group["TargetGroupArn"]: group["Weight"] for group in groups}
        return "{}"

    def count(self, metric: str) -> Any:
        counts = {"RequestCount": 100.0, "HTTPCode_Target_5XX_Count": self.errors,
                  "TargetConnectionErrorCount": self.unreachable}  # fmt: skip
        return {"Datapoints": [{"Sum": counts[metric]}]}

    def create(self, options: dict[str, str]) -> Any:
        name = f"s3://{options['bucket']}/{options['key']}"
        if name in self.objects:
            return CloudError("An error occurred (PreconditionFailed) when calling PutObject")
        self.objects[name] = Path(options["body"]).read_text()
        return "{}"

    def copy(self, rest: list[str], text: str | None) -> Any:
        if rest[0] == "-":
            self.objects[rest[1]] = text or ""
            return ""
        if rest[0] not in self.objects:
            return CloudError("fatal error: An error occurred (404) when calling HeadObject")
        return self.objects[rest[0]]

    def served(self, candidate: bool, path: str, body: bytes) -> tuple[int, object]:
        """Answer as the tasks of one service would."""
        service = self.services[CANDIDATE if candidate else LIVE]
        image = self.definitions.get(service["taskDefinition"], "")
        if image in self.broken or not service["desiredCount"]:
            return 503, {"detail": "broken"}
        if path.endswith("/predict"):
            return 200, {"predictions": [1.5] * len(json.loads(body)["instances"])}
        number = next((n for n in range(1, 5) if release(n).image == image), 1)
        model = release(number).model
        return 200, {"model_name": model.name, "model_version": model.version,
                     "bundle_sha256": model.bundle_sha256}  # fmt: skip


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    fake = Aws()
    monkeypatch.setattr(command, "attempt", fake)
    monkeypatch.setattr(adapter, "attempt", fake)
    return fake


@pytest.fixture
def run(aws: Aws) -> Iterator[Program]:
    """The program over ECS, with a load balancer that knows the candidate's header."""

    def answer(path: str, headers: Message, body: bytes) -> tuple[int, object]:
        candidate = all(headers.get(name) == value for name, value in HEADERS.items())
        return aws.served(candidate, path, body)

    with answering(answer) as url:
        ecs = Ecs("production", "eu-west-1", "app", LISTENER, url, "bucket")
        yield Program(ecs, PLAN, report=lambda _line: None, wait=lambda _seconds: None)


def happened(aws: Aws) -> list[str]:
    lines = aws.objects["s3://bucket/production/journal.jsonl"].splitlines()
    return [json.loads(line)["what"] for line in lines]


def changes(aws: Aws) -> list[str]:
    """Return what was changed, in few words."""
    found = []
    for line in aws.lines:
        if " update-service " in line:
            found.append(line.partition("--cluster=app ")[2])
        if " modify-listener " in line:
            groups = json.loads(line.partition("--default-actions=")[2])[0]["ForwardConfig"]
            weights = {g["TargetGroupArn"]: g["Weight"] for g in groups["TargetGroups"]}
            found.append(f"candidate {weights[GROUPS[CANDIDATE]]} %")
    return found


def test_good_release_tests_the_candidate_then_rolls_the_live_service(
    aws: Aws, run: Program
) -> None:
    revision = run.release(release(1))
    started = f"--service=candidate --task-definition={revision}"
    assert changes(aws) == [
        f"{started} --desired-count=2 --force-new-deployment",
        "candidate 10 %",
        "candidate 50 %",
        f"--service=live --task-definition={revision}",
        "candidate 0 %",
        "--service=candidate --desired-count=0",
    ]
    assert run.cloud.traffic() == {revision: 100}
    assert aws.definitions == {revision: release(1).image}
    assert happened(aws) == ["staged", "canary", "canary", "promoted"]


def test_released_again_it_starts_nothing(aws: Aws, run: Program) -> None:
    revision = run.release(release(1))
    before = len(changes(aws))
    assert run.release(release(1)) == revision
    assert len(changes(aws)) == before
    assert len(aws.definitions) == 1


def test_failed_smoke_leaves_traffic_and_stops_the_candidate(aws: Aws, run: Program) -> None:
    aws.broken.add(release(1).image)
    with pytest.raises(RejectedError, match="answers 503"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0
    assert happened(aws) == ["staged", "rejected"]


def test_errors_of_the_canary_are_counted_by_the_load_balancer(aws: Aws, run: Program) -> None:
    aws.errors = 10
    with pytest.raises(RejectedError, match="10 of 100 requests failed at 10 %"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    line = next(line for line in aws.lines if "get-metric-statistics" in line)
    assert "Name=LoadBalancer,Value=app/app/0a " in line
    assert line.endswith("Name=TargetGroup,Value=targetgroup/app-candidate/1")


def test_candidate_that_takes_no_connection_is_an_error(aws: Aws, run: Program) -> None:
    aws.errors, aws.unreachable = 1, 6
    with pytest.raises(RejectedError, match="7 of 100 requests failed at 10 %"):
        run.release(release(1))


def test_circuit_breaker_is_no_success(aws: Aws, run: Program) -> None:
    aws.dying.add(release(1).image)
    with pytest.raises(RejectedError, match=r"ECS went back to .*placeholder:1: circuit br"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert happened(aws)[-1] == "rejected"


def test_failed_start_is_no_candidate(aws: Aws, run: Program) -> None:
    aws.unfit.add(release(1).image)
    with pytest.raises(RejectedError, match=r"candidate: the deployment of .* failed"):
        run.release(release(1))
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0
    assert happened(aws) == ["rejected"]


def test_failed_start_can_be_tried_again(aws: Aws, run: Program) -> None:
    aws.unfit.add(release(1).image)
    with pytest.raises(RejectedError, match="did not start"):
        run.release(release(1))
    aws.unfit.clear()
    revision = run.release(release(1))
    assert run.cloud.traffic() == {revision: 100}
    assert len(aws.definitions) == 1


def test_candidate_that_never_is_healthy_is_stopped(
    aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "DEPLOYMENT_SECONDS", 0)
    with pytest.raises(RejectedError, match=r"candidate: .* was not deployed in 0 s"):
        run.release(release(1))
    assert aws.services[CANDIDATE]["desiredCount"] == 0


def test_release_cancelled_while_it_starts_is_stopped(aws: Aws, run: Program) -> None:
    def cancel() -> None:
        if aws.services[CANDIDATE]["desiredCount"]:
            aws.spoil = {}
            raise SystemExit

    aws.spoil = {"describe-services": cancel}
    with pytest.raises(SystemExit):
        run.release(release(1))
    assert aws.services[CANDIDATE]["desiredCount"] == 0


@pytest.mark.parametrize(
    "line",
    [
        "register-task-definition", "service=candidate --task", '"Weight": 10',
        "get-metric", "service=live", '"Weight": 0', "desired-count=0", "s3 rm",
    ],
)  # fmt: skip
def test_killed_release_is_taken_up(
    line: str, aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        aws.spoil = {"aws": kill}
        raise Killed

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    aws.spoil = {line: kill}
    with pytest.raises(Killed):
        run.release(release(1))
    aws.spoil = {}
    assert set(run.cloud.traffic()) <= {PLACEHOLDER, *aws.definitions}
    revision = run.release(release(1))
    assert run.cloud.traffic() == {revision: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0
    assert len(aws.definitions) == 1


def test_killed_release_can_be_put_back(
    aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        aws.spoil = {"aws": kill}
        raise Killed

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    aws.spoil = {'"Weight": 0': kill}  # the live service has just been rolled over
    with pytest.raises(Killed):
        run.release(release(1))
    aws.spoil = {}
    assert PLACEHOLDER in (run.unlock() or "")
    assert run.cloud.traffic() == {PLACEHOLDER: 100}
    assert aws.services[CANDIDATE]["desiredCount"] == 0


def test_second_release_is_refused(aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def second() -> None:
        aws.spoil = {}
        monkeypatch.setenv("GITHUB_RUN_ID", "8")
        with pytest.raises(ConflictError) as error:
            run.release(release(2))
        refused.append(str(error.value))

    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    aws.spoil = {"get-metric": second}
    revision = run.release(release(1))
    assert "CI run 7" in refused[0]
    assert run.cloud.traffic() == {revision: 100}


def test_rollback_returns_to_the_earlier_revision(aws: Aws, run: Program) -> None:
    first = run.release(release(1))
    run.release(release(2))
    assert run.rollback("wrong") == first
    assert run.cloud.traffic() == {first: 100}
    assert happened(aws)[-2:] == ["rolled back", "promoted"]


def test_image_is_found_by_its_tag(aws: Aws, run: Program) -> None:
    aws.images["here"] = "sha256:" + "a" * 64
    assert run.cloud.image_digest(REPOSITORY, "here") == "sha256:" + "a" * 64
    assert run.cloud.image_digest(REPOSITORY, "her") is None
    assert "--registry-id=1 --repository-name=app --image-ids=imageTag=her" in aws.lines[-1]


def test_error_is_not_taken_for_absence(
    aws: Aws, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = CloudError("An error occurred (AccessDenied): you are not authorized")
    monkeypatch.setattr(aws, "answer", lambda *_: denied)
    expect_errors(run.cloud, "AccessDenied")


def test_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("AWS_REGION", "ECS_CLUSTER", "ECS_LISTENER", "SERVICE_URL", "RELEASE_BUCKET")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="AWS_REGION is not set"):
        open_cloud("staging")
    for name in names:
        monkeypatch.setenv(name, name.lower())
    monkeypatch.setenv("ECS_CLUSTER", "app-staging")
    assert open_cloud("staging").bucket == "release_bucket"
    with pytest.raises(ConfigError, match="ECS_CLUSTER is app-staging"):
        open_cloud("production")
