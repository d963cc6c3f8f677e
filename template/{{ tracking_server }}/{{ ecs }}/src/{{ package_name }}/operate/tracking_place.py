"""AWS's side of the tracking server: where its state is, and the task that upgrades it."""

import json
from typing import Any

from ..release.command import run, run_json
from ..release.interface import CloudError
from . import terraform
from .place import Place

UPGRADES = "aws_ecs_task_definition.server"  # what takes a new image before the server does


def given(place: Place) -> list[str]:
    """Return the variables that nobody writes down."""
    return [f"region={place.region}", f"name={terraform.name()}"]


def upgrade(place: Place, what: dict[str, Any]) -> None:
    """Run the server's newest task definition with another command, and wait for its end.

    Raises
    ------
    CloudError
        It did not start, or failed.
    """
    network = {
        "subnets": what["subnets"],
        "securityGroups": [what["security_group"]],
        "assignPublicIp": "ENABLED",
    }
    override = {"containerOverrides": [{"name": "server", "command": what["command"]}]}
    started = run_json(
        [*_ecs(place, what["cluster"], "run-task"), "--launch-type=FARGATE",
         f"--task-definition={what['task_definition']}", f"--overrides={json.dumps(override)}",
         f"--network-configuration={json.dumps({'awsvpcConfiguration': network})}"]
    )  # fmt: skip
    if not started["tasks"]:
        raise CloudError(f"the upgrade did not start: {json.dumps(started['failures'])}")
    task = f"--tasks={started['tasks'][0]['taskArn']}"
    run([*_ecs(place, what["cluster"], "wait", "tasks-stopped"), task])
    ended = run_json([*_ecs(place, what["cluster"], "describe-tasks"), task])["tasks"][0]
    code = ended["containers"][0].get("exitCode")
    if code != 0:
        why = ended.get("stoppedReason", "")
        raise CloudError(
            f"the upgrade ended with {code}: {why}; the log /ecs/{what['cluster']} says more"
        )


def _ecs(place: Place, cluster: str, *operation: str) -> list[str]:
    where = [f"--region={place.region}", f"--cluster={cluster}"]
    return ["aws", "ecs", *operation, *where, "--output=json"]
