"""Plays aws: answers its command lines as AWS would, and requests as the service would."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...release.cloud import CANDIDATE, LIVE
from ...release.interface import CloudError
from .conftest import release

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
