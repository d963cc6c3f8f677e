"""moto's AWS in a process of its own, with what it lacks of ECS deployments.

    python tests/aws_server.py PORT

moto keeps a service's new task definition and never starts or judges it. Here a deployment completes
at once, or fails if its image is one of those whose name holds `broken`; a circuit breaker that rolls
back then puts the task definition from before back, as ECS does.
"""

import copy
import itertools
import json
import sys
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.budgets.responses import BudgetsResponse
from moto.core.utils import utcnow
from moto.ecs.models import EC2ContainerServiceBackend, Service
from moto.server import main

BROKEN = "broken"  # an image with this in its name never becomes healthy
numbers = itertools.count(1)
tags: dict[str, dict[str, str]] = {}
plain_update = EC2ContainerServiceBackend.update_service


def deployment(service: Service, definition: str, state: str, reason: str) -> dict[str, Any]:
    now = utcnow()
    return {
        "id": f"ecs-svc/{next(numbers):019d}",
        "status": "PRIMARY",
        "taskDefinition": definition,
        "desiredCount": service.desired_count,
        "pendingCount": 0,
        "runningCount": 0 if state == "FAILED" else service.desired_count,
        "failedTasks": 0,
        "createdAt": now,
        "updatedAt": now,
        "rolloutState": state,
        "rolloutStateReason": reason,
        "launchType": "FARGATE",
    }


def update_service(self: EC2ContainerServiceBackend, properties: dict[str, Any]) -> Service:
    """Update, then end the deployment one way or the other."""
    cluster = properties["cluster"].split("/")[-1]
    before = self._get_service(cluster, properties["service"].split("/")[-1]).task_definition
    service = plain_update(self, properties)
    definition = self.describe_task_definition(service.task_definition)
    service.task_definition = definition.arn
    broken = any(BROKEN in each["image"] for each in definition.container_definitions)
    if broken and service.desired_count:
        failed = deployment(service, definition.arn, "FAILED", "tasks failed to start.")
        answer = copy.copy(service)
        answer.deployments = [failed]
        service.deployments = [failed]
        if service.deployment_configuration["deploymentCircuitBreaker"]["rollback"]:
            service.task_definition = self.describe_task_definition(before).arn
            service.deployments = [
                deployment(
                    service, service.task_definition, "COMPLETED",
                    "ECS deployment circuit breaker: rolled back.",
                )
            ]  # fmt: skip
        return answer
    service.deployments = [deployment(service, definition.arn, "COMPLETED", "completed.")]
    service.running_count, service.pending_count = service.desired_count, 0
    return service


def body(response: ApplicationAutoScalingResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.body or "{}")
    return found


def list_tags(self: ApplicationAutoScalingResponse) -> str:
    return json.dumps({"Tags": tags.get(body(self)["ResourceARN"], {})})


def tag(self: ApplicationAutoScalingResponse) -> str:
    tags.setdefault(body(self)["ResourceARN"], {}).update(body(self)["Tags"])
    return "{}"


def subscribers(self: BudgetsResponse) -> str:
    budget = self.backend.budgets[self._get_param("AccountId")][self._get_param("BudgetName")]
    wanted = self._get_param("Notification")
    found = next(each for each in budget.notifications if each.details == wanted)
    return json.dumps({"Subscribers": found.subscribers})


def extend_moto() -> None:
    BudgetsResponse.describe_subscribers_for_notification = subscribers  # type: ignore[attr-defined]
    EC2ContainerServiceBackend.update_service = update_service  # type: ignore[method-assign]
    ApplicationAutoScalingResponse.list_tags_for_resource = list_tags  # type: ignore[attr-defined]
    ApplicationAutoScalingResponse.tag_resource = tag  # type: ignore[attr-defined]


if __name__ == "__main__":
    extend_moto()
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
