"""The tracking server has a state, an image and an upgrade of its own, on AWS."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ...operate import tracking_server
from ...release.interface import CloudError
from .conftest import GITHUB, Commands

REPOSITORY = "111.dkr.ecr.eu-west-1.amazonaws.com/example-mlflow"
INIT = (
    "terraform init -reconfigure -input=false "
    "-backend-config=bucket=example-terraform-state-111 "
    "-backend-config=key=example-mlflow/terraform.tfstate -backend-config=region=eu-west-1"
)
GIVEN = "-var=region=eu-west-1 -var=name=example"
UPGRADE = {
    "cluster": "example-mlflow", "task_definition": "example-mlflow", "subnets": ["subnet-1"],
    "security_group": "sg-1", "command": ["mlflow", "db", "upgrade", "postgresql+psycopg://"],
}  # fmt: skip


class Aws(Commands):
    """Plays aws and Docker as well."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.printed: dict[str, Any] = {
            "image_repository": {"value": REPOSITORY},
            "upgrade": {"value": UPGRADE},
        }
        self.tasks = [{"taskArn": "task-1"}]
        self.exit_code = 0

    def reads(self, words: Sequence[str]) -> bool:
        return words[0] in {"aws", "gh", "terraform"} or "inspect" in words

    def answer(self, line: str) -> str:
        self.asked.append(line)
        if "get-caller-identity" in line:
            return "111\n"
        ended = {"containers": [{"exitCode": self.exit_code}], "stoppedReason": "it ended"}
        answers: dict[str, Any] = {
            **GITHUB,
            "terraform": self.printed,
            "docker image inspect": ["other@sha256:1", f"{REPOSITORY}@sha256:2"],
            "run-task": {"tasks": self.tasks, "failures": [{"reason": "RESOURCE:MEMORY"}]},
            "wait tasks-stopped": None,
            "describe-tasks": {"tasks": [ended]},
        }
        return json.dumps(next(answer for start, answer in answers.items() if start in line))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    fake = Aws()
    fake.play(monkeypatch, tmp_path)
    return fake


def test_server_has_a_state_beside_the_environments(aws: Aws) -> None:
    assert tracking_server.main(["plan"]) == 0
    assert tracking_server.main(["apply", "-destroy"]) == 0
    plan, apply = f"terraform plan {GIVEN} -lock=false", f"terraform apply {GIVEN} -destroy"
    assert aws.made == [INIT, plan, INIT, apply]


def test_image_is_the_one_of_compose_with_what_the_cloud_adds(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_VERSION", "3.99.0")
    assert tracking_server.main(["image"]) == 0
    built = next(line for line in aws.made if line.startswith("docker build"))
    assert f"--tag {REPOSITORY}:3.99.0-" in built
    assert '"mlflow[auth]==3.99.0"' in built
    assert built.endswith(tracking_server.recipe("3.99.0").strip())
    assert "${" not in built
    assert f"docker push --quiet {REPOSITORY}:3.99.0-" in aws.made[-1]
    assert capsys.readouterr().out == f'image = "{REPOSITORY}@sha256:2"\n'


def test_image_needs_a_registry(aws: Aws) -> None:
    aws.printed = {}
    with pytest.raises(CloudError, match="make mlflow-apply"):
        tracking_server.main(["image"])


def test_upgrade_changes_the_definition_alone_and_runs_it(aws: Aws) -> None:
    assert tracking_server.main(["upgrade"]) == 0
    assert aws.made == [INIT, f"terraform apply {GIVEN} -target=aws_ecs_task_definition.server"]
    started, waited, looked = aws.asked[-3:]
    assert '"command": ["mlflow", "db", "upgrade", "postgresql+psycopg://"]' in started
    assert "--task-definition=example-mlflow" in started
    assert '"securityGroups": ["sg-1"]' in started
    assert waited.startswith("aws ecs wait tasks-stopped --region=eu-west-1")
    assert waited.endswith("--tasks=task-1")
    assert "describe-tasks" in looked


def test_upgrade_that_fails_says_where_to_look(aws: Aws) -> None:
    aws.exit_code = 1
    with pytest.raises(CloudError, match=r"ended with 1: it ended; the log /ecs/example-mlflow"):
        tracking_server.main(["upgrade"])
    aws.tasks = []
    with pytest.raises(CloudError, match=r"did not start: .*RESOURCE:MEMORY"):
        tracking_server.main(["upgrade"])
